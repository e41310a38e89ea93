"""A whole installation on this machine: Prefect server, two workers, deployments, practice server."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from flows.ops.pools import POOLS
from flows.ops.practice import find_or_start
from flows.ops.processes import is_alive
from flows.ops.server_settings import read_login
from infra.practice import PracticeOptions
from mnist_core.spec import DIGITS_MINI, SPECS
from tests.practice_server import PracticeServer
from tests.prefect_api import ask

ROOT = Path(__file__).parents[2]
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")
WAIT_S = 400.0
"""Seconds within which anything happens that is waited for, on a machine that is busy with other work too."""


@dataclass
class Installation:
    """What `make ui` starts in a home, and requests to its Prefect API."""

    home: Path
    port: int
    environment: dict[str, str]
    practice: PracticeServer
    printed: str = ""

    @property
    def url(self) -> str:
        """Prefect's API."""
        return f"http://127.0.0.1:{self.port}/api"

    @property
    def login(self) -> str | None:
        """The login of Prefect's API, once `make ui` has made it."""
        return read_login(self.home / "prefect")

    @property
    def variables(self) -> dict[str, str]:
        """The environment of a person who uses Prefect's own commands."""
        login = {} if self.login is None else {"PREFECT_API_AUTH_STRING": self.login}
        return self.environment | login | {"PREFECT_API_URL": self.url}

    def command(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run `python -m …` in the installation's environment, with these variables too."""
        return subprocess.run(
            [sys.executable, "-m", *arguments],
            env=self.variables | variables,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )

    def up(self) -> str:
        """Run `make ui`, which starts what does not run yet; return what it printed.

        All proxies are dead there: nothing on this machine is reached through one.
        """
        dead = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")
        done = self.command("flows.ops.local_server", "start", "--port", str(self.port), **dead)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def down(self) -> str:
        """Run `make ui-stop`; return what it printed."""
        done = self.command("flows.ops.local_server", "stop")
        assert done.returncode == 0, done.stderr
        return done.stdout

    def ask(self, path: str, **body: Any) -> Any:
        """Send a request, a POST if it has a body, and return the answer."""
        return ask(self.url, path, login=self.login, **body)

    def trigger(self, deployment: str, **parameters: Any) -> str:
        """Run a deployment as a person types it; return the id of the run."""
        given = [f"--param={name}={value}" for name, value in parameters.items()]
        done = self.command("prefect", "deployment", "run", deployment, *given)
        assert done.returncode == 0, done.stdout + done.stderr
        found = re.search(r"UUID: (\S+)", done.stdout)
        assert found, done.stdout
        return found[1]

    def run(self, run: str) -> dict[str, Any]:
        """Return a flow run."""
        return dict(self.ask(f"/flow_runs/{run}"))

    def wait(self, run: str, until: tuple[str, ...] = ENDED) -> dict[str, Any]:
        """Wait until a run has a state of these types, also while the API is down; return the run."""
        deadline = time.monotonic() + WAIT_S
        while True:
            try:
                found = self.run(run)
            except requests.ConnectionError:
                found = {"state_type": "API gone"}
            if found["state_type"] in until:
                return found
            assert time.monotonic() < deadline, (found, self.logs(run))
            time.sleep(0.3)

    def child(self, run: str, flow: str) -> dict[str, Any]:
        """Return the latest child of a run that runs this flow."""
        deadline = time.monotonic() + WAIT_S
        while True:
            children = self.ask(
                "/flow_runs/filter",
                flow_runs={"parent_flow_run_id": {"any_": [run]}},
                flows={"name": {"any_": [flow]}},
                sort="EXPECTED_START_TIME_DESC",
            )
            if children:
                return dict(children[0])
            assert time.monotonic() < deadline, self.logs(run)
            time.sleep(0.3)

    def logs(self, run: str) -> list[str]:
        """Return the log lines of a run."""
        found = self.ask("/logs/filter", logs={"flow_run_id": {"any_": [run]}}, sort="TIMESTAMP_ASC")
        return [line["message"] for line in found]

    def wait_for_log(self, run: str, words: str) -> None:
        """Wait until a run has logged these words."""
        deadline = time.monotonic() + WAIT_S
        while not any(words in line for line in self.logs(run)):
            assert time.monotonic() < deadline, self.logs(run)
            time.sleep(0.3)

    def artifacts(self, run: str) -> dict[str, dict[str, Any]]:
        """Return the artifacts of a run and of its tasks, by key."""
        found = self.ask("/artifacts/filter", artifacts={"flow_run_id": {"any_": [run]}})
        return {artifact["key"]: artifact for artifact in found}

    def processes(self) -> dict[str, int]:
        """Return the process numbers of server and workers, as recorded."""
        record = json.loads((self.home / "prefect" / "processes.json").read_text())
        return {name: process["pid"] for name, process in record.items()}

    def kill_worker(self, pool: str, run: str) -> None:
        """Kill a worker and the run that it executes, as a machine that fails would."""
        os.killpg(self.processes()[pool], signal.SIGKILL)
        self.kill_run(run)

    def end_runs(self) -> None:
        """End all runs, and free the places that they hold."""
        running = self.ask("/flow_runs/filter", flow_runs={"state": {"type": {"not_any_": ENDED}}})
        for run in running:
            self.kill_run(run["id"])
            self.ask(f"/flow_runs/{run['id']}/set_state", state={"type": "CANCELLED"}, force=True)

    def kill_run(self, run: str) -> None:
        """Kill the process of a run, if it has one."""
        for process in Path("/proc").glob("[0-9]*"):
            try:
                variables = (process / "environ").read_bytes()
            except OSError:
                continue  # it has ended, or is not ours
            if f"PREFECT__FLOW_RUN_ID={run}".encode() in variables and str(self.home).encode() in variables:
                os.kill(int(process.name), signal.SIGKILL)

    def stored(self, kind: str) -> list[str]:
        """Return the names of the objects of a kind in the store, such as `versions`."""
        return sorted(path.stem for path in (self.home / "store").glob(f"*/*/*/{kind}/*.json"))


@pytest.fixture
def nothing_left(installed: "Installation") -> Iterator[None]:
    """End the runs that a test leaves, so that one that fails keeps no other one from running."""
    yield
    installed.practice.clear_faults()
    if not all(is_alive(installed.home / "prefect", name) for name in ("server", *POOLS)):
        installed.up()
    installed.end_runs()


@pytest.fixture(scope="module")
def competition() -> str:
    """The competition of the installation: the small one, whose trainings take seconds."""
    return DIGITS_MINI.name


@pytest.fixture(scope="module")
def installed(
    tmp_path_factory: pytest.TempPathFactory,
    seed_practice_home: Callable[..., Path],
    seed_prefect_home: Callable[..., Path],
    competition: str,
) -> Iterator[Installation]:
    """An installation for a module: short trainings, a low floor, the schedule paused."""
    home = tmp_path_factory.mktemp("installation") / "home"
    practice_home = home / "practice"
    practice_home.mkdir(parents=True)
    seed_prefect_home(home / "prefect")
    practice = find_or_start(
        seed_practice_home(practice_home, competition),
        PracticeOptions(score_seconds=0.2),
        competition=competition,
    )
    keep = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "TMPDIR")}
    settings = {
        "HOME": str(home.parent), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
        "KAGGLE_API_TOKEN": "TokenThatNobodyMayRead",
        "MNIST_HOME": str(home), "MNIST_COMPETITION": competition, "MNIST_EPOCHS": "40",
        "MNIST_FLOOR": "0.5", "MNIST_SHARE_MIN": "0.01",
        "MNIST_MARGIN_ROWS": "1000", "MNIST_RETRY_WAITS_S": "[1, 2]",
    }  # fmt: skip
    server = PracticeServer(
        practice_home,
        None,
        practice.url,
        practice.username,
        practice.key,
        practice.token,  # type: ignore[arg-type]
        SPECS[competition],
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    installation = Installation(home, port, keep | settings, server)
    try:
        installation.printed = installation.up()
        yield installation
    finally:
        installation.down()
