"""Every fault of the competition's server and of S3, in each call and in random sequences, under a night.

The night ends rightly, or fails with one clear error and ends rightly when it is run again. In `make test` a
sample; `make chaos` sets CHAOS=all and takes every fault in every call.
"""

from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.flows.test_chaos import ALL, TONIGHT, forks, ground, labels  # noqa: F401 - fixtures

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
PARAMS = {"rate-limit": {"seconds": 1}, "slow": {"seconds": 0.3}, "late-list": {"seconds": 0.5}}
"""Times that fit the hurry of `chaos.run_night`."""
PAIRS = [(name, call) for name in EVERYWHERE for call in CALLS] + [
    ("cut-download", "file"),
    ("failed-upload", "upload"),
]
SPOILS = [(name, None) for name in ("score-error", "score-never", "late-list", "low-score")]
SAMPLE = [
    ("lost-reply", "CreateSubmission"), ("reset", "CreateSubmission"), ("cut-download", "file"), *SPOILS,
]  # fmt: skip
LASTING = {"score-error": "ended as ERROR", "low-score": "alarm"}
"""What a submission's own fate is: the night fails with it each time, and nothing is posted again."""
EXAMPLES = settings(
    max_examples=50 if ALL else 2, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip


def test_no_fault_is_left_out(shared_practice):
    """Each fault that the practice server knows is played here; asked for another it names them."""
    answer = shared_practice.request("POST", "/practice/faults", json={"name": "another"}).json()
    known = answer["message"].partition("there are ")[2].split(", ")

    assert {name for name, _ in [*PAIRS, *SPOILS]} == set(known)


def twice(trial, lasting="", maybe=""):
    """Run the night under its faults, and again without; the first run's exit status.

    Args:
        lasting: what the second run's error says too.
        maybe: what it says where the submission was made while its fate was spoiled.
    """
    code, told = trial.run(TONIGHT, MNIST_TIMEOUT_S="0.7", MNIST_SCORE_WAIT_S="3")
    assert code in (0, 1), told
    assert code == 0 or ("\n" not in told["error"] and len(told["error"]) > 40), told
    trial.ground.job.server.clear_faults()  # what is left would strike the checks
    if trial.ground.s3:
        trial.ground.s3.faults.clear()
    trial.check(TONIGHT)
    again, told = trial.run(TONIGHT)
    if lasting or (maybe and maybe in told.get("error", "")):
        assert again == 1, told
        assert (lasting or maybe) in told["error"]
    else:
        assert (again, told.get("result", {}).get("decision")) == (0, "promoted"), told
    assert trial.submitted(TONIGHT) == [1]
    return code


@pytest.mark.parametrize("ground", ["folder"], indirect=True)
def test_a_fault_in_a_call(ground, monkeypatch, tmp_path):  # noqa: F811
    """A fault in one call, once and for as long as the night runs, and the next run without it."""
    codes: Counter[tuple[str, int]] = Counter()
    for count in (1, -1) if ALL else (1,):
        for name, call in ([*PAIRS, *SPOILS] if count == 1 else PAIRS) if ALL else SAMPLE:
            trial = ground.lay(TONIGHT)
            with monkeypatch.context() as patch:
                if call in ("DownloadDataFiles", "file"):
                    patch.setenv("MNIST_HOME", str(tmp_path / f"empty-{trial.number}"))
                target = {} if call is None else {"rpc": call}
                ground.job.server.fault(name, count=count, **target, **PARAMS.get(name, {}))
                codes[name, twice(trial, LASTING.get(name, ""))] += 1
    print(f"\n{sum(codes.values())} nights under a fault in a call; by fault and exit of the first run:")
    print(dict(codes))


@pytest.mark.parametrize("ground", ["folder"], indirect=True)
def test_faults_in_random_sequences(ground):  # noqa: F811
    """Several faults, each in any call and any number of times."""

    @EXAMPLES
    @given(
        st.lists(st.tuples(st.sampled_from(PAIRS), st.integers(1, 4)), min_size=1, max_size=6),
        st.sampled_from([None, *(name for name, _ in SPOILS)]),
    )
    def play(faults, fate):
        ground.job.server.clear_faults()  # of an example that failed
        for (name, call), count in faults:
            ground.job.server.fault(name, count=count, rpc=call, **PARAMS.get(name, {}))
        if fate:
            ground.job.server.fault(fate, **PARAMS.get(fate, {}))
        twice(ground.lay(TONIGHT), maybe=LASTING.get(fate, ""))

    play()


@pytest.mark.parametrize("ground", ["bucket"], indirect=True)
def test_faults_of_s3_in_random_sequences(ground):  # noqa: F811
    """Any of S3's faults in any request of the night, up to more times in a row than it is tried again."""
    strike = st.tuples(
        st.integers(0, 60),
        st.sampled_from(["409", "500", "503", "reset", "lost", "cut", "silent"]),
        st.integers(1, 7),
    )

    @EXAMPLES
    @given(st.lists(strike, min_size=1, max_size=4))
    def play(strikes):
        ground.s3.faults.clear()  # of an example that failed
        trial = ground.lay(TONIGHT)
        for pause, fault, times in strikes:
            ground.s3.faults += [""] * pause + [fault] * times
        twice(trial)

    play()
