"""Heartbeats of a run behind a proxy that passes no WebSocket, on a real Prefect API."""

import threading
import time
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from uuid import uuid4

import pytest
import requests
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.server.events.schemas.automations import EventTrigger
from prefect.server.events.schemas.events import ReceivedEvent
from prefect.settings import PREFECT_API_KEY, PREFECT_API_URL, PREFECT_CLOUD_API_URL, temporary_settings
from prefect.states import Cancelled, Running
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

from flows.ops.automations import Name, automations
from flows.ops.doctor.finding import State
from flows.ops.doctor.orchestration import check_events
from flows.ops.heartbeat import events_fault, keep_alive
from flows.settings import read_settings
from tests.prefect_api import ask


@pytest.fixture
def proxy(prefect_events_api: str) -> Iterator[str]:
    """The address of the API behind a proxy as nginx is without the headers Upgrade and Connection."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            passed = {
                name: value
                for name, value in self.headers.items()
                if name.lower() not in ("upgrade", "connection", "host", "accept-encoding")
            }
            answer = requests.request(
                self.command,
                prefect_events_api.removesuffix("/api") + self.path,
                data=body,
                headers=passed,
                timeout=30,
            )
            self.send_response(answer.status_code)
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            """Leave the terminal alone."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/api"
    server.shutdown()
    server.server_close()


@pytest.fixture
def running(prefect_events_api: str) -> FlowRun:
    """A run of a deployment, in its state Running."""
    with get_client(sync_client=True) as client:
        deployment = client.create_deployment(client.create_flow(flow(name="beats")(lambda: None)), "beats")
        run = client.create_flow_run_from_deployment(deployment)
        client.set_flow_run_state(run.id, Running(), force=True)
        return client.read_flow_run(run.id)


def heartbeats(api: str, run: FlowRun) -> list[ReceivedEvent]:
    """The heartbeats of a run that the server has received."""
    wanted = {
        "event": {"name": ["prefect.flow-run.heartbeat"]},
        "any_resource": {"id": [f"prefect.flow-run.{run.id}"]},
    }
    return [
        ReceivedEvent.model_validate(event) for event in ask(api, "/events/filter", filter=wanted)["events"]
    ]


def test_a_run_whose_events_are_blocked_is_not_taken_for_dead(prefect_events_api, running, proxy):
    """Its heartbeats arrive over HTTP, as the automation expects them, and end with the run."""
    with temporary_settings({PREFECT_API_URL: proxy}):
        thread = keep_alive(running, every_s=0.1)
        deadline = time.monotonic() + 60
        while len(seen := heartbeats(prefect_events_api, running)) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.1)

    dead = next(
        found for found in automations(read_settings(), uuid4(), [running.deployment_id])
        if found.name == Name.DEAD
    )  # fmt: skip
    assert EventTrigger.model_validate(dead.trigger.model_dump(mode="json")).covers(seen[0])
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(running.id, Cancelled(), force=True)
    thread.join(30)
    assert not thread.is_alive()


def test_a_run_whose_events_arrive_sends_nothing_more(prefect_events_api, running):
    """Prefect's own heartbeats are enough."""
    with temporary_settings({PREFECT_API_URL: prefect_events_api}):
        thread = keep_alive(running, every_s=0.1)
        thread.join(60)

    assert not thread.is_alive()
    assert heartbeats(prefect_events_api, running) == []


def test_doctor_reports_that_events_are_blocked(prefect_events_api, proxy, monkeypatch, tmp_path):
    """It names the headers that a proxy must pass."""
    monkeypatch.setenv("MNIST_HOME", str(tmp_path))
    monkeypatch.setenv("PREFECT_API_URL", proxy)
    [blocked] = check_events(read_settings())
    monkeypatch.setenv("PREFECT_API_URL", prefect_events_api)
    [open_] = check_events(read_settings())

    assert blocked.state is State.WARNING
    assert "Upgrade and Connection" in blocked.remedy
    assert open_.state is State.OK


@pytest.mark.parametrize("variable", ["ALL_PROXY", "HTTP_PROXY"])
def test_an_api_behind_a_socks_proxy_gets_heartbeats(
    prefect_events_api, running, socks_proxy, monkeypatch, tmp_path, variable
):
    """They go over HTTP, since the client opens no WebSocket there; `doctor` names what opens one."""
    port = int(prefect_events_api.removesuffix("/api").rpartition(":")[2])
    proxy = socks_proxy({"prefect.example": ("127.0.0.1", port)})
    monkeypatch.setenv("MNIST_HOME", str(tmp_path))
    api = f"http://prefect.example:{port}/api"
    monkeypatch.setenv("PREFECT_API_URL", api)
    monkeypatch.setenv(variable, proxy.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    with temporary_settings({PREFECT_API_URL: api}):
        thread = keep_alive(running, every_s=0.1)
        deadline = time.monotonic() + 60
        while not heartbeats(prefect_events_api, running):
            assert time.monotonic() < deadline
            time.sleep(0.1)
    [finding] = check_events(read_settings())
    with temporary_settings({PREFECT_API_URL: prefect_events_api}), get_client(sync_client=True) as client:
        client.set_flow_run_state(running.id, Cancelled(), force=True)
    thread.join(30)

    assert finding.state is State.WARNING
    assert "set HTTPS_PROXY to an http:// proxy, or name the API's host in NO_PROXY" in finding.remedy
    assert set(proxy.asked) == {"prefect.example"}


@pytest.fixture
def cloud() -> Iterator[str]:
    """The address of a server that opens a WebSocket for a key alone, as Prefect Cloud does."""

    def check_key(connection: ServerConnection, request: Request) -> Response | None:
        if request.headers.get("Authorization") == "bearer the-key":
            return None
        return connection.respond(HTTPStatus.FORBIDDEN, "no key")

    with serve(lambda connection: list(connection), "127.0.0.1", 0, process_request=check_key) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.socket.getsockname()[1]}/api"
        server.shutdown()


@pytest.mark.parametrize(("key", "opens"), [("the-key", True), ("another", False)])
def test_events_reach_prefect_cloud_with_its_key(cloud, key, opens):
    """Its WebSocket opens for a key, and not for the handshake of a server of our own."""
    workspace = f"{cloud}/accounts/1/workspaces/2"
    with temporary_settings({PREFECT_CLOUD_API_URL: cloud, PREFECT_API_URL: workspace, PREFECT_API_KEY: key}):
        assert (events_fault() is None) is opens
