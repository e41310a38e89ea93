"""Fixtures that several folders use: practice servers, each a process of its own, and a Prefect API."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from infra.practice import data
from infra.practice.process import read_record
from mnist_core.spec import DIGIT_RECOGNIZER, SPECS, CompetitionSpec

ROOT = Path(__file__).parents[1]


@dataclass
class PracticeServer:
    """A practice server that a test started, and short ways to call it without the Kaggle client.

    Calls are about one competition, the one that it was started with.
    """

    home: Path
    process: "subprocess.Popen[bytes]" = field(repr=False)
    url: str
    username: str
    key: str = field(repr=False)
    token: str = field(repr=False)
    spec: CompetitionSpec = DIGIT_RECOGNIZER

    @property
    def pid(self) -> int:
        """The server's process."""
        return self.process.pid

    @property
    def archive(self) -> Path:
        """The competition's zip, if the server deals split 0."""
        return self.home / "split-0" / data.zip_name(self.spec)

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        """A plain request with the account's username and key; no environment, no proxy, no retry."""
        with requests.Session() as session:
            session.trust_env = False
            options = {"auth": (self.username, self.key), "timeout": 10, **options}
            return session.request(method, self.url + path, **options)

    def call(self, rpc: str, **fields: Any) -> requests.Response:
        """One call of the competition's service."""
        asked = {"competitionName": self.spec.name, **fields}
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
def make_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """Make a folder of files once for all workers: `make_once("bundle", fill)` returns the filled folder.

    Each worker process has a session of its own, so a lock in the folder that all of them share decides who
    makes it; a folder is complete once it has its final name.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent

    def make(name: str, fill: Callable[[Path], object]) -> Path:
        made = shared / f"made-{name}"
        with (shared / f"made-{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not made.exists():
                part = tmp_path_factory.mktemp(name)
                fill(part)
                part.rename(made)
        return made

    return make


@pytest.fixture(scope="session")
def practice_zip(make_once: Callable[..., Path]) -> Callable[[CompetitionSpec], Path]:
    """Return a competition's zip of split 0, made once for the session: `practice_zip(DIGITS_MINI)`."""

    def zip_of(spec: CompetitionSpec) -> Path:
        folder = make_once(f"zip-{spec.name}", lambda part: data.make_zip(part, 0, spec))
        return folder / data.zip_name(spec)

    return zip_of


@pytest.fixture(scope="session")
def unpack(make_once: Callable[..., Path], practice_zip: Callable[..., Path]) -> Callable[..., Path]:
    """Return a folder with a competition's CSV files of split 0: `unpack(DIGITS_MINI)`."""

    def folder_of(spec: CompetitionSpec) -> Path:
        def fill(folder: Path) -> None:
            with zipfile.ZipFile(practice_zip(spec)) as archive:
                archive.extractall(folder)

        return make_once(f"unpacked-{spec.name}", fill)

    return folder_of


@pytest.fixture(scope="session")
def seed_practice_home(
    practice_zip: Callable[[CompetitionSpec], Path],
) -> Callable[..., Path]:
    """Give a home a competition's zip of split 0 (as a hard link), so that a server starts in a second."""

    def seed(home: Path, competition: str = DIGIT_RECOGNIZER.name) -> Path:
        made = practice_zip(SPECS[competition])
        linked = home / "split-0" / made.name
        if not linked.exists():
            linked.parent.mkdir(parents=True, exist_ok=True)
            os.link(made, linked)
        return home

    return seed


@pytest.fixture(scope="session")
def _practice_starter(
    seed_practice_home: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., PracticeServer]:
    def start(
        home: Path | None = None,
        *,
        competition: str = DIGIT_RECOGNIZER.name,
        port: int = 0,
        faults: tuple[str, ...] = (),
        **options: float,
    ) -> PracticeServer:
        home = seed_practice_home(home or tmp_path_factory.mktemp("practice"), competition)
        options = {"score_seconds": 0.2, **options}
        command = [sys.executable, "-m", "infra.practice", "--home", str(home), "--port", str(port)]
        command += ["--competition", competition]
        for name, value in options.items():
            command += [f"--{name.replace('_', '-')}", str(value)]
        for fault in faults:
            command += ["--fault", fault]
        log = home / "test-server.log"
        with log.open("ab") as output:
            process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)
        deadline = time.monotonic() + 60
        while not (record := read_record(home)) or record.pid != process.pid:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        account = json.loads((home / "credentials.json").read_text())
        return PracticeServer(home, process, record.url, **account, spec=SPECS[competition])

    return start


@pytest.fixture
def start_practice(
    _practice_starter: Callable[..., PracticeServer],
) -> Iterator[Callable[..., PracticeServer]]:
    """Start practice servers: `start_practice(home=…, competition=…, daily_limit=…, faults=("slow:1",))`.

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


class S3Server:
    """moto's S3 over HTTP, one request at a time, with a bucket and with faults on request.

    Attributes:
        bucket: of this test alone.
        client: boto3's, past the code under test.
        faults: what the next requests meet, in order: `403`, `409`, `500`, `503` in place of an answer;
            `reset`, the connection closes; `lost`, it closes after the request was carried out; `cut`, in
            mid-answer; `silent`, no answer for a second; `overwrite`, a put is done though its key is taken;
            nothing, where one is passed over.
    """

    def __init__(self) -> None:
        import logging

        from moto.server import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self.faults: list[str] = []
        self.bucket = ""
        self.client: Any = None
        self._app = DomainDispatcherApplication(create_backend_app)
        self._one_at_a_time = threading.Lock()
        self._server = make_server("127.0.0.1", 0, self, threaded=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request, rightly or as the next fault says."""
        fault = self.faults.pop(0) if self.faults else ""
        if fault.isdigit():
            code = {
                "403": "AccessDenied",
                "409": "ConditionalRequestConflict",
                "500": "InternalError",
                "503": "SlowDown",
            }[fault]
            body = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()
            start_response(f"{fault} {code}", [("Content-Type", "application/xml")])
            return [body]
        if fault == "silent":
            time.sleep(1)
        if fault in ("reset", "silent"):
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            return []
        if fault == "overwrite":
            del environ["HTTP_IF_NONE_MATCH"]
        with self._one_at_a_time:
            body = b"".join(self._app(environ, start_response))
        if fault == "cut":
            body = body[: len(body) // 2]
        if fault == "lost":
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        return [body]

    def stop(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="session")
def _s3_server() -> Iterator[S3Server]:
    server = S3Server()
    yield server
    server.stop()


@pytest.fixture
def s3(_s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """An S3 server with an empty bucket, that the AWS variables point at."""
    import boto3

    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name, value in {
        "AWS_ENDPOINT_URL": _s3_server.url,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    _s3_server.faults.clear()
    _s3_server.client = boto3.client("s3", region_name="us-east-1")
    _s3_server.bucket = f"test-{uuid.uuid4().hex[:12]}"
    _s3_server.client.create_bucket(Bucket=_s3_server.bucket)
    return _s3_server
