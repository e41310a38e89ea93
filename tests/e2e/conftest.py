"""A whole installation on this machine: server, two process workers, deployments, practice competition."""

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

from infra.practice import PracticeOptions, find_or_start
from mnist_core.spec import DIGIT_RECOGNIZER
from tests.practice_server import PracticeServer
from tests.prefect_api import ask

ROOT = Path(__file__).parents[2]
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")


@dataclass
class Installation:
    """What `make ui` starts on a home, and Prefect's API as a client would ask it."""

    home: Path
    port: int
    environment: dict[str, str]
    practice: PracticeServer
    printed: str = ""

    @property
    def url(self) -> str:
        """Prefect's API."""
        return f"http://127.0.0.1:{self.port}/api"

    def command(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run `python -m …` in the installation's environment."""
        return subprocess.run(
            [sys.executable, "-m", *arguments],
            env=self.environment | {"PREFECT_API_URL": self.url},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
            **options,
        )

    def up(self) -> str:
        """`make ui`: start what does not run; what it printed."""
        done = self.command("flows.ops.local_server", "start", "--port", str(self.port))
        assert done.returncode == 0, done.stderr
        return done.stdout

    def down(self) -> None:
        """`make ui-stop`."""
        done = self.command("flows.ops.local_server", "stop")
        assert done.returncode == 0, done.stderr

    def ask(self, path: str, **body: Any) -> Any:
        """One request: POST if it has a body."""
        return ask(self.url, path, **body)

    def trigger(self, deployment: str, **parameters: Any) -> str:
        """`prefect deployment run`, as a person types it; the run's id."""
        given = [f"--param={name}={value}" for name, value in parameters.items()]
        done = self.command("prefect", "deployment", "run", deployment, *given)
        assert done.returncode == 0, done.stdout + done.stderr
        found = re.search(r"UUID: (\S+)", done.stdout)
        assert found, done.stdout
        return found[1]

    def run(self, run: str) -> dict[str, Any]:
        """A flow run."""
        return dict(self.ask(f"/flow_runs/{run}"))

    def wait(self, run: str, timeout_s: float, until: tuple[str, ...] = ENDED) -> dict[str, Any]:
        """The run when its state is of one of these types; an API that is gone meanwhile is asked again."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                found = self.run(run)
            except requests.ConnectionError:
                found = {"state_type": "API gone"}
            if found["state_type"] in until:
                return found
            assert time.monotonic() < deadline, (found, self.logs(run))
            time.sleep(0.3)

    def child(self, run: str, flow: str, timeout_s: float = 60) -> dict[str, Any]:
        """The latest child of a run that is a run of this flow."""
        deadline = time.monotonic() + timeout_s
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
        """A run's log lines."""
        found = self.ask("/logs/filter", logs={"flow_run_id": {"any_": [run]}}, sort="TIMESTAMP_ASC")
        return [line["message"] for line in found]

    def wait_for_log(self, run: str, words: str, timeout_s: float = 90) -> None:
        """Wait until a run has logged these words."""
        deadline = time.monotonic() + timeout_s
        while not any(words in line for line in self.logs(run)):
            assert time.monotonic() < deadline, self.logs(run)
            time.sleep(0.3)

    def artifacts(self, run: str) -> dict[str, dict[str, Any]]:
        """A run's artifacts, its tasks' too, by key."""
        found = self.ask("/artifacts/filter", artifacts={"flow_run_id": {"any_": [run]}})
        return {artifact["key"]: artifact for artifact in found}

    def processes(self) -> dict[str, int]:
        """Pids of server and workers, as recorded."""
        record = json.loads((self.home / "prefect" / "processes.json").read_text())
        return {name: process["pid"] for name, process in record.items()}

    def kill_worker(self, pool: str, run: str) -> None:
        """End a worker and the run that it carries as a machine that fails would."""
        os.killpg(self.processes()[pool], signal.SIGKILL)
        for process in Path("/proc").glob("[0-9]*"):
            try:
                variables = (process / "environ").read_bytes()
            except OSError:
                continue  # it has ended, or is not ours
            if f"PREFECT__FLOW_RUN_ID={run}".encode() in variables and str(self.home).encode() in variables:
                os.kill(int(process.name), signal.SIGKILL)

    def stored(self, kind: str) -> list[str]:
        """The names of what the store holds of a kind, such as `versions`."""
        return sorted(path.stem for path in (self.home / "store").glob(f"*/*/*/{kind}/*.json"))


@pytest.fixture(scope="module")
def installed(
    tmp_path_factory: pytest.TempPathFactory, seed_practice_home: Callable[..., Path]
) -> Iterator[Installation]:
    """An installation for a module: one epoch of training, a low floor, the schedule paused."""
    home = tmp_path_factory.mktemp("installation") / "home"
    practice_home = home / "practice"
    practice_home.mkdir(parents=True)
    practice = find_or_start(
        seed_practice_home(practice_home, DIGIT_RECOGNIZER.name), PracticeOptions(score_seconds=0.2)
    )
    keep = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "TMPDIR")}
    settings = {
        "HOME": str(home.parent), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
        "MNIST_HOME": str(home), "MNIST_EPOCHS": "1", "MNIST_FLOOR": "0.9",
        "MNIST_MARGIN_ROWS": "1000", "MNIST_RETRY_WAITS_S": "[1, 2]",
    }  # fmt: skip
    server = PracticeServer(
        practice_home,
        None,
        practice.url,
        practice.username,
        practice.key,
        practice.token,  # type: ignore[arg-type]
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
