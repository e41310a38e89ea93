"""Every fault of the competition's server and of S3 under a nightly run: in each call, in random sequences.

The run ends well, or fails with one clear error and ends well when it is repeated. `make test` takes a
sample; `make chaos` sets CHAOS=all and takes every fault in every call.
"""

from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.records import Decision
from tests.flows.chaos.trials import ALL, TONIGHT, Trial, parameters

pytestmark = pytest.mark.usefixtures("prefect_api")
CALLS = (
    "ListDataFiles", "DownloadDataFiles", "file", "ListSubmissions", "GetSubmissionLimits",
    "StartSubmissionUpload", "upload", "CreateSubmission", "GetSubmission",
)  # fmt: skip
EVERYWHERE = (
    "rate-limit",
    "server-error",
    "rules",
    "web-page",
    "reset",
    "silent",
    "slow",
    "lost-reply",
    "cut-json",
)
"""Faults that can strike each of the calls."""
PARAMS = {"rate-limit": {"seconds": 1}, "slow": {"seconds": 0.3}, "late-list": {"seconds": 0.5}}
"""Times that suit a hurried run."""
IN_A_CALL = [(name, call) for name in EVERYWHERE for call in CALLS] + [
    ("cut-download", "file"),
    ("failed-upload", "upload"),
    ("redirect", "CreateSubmission"),
    ("notebooks", "CreateSubmission"),
    ("forgotten", "GetSubmission"),
    ("same-page", "ListSubmissions"),
    ("new-status", "ListSubmissions"),
]
OF_A_SUBMISSION = [
    (name, None)
    for name in ("score-error", "score-never", "no-score", "cut-description", "late-list", "low-score")
]
SAMPLE = [
    ("lost-reply", "CreateSubmission"), ("reset", "CreateSubmission"), ("cut-download", "file"),
    ("late-list", None),
]  # fmt: skip
LASTING = {"score-error": "ended as ERROR", "low-score": "alarm"}
"""A submission that ended so stays so: the run fails with these words each time, and posts nothing again."""
EXAMPLES = settings(
    max_examples=50 if ALL else 2, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip


def test_no_fault_is_left_out(shared_practice):
    """Each fault that the practice server knows is played here; asked for another it names them."""
    answer = shared_practice.request("POST", "/practice/faults", json={"name": "another"}).json()
    known = answer["message"].partition("choose one of ")[2].split(", ")

    assert {name for name, _ in [*IN_A_CALL, *OF_A_SUBMISSION]} == set(known)


def run_twice(trial: Trial, lasting: str = "", possible: str = "") -> int:
    """Run a night under its faults, and again without them; return the first run's exit status.

    Args:
        lasting: what the second run's error says as well.
        possible: what it may say, if the submission was made while its fate was spoiled.
    """
    first = trial.run(TONIGHT, MNIST_TIMEOUT_S="0.7", MNIST_SCORE_WAIT_S="3")
    assert first.code in (0, 1), first
    assert first.code == 0 or ("\n" not in first.error and len(first.error) > 40), first
    trial.trials.job.server.clear_faults()  # those that are left would strike the checks
    if trial.trials.s3:
        trial.trials.s3.faults.clear()
    trial.check(TONIGHT)
    second = trial.run(TONIGHT)
    if lasting or (possible and possible in second.error):
        assert second.code == 1, second
        assert (lasting or possible) in second.error
    else:
        assert (second.code, second.decision) == (0, Decision.PROMOTED), second
    assert trial.submitted(TONIGHT) == [1]
    return first.code


@pytest.mark.parametrize("trials", ["folder"], indirect=True)
def test_a_fault_in_a_call(trials, monkeypatch, tmp_path):
    """A fault in one call, once and for as long as the run lasts, and the next run without it."""
    codes: Counter[tuple[str, int]] = Counter()
    for count in (1, -1) if ALL else (1,):
        everything = [*IN_A_CALL, *OF_A_SUBMISSION] if count == 1 else IN_A_CALL
        for name, call in everything if ALL else SAMPLE:
            trial = trials.new(TONIGHT)
            with monkeypatch.context() as patch:
                if call in ("DownloadDataFiles", "file"):
                    patch.setenv("MNIST_HOME", str(tmp_path / f"empty-{trial.number}"))
                target = {} if call is None else {"rpc": call}
                trials.job.server.fault(name, count=count, **target, **PARAMS.get(name, {}))
                codes[name, run_twice(trial, LASTING.get(name, ""))] += 1
    print(f"\n{codes.total()} runs under a fault in a call; by fault and exit status of the first run:")
    print(dict(codes))


@pytest.mark.parametrize("trials", ["folder"], indirect=True)
def test_faults_in_random_sequences(trials):
    """Several faults, each in any call and any number of times."""

    @EXAMPLES
    @given(
        st.lists(st.tuples(st.sampled_from(IN_A_CALL), st.integers(1, 4)), min_size=1, max_size=6),
        st.sampled_from([None, *(name for name, _ in OF_A_SUBMISSION)]),
    )
    def play(faults, fate):
        server = trials.job.server
        server.clear_faults()  # of an example that failed
        for (name, call), count in faults:
            server.fault(name, count=count, rpc=call, **PARAMS.get(name, {}))
        if fate:
            server.fault(fate, **PARAMS.get(fate, {}))
        run_twice(trials.new(TONIGHT), possible=LASTING.get(fate, ""))

    play()


@pytest.mark.parametrize("trials", parameters(["moto", "seaweedfs"], ["moto"]), indirect=True)
def test_faults_of_s3_in_random_sequences(trials):
    """Any of S3's faults in any request of the run, up to more times in a row than it is tried again."""
    strike = st.tuples(
        st.integers(0, 60),
        st.sampled_from(["409", "500", "503", "reset", "lost", "cut", "silent"]),
        st.integers(1, 7),
    )

    @EXAMPLES
    @given(st.lists(strike, min_size=1, max_size=4))
    def play(strikes):
        trials.s3.faults.clear()  # of an example that failed
        trial = trials.new(TONIGHT)
        for pause, fault, times in strikes:
            trials.s3.faults += [""] * pause + [fault] * times
        run_twice(trial)

    play()
