"""Fixtures that several folders use: practice servers, each a process of its own, and a Prefect API."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from infra.practice import data
from infra.practice.process import read_record

ROOT = Path(__file__).parents[1]


@dataclass
class PracticeServer:
    """A practice server that a test started, and short ways to ask it things past the Kaggle client."""

    home: Path
    process: "subprocess.Popen[bytes]" = field(repr=False)
    url: str
    username: str
    key: str = field(repr=False)
    token: str = field(repr=False)

    @property
    def pid(self) -> int:
        """The server's process."""
        return self.process.pid

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        """A plain request with the account's username and key; no environment, no proxy, no retry."""
        with requests.Session() as session:
            session.trust_env = False
            options = {"auth": (self.username, self.key), "timeout": 10, **options}
            return session.request(method, self.url + path, **options)

    def call(self, rpc: str, **fields: Any) -> requests.Response:
        """One call of the competition's service."""
        asked = {"competitionName": "digit-recognizer", **fields}
        return self.request("POST", f"/v1/competitions.CompetitionApiService/{rpc}", json=asked)

    def submit(
        self, body: bytes, description: str = "", file_name: str = "submission.csv"
    ) -> requests.Response:
        """Upload these bytes and submit them."""
        started = self.call("StartSubmissionUpload", contentLength=len(body), fileName=file_name).json()
        self.request(
            "PUT", started["createUrl"].removeprefix(self.url), data=body, auth=None
        ).raise_for_status()
        return self.call(
            "CreateSubmission", blobFileTokens=started["token"], submissionDescription=description
        )

    def fault(self, name: str, count: int = 1, **params: Any) -> None:
        """Make the next `count` matching requests go wrong (-1: all); `rpc=` names the call."""
        answer = self.request("POST", "/practice/faults", json={"name": name, "count": count, **params})
        assert answer.status_code == 200, answer.text

    def clear_faults(self) -> None:
        """From here on nothing goes wrong on purpose."""
        self.request("DELETE", "/practice/faults").raise_for_status()

    def submissions(self) -> list[dict[str, Any]]:
        """All submissions that are listed, newest first, through every page."""
        found: list[dict[str, Any]] = []
        token = ""
        while True:
            page = self.call("ListSubmissions", pageSize=100, pageToken=token).json()
            found += page["submissions"]
            token = page["nextPageToken"]
            if not token:
                return found

    def scored(self, ref: int, timeout_s: float = 10) -> dict[str, Any]:
        """The submission of this ref when it is no longer PENDING."""
        deadline = time.monotonic() + timeout_s
        while (found := self.call("GetSubmission", ref=ref).json())["status"] == "PENDING":
            assert time.monotonic() < deadline, found
            time.sleep(0.05)
        return found

    def stop(self) -> int:
        """End it as a service manager would; its exit status."""
        if self.process.poll() is None:
            os.kill(self.pid, signal.SIGTERM)
        return self.process.wait(timeout=10)

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        self.process.wait(timeout=10)


@pytest.fixture(scope="session")
def practice_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which the competition's zip of split 0 is made (once for the session) and nothing else is."""
    home = tmp_path_factory.mktemp("practice-files")
    data.make_zip(home / "split-0", 0)
    return home


@pytest.fixture(scope="session")
def seed_practice_home(practice_files: Path) -> Callable[[Path], Path]:
    """A function that gives a home the zip of split 0 (as a hard link), so that a start takes a second."""

    def seed(home: Path) -> Path:
        linked = home / "split-0" / data.ZIP_NAME
        if not linked.exists():
            linked.parent.mkdir(parents=True, exist_ok=True)
            os.link(practice_files / "split-0" / data.ZIP_NAME, linked)
        return home

    return seed


@pytest.fixture(scope="session")
def _practice_starter(
    seed_practice_home: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., PracticeServer]:
    def start(
        home: Path | None = None, *, port: int = 0, faults: tuple[str, ...] = (), **options: float
    ) -> PracticeServer:
        home = seed_practice_home(home or tmp_path_factory.mktemp("practice"))
        options = {"score_seconds": 0.2, **options}
        command = [sys.executable, "-m", "infra.practice", "--home", str(home), "--port", str(port)]
        for name, value in options.items():
            command += [f"--{name.replace('_', '-')}", str(value)]
        for fault in faults:
            command += ["--fault", fault]
        log = home / "test-server.log"
        with log.open("ab") as output:
            process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)
        deadline = time.monotonic() + 60
        while not (record := read_record(home)) or record["pid"] != process.pid:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        account = json.loads((home / "credentials.json").read_text())
        return PracticeServer(home, process, record["url"], **account)

    return start


@pytest.fixture
def start_practice(
    _practice_starter: Callable[..., PracticeServer],
) -> Iterator[Callable[..., PracticeServer]]:
    """Start practice servers: `start_practice(home=…, port=…, daily_limit=…, faults=("slow:1",))`.

    All options of `python -m infra.practice`, with underscores; a fresh home unless given; a score takes
    0.2 s. All of them have ended after the test.
    """
    started: list[PracticeServer] = []

    def start(*args: Any, **options: Any) -> PracticeServer:
        started.append(_practice_starter(*args, **options))
        return started[-1]

    yield start
    for server in started:
        server.kill()


@pytest.fixture
def practice(start_practice: Callable[..., PracticeServer]) -> PracticeServer:
    """A practice server of this test's own, in a fresh home, with the default options."""
    return start_practice()


@pytest.fixture(scope="session")
def shared_practice(_practice_starter: Callable[..., PracticeServer]) -> Iterator[PracticeServer]:
    """One practice server for tests that leave no faults behind; 10,000 submissions a day."""
    server = _practice_starter(daily_limit=10_000)
    yield server
    server.kill()


@pytest.fixture(scope="session")
def prefect_api() -> Iterator[str]:
    """A real Prefect API on a database of its own; its address, for commands that run as processes."""
    os.environ.update(PREFECT_SERVER_ANALYTICS_ENABLED="false", DO_NOT_TRACK="1")
    from prefect.settings import PREFECT_API_URL
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield PREFECT_API_URL.value()
