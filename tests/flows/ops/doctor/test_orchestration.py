"""A Prefect API that is too busy to answer is not taken for one that is broken."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import prefect
import pytest

from flows.ops.doctor import orchestration
from flows.ops.doctor.finding import State
from flows.settings import Settings
from mnist_core.errors import MnistError


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[list[int]], list[str]]]:
    """Start a Prefect API that gives these statuses and then answers; returns the paths that were asked."""
    servers = []

    def start(statuses: list[int]) -> list[str]:
        asked: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                body = json.dumps(prefect.__version__).encode()
                self.send_response(statuses.pop(0) if statuses else 200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_arguments: object) -> None:
                """Leave the terminal alone."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{server.server_port}/api")
        return asked

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("status", [429, 502, 503])
def test_an_api_that_is_busy_for_a_moment_is_asked_again(busy, monkeypatch, status):
    """SQLite is locked while somebody writes: the API's 503 passes, and the check waits for its answer."""
    monkeypatch.setattr(orchestration, "BUSY_WAIT_S", 0.01)
    asked = busy([status, status])

    [finding] = orchestration.check_api(Settings())

    assert finding.state is State.OK
    assert asked == ["/api/admin/version"] * 3


def test_an_api_that_stays_busy_is_reported_as_busy(busy, monkeypatch):
    """After the longest wait the error says so, instead of blaming the address."""
    monkeypatch.setattr(orchestration, "CALL_S", 0.5)
    monkeypatch.setattr(orchestration, "BUSY_WAIT_S", 0.01)
    busy([503] * 10_000)

    with pytest.raises(MnistError, match="HTTP 503; try again later: the API is too busy") as caught:
        list(orchestration.check_api(Settings()))

    assert caught.value.retryable


def test_an_api_that_refuses_is_not_asked_again(busy):
    """Wrong credentials will not become right."""
    asked = busy([401, 401])

    with pytest.raises(MnistError, match="HTTP 401; check PREFECT_API_KEY"):
        list(orchestration.check_api(Settings()))

    assert len(asked) == 1
