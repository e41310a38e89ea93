"""Checks of Prefect, against a real API, and one that is too busy to answer."""

import json
import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import prefect
import pytest

from flows.ops.deployments import DEPLOYMENTS
from flows.ops.doctor import orchestration
from flows.ops.doctor.finding import State
from flows.ops.doctor.orchestration import (
    check_api,
    check_deployments,
    check_last_night,
    check_pool,
    check_runs,
    check_schedule,
)
from flows.ops.pools import POOLS
from flows.ops.status import status
from flows.settings import Settings
from mnist_core.errors import MnistError
from tests.prefect_api import ask

ROOT = Path(__file__).parents[4]


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

    [finding] = check_api(Settings())

    assert finding.state is State.OK
    assert asked == ["/api/admin/version"] * 3


def test_an_api_that_stays_busy_is_reported_as_busy(busy, monkeypatch):
    """After the longest wait the error says so, instead of blaming the address."""
    monkeypatch.setattr(orchestration, "CALL_S", 0.5)
    monkeypatch.setattr(orchestration, "BUSY_WAIT_S", 0.01)
    busy([503] * 10_000)

    with pytest.raises(MnistError, match="HTTP 503; try again later: the API is too busy") as caught:
        list(check_api(Settings()))

    assert caught.value.retryable


def test_an_api_that_refuses_is_not_asked_again(busy):
    """Wrong credentials will not become right."""
    asked = busy([401, 401])

    with pytest.raises(MnistError, match="HTTP 401; check PREFECT_API_KEY"):
        list(check_api(Settings()))

    assert len(asked) == 1


@pytest.fixture(scope="module")
def deployed(prefect_api: str) -> Iterator[str]:
    """A Prefect API with our pools and deployments, as `make deployments` leaves it; no worker."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MNIST_")}
    environment["PREFECT_API_URL"] = prefect_api
    subprocess.run(
        [sys.executable, "-m", "flows.ops.pools"],
        cwd=ROOT, env=environment, check=True, timeout=200, capture_output=True,
    )  # fmt: skip
    yield prefect_api
    for name in DEPLOYMENTS:
        found = ask(prefect_api, f"/deployments/name/{name}")
        ask(prefect_api, f"/deployments/{found['id']}", "DELETE")
    for pool in POOLS:
        ask(prefect_api, f"/work_pools/{pool}", "DELETE")


@pytest.fixture
def worked(deployed: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The same with a worker in each pool, as PREFECT_API_URL."""
    for pool in POOLS:
        ask(deployed, f"/work_pools/{pool}/workers/heartbeat", name="a worker")
    monkeypatch.setenv("PREFECT_API_URL", deployed)
    yield deployed
    for pool in POOLS:
        for worker in ask(deployed, f"/work_pools/{pool}/workers/filter", "POST"):
            ask(deployed, f"/work_pools/{pool}/workers/{worker['name']}", "DELETE")


def test_a_server_with_everything_on_it(worked, run):
    """API, pools, deployments and schedule are well."""
    assert run(check_api)["Prefect API"].state is State.OK
    for pool in POOLS:
        assert run(partial(check_pool, pool))[f"pool {pool}"].found == "process, 1 worker online"
    assert run(check_deployments)["deployments"].state is State.OK
    assert "15 2 * * *" in run(check_schedule)["schedule"].found


def test_what_a_server_does_not_have_is_created_by_a_command(prefect_api, run, monkeypatch):
    """A pool and deployments that are missing have the command as their remedy."""
    monkeypatch.setenv("PREFECT_API_URL", prefect_api)
    monkeypatch.setattr(orchestration, "deployments_of", lambda _: ("nightly/missing", "train/missing"))

    pool = run(partial(check_pool, "missing"))["pool missing"]
    deployments = run(check_deployments)["deployments"]

    assert pool.state is deployments.state is State.FAILED
    assert deployments.found == "missing: nightly/missing, train/missing"
    assert "make deployments" in pool.remedy
    assert "make deployments" in deployments.remedy
    assert run(check_schedule)["schedule"].remedy == "fix deployments first"


def test_a_pool_without_a_worker(worked, run):
    """The remedy is the command that starts one."""
    ask(worked, "/work_pools/gpu/workers/a worker", "DELETE")

    found = run(partial(check_pool, "gpu"))["pool gpu"]

    assert found.state is State.FAILED
    assert "prefect worker start --pool gpu" in found.remedy
    assert run(partial(check_pool, "cpu"))["pool cpu"].state is State.OK


def test_a_paused_pool_and_a_paused_schedule(worked, run):
    """Nothing is missing, and yet no run would start: each has the command that resumes it."""
    night = ask(worked, "/deployments/name/nightly/nightly")
    schedule = f"/deployments/{night['id']}/schedules/{night['schedules'][0]['id']}"
    ask(worked, "/work_pools/cpu", "PATCH", is_paused=True)
    ask(worked, schedule, "PATCH", active=False)
    try:
        pool, paused = run(partial(check_pool, "cpu"))["pool cpu"], run(check_schedule)["schedule"]
    finally:
        ask(worked, "/work_pools/cpu", "PATCH", is_paused=False)
        ask(worked, schedule, "PATCH", active=True)

    assert pool.remedy == "`prefect work-pool resume cpu`"
    assert paused.state is State.WARNING
    assert night["schedules"][0]["id"] in paused.remedy


