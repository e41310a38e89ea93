"""Runs that stand still, and machines whose time of day is wrong: nothing is posted twice.

`make chaos` sets CHAOS=all and takes more of them.
"""

import os
import signal
import time
from pathlib import Path

import pytest

from flows.records import Decision
from tests.flows.chaos.trials import ALL, TONIGHT, wait_for

pytestmark = [
    pytest.mark.usefixtures("prefect_api"),
    pytest.mark.parametrize("trials", ["folder"], indirect=True),
]
THREE_YEARS_S = 3 * 365 * 86400


def wait_until_stopped(process):
    """Wait until a process has stopped itself."""
    deadline = time.monotonic() + 60
    while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("clock_off_s", [THREE_YEARS_S, -THREE_YEARS_S, 180.0] if ALL else [THREE_YEARS_S])
def test_a_run_that_was_stopped_right_before_its_request_does_not_send_it_late(trials, clock_off_s):
    """It wakes after another run, whose clock is wrong, has waited for its lease and posted the content."""
    trial = trials.new(TONIGHT)
    stopped = trial.start(TONIGHT, stop_at="POST CreateSubmission")
    wait_until_stopped(stopped.process)

    [other] = wait_for([trial.start(TONIGHT, clock_off_s=clock_off_s)], 60)
    assert (other.code, other.decision, other.result["submission"]["posted"]) == (0, Decision.PROMOTED, True)
    os.kill(stopped.process.pid, signal.SIGCONT)
    [woken] = wait_for([stopped], 60)

    assert (woken.code, woken.decision, woken.result["submission"]["posted"]) == (0, Decision.PROMOTED, False)
    assert trial.submitted(TONIGHT) == [1]
    trial.check(TONIGHT)
