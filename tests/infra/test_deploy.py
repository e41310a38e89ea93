"""`make deploy` with programs that play AWS: it writes to the deployment's own Prefect server, or to none."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOGIN = "mnist:the-clouds-login"
PLAYED = {
    "git": '[ "$1" = status ] || echo 0123abc',
    "docker": "",
    "terraform": """
case "$*" in
    *"output -raw login"*) echo arn:login ;;
    *"output -json repositories"*) echo '{"predict": "1.dkr.ecr.here.x/p", "train": "1.dkr.ecr.here.x/t"}' ;;
    *"output -json pool"*) echo '{"cluster": "arn:cluster/mnist-nightly"}' ;;
esac""",
    "aws": """
echo "$*" >> "$PLAYED/aws.log"
case "$*" in
    *get-secret-value*) [ -e "$PLAYED/secret" ] && cat "$PLAYED/secret" ;;
    *put-secret-value*) cat > "$PLAYED/secret" ;;
    *list-tasks*) echo arn:task/1 ;;
    *describe-tasks*) echo runtime ;;
    *start-session*) eval "$FORWARD" ;;
esac""",
}


class Server:
    """A server on loopback that answers every request with a status, and knows what it was asked."""

    def __init__(self, status: int) -> None:
        self.asked: list[tuple[str, str | None]] = []
        asked = self.asked

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append((f"{self.command} {self.path}", self.headers["Authorization"]))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_POST(self) -> None:
                self.do_GET()

            def log_message(self, *_: object) -> None:
                """Leave the terminal alone."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Stop it."""
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def local() -> Iterator[Server]:
    """The Prefect server of `make ui`, which answers everybody."""
    server = Server(200)
    yield server
    server.stop()


def deploy(folder: Path, port: int, forward: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run infra/deploy.sh; `forward` is what the port-forward does."""
    for name, script in PLAYED.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return subprocess.run(
        ["sh", "infra/deploy.sh"],
        cwd=ROOT,
        env={
            "PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(folder), "PYTHON": sys.executable,
            "PYTHONPATH": str(ROOT), "PORT": str(port), "YES": "1", "SMOKE": "no",
            "PLAYED": str(folder), "FORWARD": forward, **variables,
        },
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip


def free_port() -> int:
    """Return a port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_port_on_which_something_answers_is_refused_before_anything_is_changed(tmp_path, local):
    """With `make ui` up, the template of the cloud would replace that of the local pools."""
    done = deploy(tmp_path, local.port, "exit 1")

    assert done.returncode == 1
    assert f"port {local.port} is in use" in done.stderr
    assert "PORT=4300 make deploy" in done.stderr
    assert local.asked == []
    assert not (tmp_path / "aws.log").exists()


def test_a_port_forward_that_ends_is_reported_with_what_it_said(tmp_path):
    """Its log is shown: the plugin is missing, or the port was taken meanwhile."""
    done = deploy(tmp_path, free_port(), "echo 'bind: address already in use'; exit 1")

    assert done.returncode == 1
    assert "the port-forward has ended" in done.stderr
    assert "bind: address already in use" in done.stderr
    assert "pools and deployments" not in done.stderr


def test_a_server_that_does_not_know_the_login_is_refused(tmp_path):
    """Another server that took the port is not written to; the login is in no argument and no output."""
    server = (
        "import http.server as h\n"
        "class H(h.BaseHTTPRequestHandler):\n"
        "    def do_GET(self): self.send_error(401)\n"
        "h.HTTPServer(('127.0.0.1', int(__import__('os').environ['PORT'])), H).serve_forever()\n"
    )
    (tmp_path / "other.py").write_text(server)

    done = deploy(tmp_path, free_port(), f"exec {sys.executable} {tmp_path / 'other.py'}")

    assert done.returncode == 1
    assert "is not this deployment's: HTTP 401 to its login" in done.stderr
    login = (tmp_path / "secret").read_text()
    assert login.startswith("mnist:")
    assert login not in done.stdout + done.stderr + (tmp_path / "aws.log").read_text()


def test_the_login_is_made_once(tmp_path):
    """A second deployment reads the secret and leaves it as it is."""
    (tmp_path / "secret").write_text(LOGIN)

    deploy(tmp_path, free_port(), "exit 1")

    assert (tmp_path / "secret").read_text() == LOGIN
    assert "put-secret-value" not in (tmp_path / "aws.log").read_text()
