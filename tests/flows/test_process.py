"""Whether another process on this machine has ended."""

import subprocess
import sys
import time

import pytest

from flows.process import has_ended, this_process
from flows.records import ProcessId

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="identities are read from /proc")
CODE = "from flows.process import this_process; print(this_process().model_dump_json(), flush=True); input()"


def test_a_process_has_ended_after_its_end_and_not_before():
    """One that is dead but not yet waited for has ended too."""
    with subprocess.Popen(
        [sys.executable, "-c", CODE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        other = ProcessId.model_validate_json(process.stdout.readline())
        assert other.pid == process.pid
        assert not has_ended(other)

        process.kill()
        deadline = time.monotonic() + 60
        while not has_ended(other):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.wait()

    assert has_ended(other)


@pytest.mark.parametrize(
    ("facts", "ended"),
    [
        ({}, False),
        ({"started": 1}, True),
        ({"boot": "another"}, False),
        ({"namespace": 1, "started": 1}, False),
        ({"pid": 1}, True),
        ({"pid": 2**40}, False),
    ],
)
def test_only_a_process_of_this_machine_is_known_to_have_ended(facts, ended):
    """A number that was given again names another process; other machines and containers are unknown."""
    assert has_ended(this_process().model_copy(update=facts)) is ended


def test_a_system_that_does_not_say_is_not_an_error(monkeypatch, tmp_path):
    """Without /proc no process has an identity, and none is known to have ended."""
    known = this_process()
    monkeypatch.setattr("flows.process.PROC", tmp_path)

    assert this_process() is None
    assert not has_ended(known)
    assert not has_ended(None)