def test_an_api_that_does_not_answer_is_named_without_its_password(monkeypatch, run):
    """The address is shown, but not the user and the password in it."""
    monkeypatch.setenv("PREFECT_API_URL", "http://somebody:password@127.0.0.1:9/api")

    with pytest.raises(MnistError, match=r"http://127\.0\.0\.1:9/api: no answer") as caught:
        run(check_api)

    assert "make ui" in caught.value.remedy
    assert "password" not in str(caught.value)


def test_an_address_of_another_server_is_not_a_prefect_api(job, run, monkeypatch):
    """If something else answers there, the remedy is to check the address."""
    monkeypatch.setenv("PREFECT_API_URL", f"{job().server.url}/api")

    with pytest.raises(MnistError) as caught:
        run(check_api)

    assert "PREFECT_API_URL" in caught.value.remedy


def test_without_an_api_manual_runs_are_possible(run, monkeypatch):
    """A note only: nothing but the schedule needs a Prefect server."""
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.delenv("PREFECT_HOME", raising=False)

    assert run(check_api)["Prefect API"].state is State.NOTE
    assert run(partial(check_pool, "gpu")) == run(check_deployments) == run(check_schedule) == {}


def slots(api: str) -> int:
    """The places of the deployment of the night that are taken."""
    night = ask(api, "/deployments/name/nightly/nightly")
    return int(night["global_concurrency_limit"]["active_slots"])


@pytest.mark.parametrize("state", ["PENDING", "CANCELLING"])
def test_a_run_that_died_is_named_with_the_command_that_frees_its_place(worked, run, monkeypatch, state):
    """It holds the only place of the night, and cancelling it changes nothing; the command does."""
    night = ask(worked, "/deployments/name/nightly/nightly")
    dead = ask(
        worked, f"/deployments/{night['id']}/create_flow_run", name="dead", state={"type": "SCHEDULED"}
    )
    ask(worked, f"/flow_runs/{dead['id']}/set_state", state={"type": "PENDING"})
    if state == "CANCELLING":
        ask(worked, f"/flow_runs/{dead['id']}/set_state", state={"type": state})
    assert slots(worked) == 1
    assert run(check_runs)["runs"].found == "1 under way, and none that is stuck"
    monkeypatch.setattr(orchestration, "STUCK_S", 0.0)

    found = run(check_runs)["runs"]

    assert found.state is State.FAILED
    assert found.found.startswith(f"dead of nightly/nightly is {state.capitalize()} for 0 minutes")
    [command] = re.findall("`(.*)`", found.remedy)
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PREFECT_API_URL": worked}
    subprocess.run(shlex.split(command), env=environment | {"HOME": str(Path.home())}, check=True, timeout=60)
    assert slots(worked) == 0
    assert run(check_runs)["runs"].state is State.OK


def test_a_place_that_no_run_holds_is_named(worked, run):
    """A lost lease leaves it taken; the warning has the command that sets it right."""
    night = ask(worked, "/deployments/name/nightly/nightly")
    limit = night["global_concurrency_limit"]
    ask(worked, f"/v2/concurrency_limits/{limit['id']}", "PATCH", active_slots=1)

    found = run(check_runs)["runs"]
    ask(worked, f"/v2/concurrency_limits/{limit['id']}", "PATCH", active_slots=0)

    assert found.state is State.WARNING
    assert found.found == "nightly/nightly has 1 of 1 places taken, by 0 runs"
    assert f"update {limit['name']} --active-slots 0" in found.remedy


@pytest.mark.parametrize(
    ("hours", "server", "state"),
    [(None, True, State.OK), (25, True, State.OK), (27, True, State.FAILED), (27, False, State.OK)],
)
def test_a_night_that_has_not_ended_for_26_hours_is_reported(history, run, monkeypatch, hours, server, state):
    """The store knows, even if Prefect has just been restarted; without a server nothing is scheduled."""
    if server:
        monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    else:
        monkeypatch.delenv("PREFECT_API_URL", raising=False)
        monkeypatch.delenv("PREFECT_HOME", raising=False)
    if hours is not None:
        history.end_night(datetime.now(UTC) - timedelta(hours=hours))

    found = run(check_last_night)["last night"]

    assert found.state is state
    if hours is not None:
        assert status(history.settings).silent_h == (hours if hours > 26 else None)


@pytest.mark.parametrize(("active", "state"), [(True, State.FAILED), (False, State.OK)])
def test_no_night_is_missed_while_no_schedule_is_active(worked, history, run, monkeypatch, active, state):
    """A practice machine, or a schedule that a person paused, has nights only when somebody starts one."""
    monkeypatch.setenv("PREFECT_API_URL", worked)
    history.end_night(datetime.now(UTC) - timedelta(hours=50))
    night = ask(worked, "/deployments/name/nightly/nightly")
    schedule = f"/deployments/{night['id']}/schedules/{night['schedules'][0]['id']}"
    ask(worked, schedule, "PATCH", active=active)
    try:
        found = run(check_last_night)["last night"]
    finally:
        ask(worked, schedule, "PATCH", active=True)

    assert found.state is state
    assert found.found.startswith("none has ended well for 50.0 hours")
