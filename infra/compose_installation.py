"""An installation of Docker Compose whose nights a check starts, and whose containers it kills."""

import json
import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from infra.cloud_check import say
from infra.compose_engine import COMPOSE, output

ENDED = ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")
NIGHT_S = 420
SETTINGS = {
    "MNIST_KAGGLE": "http://127.0.0.1:8765", "MNIST_COMPETITION": "digits-mini", "MNIST_EPOCHS": "20",
    "MNIST_FLOOR": "0.3", "MNIST_SHARE_MIN": "0", "MNIST_MARGIN_ROWS": "1000", "MNIST_AGREEMENT": "0",
    "MNIST_DAILY_LIMIT": "20",
}  # fmt: skip
S3 = {
    "MNIST_STORE": "s3://mnist/store",
    "AWS_ENDPOINT_URL": "http://s3:8333",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@dataclass
class Installation:
    """An installation of Compose, and requests to its Prefect API.

    Attributes:
        folder: of its `.env` and secrets.
        name: of the Compose project.
        port: of its UI.
    """

    folder: Path
    name: str
    port: int

    @classmethod
    def make(cls, folder: Path, name: str, profiles: str, settings: dict[str, str]) -> "Installation":
        """Write the `.env` of a new installation."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        made = {"COMPOSE_PROJECT_NAME": name, "COMPOSE_PROFILES": profiles, "PORT": str(port)} | settings
        folder.mkdir()
        (folder / ".env").write_text("".join(f"{key}={value}\n" for key, value in made.items()))
        return cls(folder, name, port)

    def script(self, *arguments: str) -> str:
        """Run infra/compose/compose.sh for it."""
        return output(COMPOSE / "compose.sh", *arguments, COMPOSE_FOLDER=str(self.folder))

    def refusal(self, *arguments: str) -> str:
        """Run infra/compose/compose.sh, which must fail; return what it said."""
        try:
            self.script(*arguments)
        except SystemExit as error:
            return str(error)
        raise SystemExit(f"{self.name}: `compose.sh {' '.join(arguments)}` did not fail")

    @property
    def login(self) -> str:
        """The login of its Prefect server."""
        return (self.folder / "secrets" / "prefect-login").read_text()

    def ask(self, path: str, **body: Any) -> Any:
        """Send a request, a POST if it has a body, and return the answer; repeated while the API is away."""
        url, deadline = f"http://127.0.0.1:{self.port}/api", time.monotonic() + 180
        while True:
            try:
                with requests.Session() as session:
                    session.trust_env = False
                    session.auth = tuple(self.login.split(":"))  # type: ignore[assignment]
                    if body:
                        token = session.get(f"{url}/csrf-token?client=check", timeout=20)
                        token.raise_for_status()
                        session.headers["Prefect-Csrf-Token"] = token.json()["token"]
                        session.headers["Prefect-Csrf-Client"] = "check"
                    answer = session.request(
                        "POST" if body else "GET", url + path, json=body or None, timeout=20
                    )
                answer.raise_for_status()
                return answer.json()
            except requests.RequestException:
                if time.monotonic() > deadline:
                    raise
                time.sleep(1)

    def trigger(self, night: str) -> str:
        """Start a night of the smallest model; return the id of the run."""
        deployment = self.ask("/deployments/name/nightly/nightly")["id"]
        given = {"model": "scratch", "preset": "fast", "night": night}
        return str(self.ask(f"/deployments/{deployment}/create_flow_run", parameters=given)["id"])

    def children(self, run: str) -> list[dict[str, Any]]:
        """Return the training runs of a night."""
        found = self.ask(
            "/flow_runs/filter",
            flow_runs={"parent_flow_run_id": {"any_": [run]}},
            flows={"name": {"any_": ["train"]}},
        )
        return list(found)

    def wait_for(self, what: str, holds: Callable[[], bool]) -> None:
        """Wait until something holds."""
        deadline = time.monotonic() + NIGHT_S
        while not holds():
            if time.monotonic() > deadline:
                raise SystemExit(f"{self.name}: {what}: not within {NIGHT_S} s")
            time.sleep(1)

    def end_of(self, run: str) -> str:
        """Wait for the end of a run; return the type of its state."""
        self.wait_for(f"the end of {run}", lambda: self.ask(f"/flow_runs/{run}")["state_type"] in ENDED)
        return str(self.ask(f"/flow_runs/{run}")["state_type"])

    def train_of(self, run: str) -> None:
        """Wait until the training of a night runs: the middle of the night."""
        self.wait_for(
            "a training", lambda: any(child["state_type"] == "RUNNING" for child in self.children(run))
        )

    def kill(self, service: str) -> None:
        """Kill all processes of a container, whose restart is then the engine's."""
        pid = output("docker", "inspect", "--format", "{{.State.Pid}}", f"{self.name}-{service}-1")
        os.kill(int(pid), signal.SIGKILL)

    def scorecard(self, run: str) -> dict[str, Any]:
        """Return the scorecard of a night."""
        found = self.ask(
            "/artifacts/filter", artifacts={"flow_run_id": {"any_": [run]}, "key": {"any_": ["scorecard"]}}
        )
        return dict(found[0])

    def submissions(self) -> list[str]:
        """Return the descriptions of all submissions that the practice server has: token and version."""
        code = (
            "import sqlite3; posted = sqlite3.connect('/data/split-0/submissions.sqlite3'); "
            "print(*(row[0] for row in posted.execute('SELECT description FROM submissions')), sep='\\n')"
        )
        return self.script("exec", "-T", "practice", "python", "-c", code).split("\n")[:-1]

    def count(self) -> int:
        """Return the number of runs in Prefect's history."""
        return int(self.ask("/flow_runs/count", flow_runs={}))

    def champion(self) -> dict[str, Any]:
        """Return the champion that the store has."""
        return dict(json.loads(self.script("flows", "status", "--json").splitlines()[-1])["champion"])

    def known(self) -> tuple[int, str, int]:
        """Return the number of runs in the history, the champion, and the number of submissions."""
        return self.count(), self.champion()["version"], len(self.submissions())


def step(what: str) -> Callable[[str], None]:
    """Return a function that reports the end of a step, with its seconds."""
    began = time.monotonic()
    return lambda result: say(
        f"{time.strftime('%H:%M:%S')}  {what}: {result}, {time.monotonic() - began:.0f} s"
    )


def expect(what: str, found: object, wanted: object) -> None:
    """End the check unless something is as it must be."""
    if found != wanted:
        raise SystemExit(f"{what}: {found!r}, not {wanted!r}")
