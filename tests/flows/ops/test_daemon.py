"""Processes that outlive the one that starts them."""

import os
import sys

from flows.ops.daemon import start_daemon


def test_a_daemon_has_its_own_session_log_and_variables(tmp_path):
    """Neither the terminal nor a signal to the caller's group reaches it; both of its streams are logged."""
    script = (
        "import os, sys; print(os.getsid(0) == os.getpid(), os.environ['X']); print('err', file=sys.stderr)"
    )
    command = [sys.executable, "-u", "-c", script]

    process = start_daemon(
        command, tmp_path / "log", folder=tmp_path, environment=os.environ | {"X": "given"}
    )

    assert process.wait(30) == 0
    assert (tmp_path / "log").read_text() == "True given\nerr\n"


def test_a_log_above_its_size_is_rotated(tmp_path):
    """The old log is kept once, under another name."""
    log = tmp_path / "server.log"
    log.write_text("old" * 10)

    start_daemon([sys.executable, "-c", "print('new')"], log, folder=tmp_path, log_bytes=29).wait(30)

    assert log.read_text() == "new\n"
    assert (tmp_path / "server.log.1").read_text() == "old" * 10
