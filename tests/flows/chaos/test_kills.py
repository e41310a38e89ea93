"""Runs that die at every call, and whole runs with kill -9: nothing lost, nothing twice.

`make test` takes a sample; `make chaos` sets CHAOS=all, takes every call, and prints the figures.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from flows.records import Decision
from mnist_core.spec import DIGITS_MINI
from tests.flows.chaos.killable import KILLED, Kill
from tests.flows.chaos.trials import ALL, OWN, STORES, TONIGHT, damage, parameters

SAMPLE = {"folder": 2, "moto": 0, "seaweedfs": 0}
"""How many calls of a run on a store `make test` takes, beside the one that submits."""
ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.usefixtures("prefect_api")


@pytest.mark.parametrize("trials", parameters(STORES, ["folder"]), indirect=True)
def test_a_night_killed_at_a_call_is_finished_by_the_same_command(trials):
    """Just before and just after each call of the store and the competition: the next run ends the night.

    One submission by content, no version lost, one list of champions, and nothing half-written to be seen.
    """
    complete = trials.new(TONIGHT).run(TONIGHT)
    assert complete.code == 0, complete
    calls = complete.calls
    assert {"put leases", "POST CreateSubmission", "PUT upload", "put champions", "put nights"} <= set(calls)

    by_name: Counter[str] = Counter()
    for kill in _kills(calls, SAMPLE[trials.kind]):
        trial = trials.new(TONIGHT)
        name = f"{kill.when} {calls[kill.call]}"
        assert trial.run(TONIGHT, kill).code == KILLED, name
        trial.check(TONIGHT)
        again = trial.run(TONIGHT)
        assert (again.code, again.decision) == (0, Decision.PROMOTED), (name, again)
        trial.check(TONIGHT)
        assert trial.submitted(TONIGHT) == [1], name
        assert len(trial.registry.champions()) == 2, name
        by_name[name] += 1

    print(f"\n{trials.kind}: {by_name.total()} kills at {len(calls)} calls, {len(by_name)} by name")
    for name, count in sorted(by_name.items()) if ALL else ():
        print(f"  {count:3d} {name}")


def _kills(calls: list[str], sample: int) -> list[Kill]:
    """Return every kill, or a number of them and those of the request that submits."""
    everything = [Kill(number, when) for number in range(len(calls)) for when in ("before", "after")]
    if ALL:
        return everything
    post = calls.index("POST CreateSubmission")
    some = everything[7 :: len(everything) // sample] if sample else []
    return [*some, Kill(post, "before"), Kill(post, "after")]


@pytest.mark.parametrize("competition", parameters([DIGITS_MINI.name, OWN], [DIGITS_MINI.name]))
def test_whole_nights_killed_at_random_moments_end_well(job, eight_by_eight, prefect_api, competition):
    """`python -m flows nightly`, training included, is killed with -9 at any moment and run again."""
    started = job(daily_limit=1000, **({"spec": eight_by_eight} if competition == OWN else {}))
    random_moment = random.Random(20261125)
    environment = os.environ | {
        "MNIST_EPOCHS": "16",
        "PREFECT_API_URL": prefect_api,
        "PYTHONPATH": str(ROOT),
    }
    length_s, killed_after_s = 15.0, []
    nights = [f"2026-10-{number + 1:02d}" for number in range(20 if ALL else 1)]

    for night in nights:
        killed = _start_command(night, environment)
        killed_after_s.append(round(random_moment.uniform(0.2, length_s), 1))
        try:
            killed.communicate(timeout=killed_after_s[-1])
        except subprocess.TimeoutExpired:
            os.killpg(killed.pid, signal.SIGKILL)
            killed.communicate()
        assert damage(started.registry.store) == []
        began = time.monotonic()
        again = _start_command(night, environment)
        _, log = again.communicate(timeout=250)  # a dead run's lease lasts three minutes
        assert again.returncode == 0, log
        length_s = max(length_s, time.monotonic() - began)

    registry = started.registry
    assert damage(registry.store) == []
    ended = registry.nights()
    assert [entry.run.night for entry in ended] == nights
    assert {entry.decision for entry in ended} <= {Decision.PROMOTED, Decision.REJECTED}
    tokens = Counter(entry["description"].split()[0] for entry in started.server.submissions())
    assert set(tokens.values()) == {1}
    assert len(tokens) == sum(entry.decision is Decision.PROMOTED for entry in ended)
    print(
        f"\n{len(nights)} whole nights of {length_s:.0f} s, killed after {killed_after_s} s: "
        f"{len(tokens)} submissions"
    )


def _start_command(night: str, environment: dict[str, str]) -> "subprocess.Popen[str]":
    """Start the command of a nightly run in a process group of its own."""
    command = [sys.executable, "-m", "flows", "nightly", "--night", night]
    return subprocess.Popen(
        command, env=environment, start_new_session=True, stderr=subprocess.PIPE, text=True
    )
