"""Prefect's temporary server: a process that starts while this one imports, and ends with it.

Prefect can start one by itself, but only when the flow begins, and its client imports the whole server for
it. Prefect is not imported here.
"""

import atexit
import http.client
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

from flows.ops.daemon import without_credentials
from mnist_core.errors import MnistError

log = logging.getLogger("mnist")
START_S = 120
"""Seconds within which it must answer; on two busy cores its first start took 40."""
END_S = 5
"""Seconds that it has for its last events, after which it is killed."""
PROGRAM = """
import gc, os, signal, socket, sys, threading, time

def watch():
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(5)
    os._exit(1)

threading.Thread(target=watch, daemon=True).start()
gc.disable()  # whatever the imports make stays
import uvicorn
from prefect.server.api.server import create_app
app = create_app()
gc.freeze()
gc.enable()
listener = socket.socket(fileno=int(sys.argv[1]))
uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="on")).run([listener])
"""
"""Python code that serves Prefect's API on an inherited socket, and ends when its standard input does."""
MODE = {
    "PREFECT_UI_ENABLED": "0",
    "PREFECT__SERVER_EPHEMERAL": "1",
    "PREFECT__SERVER_FINAL": "1",
    # Importing prefect_aws to list its blocks is a fifth of the start; without a UI nobody fills one in.
    "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",
}
"""What Prefect sets for its own temporary servers (no UI, no scheduler), and no list of kinds of blocks."""


class TemporaryServerError(MnistError):
    """Prefect's temporary server ended by itself, or does not answer in time."""


class TemporaryServer:
    """A server that has been started, in a session of its own.

    Ctrl-C in a terminal does not reach it, so that the stopped run can still be recorded there. It ends with
    this process, even after `kill -9`: it reads from a pipe whose other end only this process holds.

    Attributes:
        url: of its API. The port is taken already: a request waits until the server can answer it.
    """

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
            self.port = listener.getsockname()[1]
            self.url = f"http://127.0.0.1:{self.port}/api"
            self._process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, str(listener.fileno())],
                env=without_credentials(os.environ) | MODE,
                stdin=subprocess.PIPE,
                pass_fds=[listener.fileno()],
                start_new_session=True,
            )
        # Registered before Prefect is imported, so called after its own: the last logs and events arrive.
        atexit.register(self.end)

    def wait(self, timeout_s: float = START_S) -> None:
        """Wait until it answers.

        Raises:
            TemporaryServerError: it ended, or takes longer.
        """
        deadline = time.monotonic() + timeout_s
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            connection.request("GET", "/api/health")
            if connection.getresponse().status == HTTPStatus.OK:
                return
        except (OSError, http.client.HTTPException):  # refused as soon as the process that listens is gone
            pass
        finally:
            connection.close()
        late = time.monotonic() >= deadline
        raise TemporaryServerError(
            f"Prefect's temporary server {f'did not answer in {timeout_s:.0f} s' if late else 'ended'}",
            "read its messages above; `python -m flows doctor` checks Prefect's settings and database",
        )

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def end(self) -> None:
        """Let it write its last events and end; kill it if that takes too long."""
        self._process.terminate()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def start_temporary_server() -> TemporaryServer:
    """Start a server with this process's environment, and make this process its client."""
    log.info("starting a temporary Prefect server")
    server = TemporaryServer()
    os.environ["PREFECT_API_URL"] = server.url
    return server


@contextmanager
def without_heartbeats() -> Iterator[None]:
    """Run flows without heartbeats: only a standing server reads them, and their threads end with a delay.

    Each flow would wait for its own up to a second.
    """
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield
