"""Prefect's temporary server: it answers those with its login, and ends with the process that started it."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows.ops import temporary_server
from flows.ops.prefect_home import prepare_prefect, status_of
from flows.ops.server_settings import GIVEN
from flows.ops.temporary_server import TemporaryServer, TemporaryServerError
from flows.settings import read_settings

KILLED = """
import os, signal
from flows.ops.prefect_home import prepare_prefect
from flows.ops.temporary_server import start_temporary_server
from flows.settings import read_settings

assert prepare_prefect(read_settings())
server = start_temporary_server()
server.wait()
print(server.url, os.environ["PREFECT_API_AUTH_STRING"], server._process.pid, flush=True)
input()
os.kill(os.getpid(), signal.SIGKILL)
"""


def has_ended(pid: int, within_s: float) -> bool:
    """Return whether a process ends in time."""
    deadline = time.monotonic() + within_s
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return not Path(f"/proc/{pid}").exists()


def test_it_serves_its_login_alone_and_ends_with_a_killed_process(tmp_path, monkeypatch, seed_prefect_home):
    """`kill -9` of a run leaves no server of 350 MB behind, and no other user can call it before that."""
    seed_prefect_home(tmp_path / "home" / "prefect")
    for name in list(os.environ):
        if name.startswith(("PREFECT_", "MNIST_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MNIST_HOME", str(tmp_path / "home"))
    command = [sys.executable, "-c", KILLED]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tmp_path
    ) as run:
        assert run.stdin is not None
        assert run.stdout is not None
        url, login, server = run.stdout.readline().split()

        assert status_of(url) == 401
        assert status_of(url, login) == 200

        run.stdin.write("\n")

    assert has_ended(int(server), within_s=20)


def test_a_server_that_ends_at_its_start_is_an_error_at_once(monkeypatch):
    """Nobody waits two minutes for a server whose process is gone."""
    monkeypatch.setattr(temporary_server, "PROGRAM", "raise SystemExit('no room')")
    server = TemporaryServer()
    started = time.monotonic()

    with pytest.raises(TemporaryServerError, match=r"temporary server ended.*doctor"):
        server.wait(60)

    assert time.monotonic() - started < 30
    server.end()


def test_a_server_that_does_not_answer_in_time_is_an_error(monkeypatch):
    """Its port is taken, so that a client could wait for ever."""
    monkeypatch.setattr(temporary_server, "PROGRAM", "import sys; sys.stdin.read()")
    server = TemporaryServer()

    with pytest.raises(TemporaryServerError, match="did not answer in 0 s"):
        server.wait(0.2)

    server.end()


@pytest.mark.parametrize(("chosen", "needed"), [(None, True), ("https://prefect.example.org/api", False)])
def test_it_starts_only_if_no_other_server_was_chosen(monkeypatch, tmp_path, chosen, needed):
    """A cloud's server, or that of `make ui`, gets the runs instead."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    monkeypatch.setattr(os, "environ", environment | {"MNIST_HOME": str(tmp_path)})
    if chosen is not None:
        os.environ["PREFECT_API_URL"] = chosen

    assert prepare_prefect(read_settings()) is needed
    assert (GIVEN in os.environ) is needed


def test_a_flow_on_it_ends_without_waiting_for_a_heartbeat():
    """Nobody reads them there, and Prefect would wait up to a second for the thread that sends them."""
    from prefect.settings import get_current_settings

    with temporary_server.without_heartbeats():
        assert get_current_settings().flows.heartbeat_frequency is None
    assert get_current_settings().flows.heartbeat_frequency is not None
