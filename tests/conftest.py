"""Fixtures that several folders use: practice servers, files made once for all workers, Prefect's API, S3."""

import fcntl
import os
import shutil
import subprocess
import sys
import uuid
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import certifi
import pytest

from flows import environment
from flows.ops.temporary_server import TemporaryServer
from infra.practice import data, labelled
from mnist_core.spec import DIGIT_RECOGNIZER, DIGITS_MINI, SPECS, CompetitionSpec
from tests.practice_server import Forks, PracticeServer, start_server
from tests.s3_server import S3Server, moto
from tests.seaweedfs import SeaweedFS
from tests.socks_server import SocksServer

LONGEST = (
    {"chaos"},
    {"e2e"},
    {"test_nightly", "test_ensemble", "test_nightly_alarm", "test_nightly_submission", "test_nightly_gate"},
    {"models", "test_parity", "test_inference", "test_pools", "test_orchestration", "test_guide"},
)
"""Folders and files whose tests take longest; each set is begun by a process of its own."""


EIGHT_BY_EIGHT = """
name = "eight-by-eight"
source = "labelled.csv"
classes = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]
shape = [8, 8, 1]
value_range = [0, 16]

[columns]
label = "label"

[submission]
header = ["id", "label"]

[training]
least_rows = 5000
"""


@pytest.hookimpl(trylast=True)  # after tests are deselected
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Deal the longest tests to the processes that share them, so that all end together.

    Each process begins with an equal number of tests, in their order, and takes others' last ones when it has
    none left. With its long tests first it keeps them, and their fixtures, and gives short ones away.
    """
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    dealt: list[list[pytest.Item]] = [[] for _ in range(processes)]
    others: list[pytest.Item] = []
    for item in items:
        names = {*item.path.parts, item.path.stem}
        sets = [number for number, longest in enumerate(LONGEST) if longest & names]
        (dealt[sets[0] % processes] if sets else others).append(item)
    count = len(items)
    items.clear()
    for number, long in enumerate(dealt):
        size = (count - len(items)) // (processes - number)
        items += long + others[: max(0, size - len(long))]
        del others[: max(0, size - len(long))]
    items += others


@pytest.fixture(autouse=True)
def no_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never read the `.env`, or use the home, of the clone that the tests are in."""
    monkeypatch.setattr(environment, "CHECKOUT", None)


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
        rows = None if spec.name in SPECS else labelled.read(Path(spec.source), spec)
        folder = make_once(f"zip-{spec.name}", lambda part: data.make_zip(part, 0, spec, rows))
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
def eight_by_eight(make_once: Callable[..., Path]) -> Path:
    """The specification of a competition of 8 × 8 digits, which is not built in; its rows lie beside it."""

    def fill(folder: Path) -> None:
        from sklearn.datasets import load_digits

        found = load_digits()
        header = ",".join(["label", *(f"pixel{number}" for number in range(64))])
        rows = [
            ",".join(map(str, [label, *pixels]))
            for label, pixels in zip(found.target, found.data.astype(int), strict=True)
        ]
        (folder / "labelled.csv").write_text("\n".join([header, *rows, ""]))
        (folder / "spec.toml").write_text(EIGHT_BY_EIGHT)

    return make_once("eight-by-eight", fill) / "spec.toml"


@pytest.fixture(scope="session")
def seed_practice_home(
    practice_zip: Callable[[CompetitionSpec], Path],
) -> Callable[..., Path]:
    """Give a home a competition's zip of split 0 (as a hard link), so that a server starts in a second."""

    def seed(home: Path, competition: str = DIGITS_MINI.name) -> Path:
        made = practice_zip(SPECS[competition])
        linked = home / "split-0" / made.name
        if not linked.exists():
            linked.parent.mkdir(parents=True, exist_ok=True)
            os.link(made, linked)
        return home

    return seed


@pytest.fixture(scope="session")
def _forks() -> Iterator[Forks]:
    forks = Forks()
    yield forks
    forks.stop()


@pytest.fixture
def start_practice(
    _forks: Forks, seed_practice_home: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., PracticeServer]]:
    """Start practice servers: `start_practice(home=…, competition=…, daily_limit=…, faults=("slow:1",))`.

    All options of `python -m infra.practice`, with underscores. Unless given: a fresh home, the small
    competition, a score after 0.2 s. `spec=PATH` is a competition that is not built in. `forked=False` runs
    the command itself. They end with the test.
    """
    started: list[PracticeServer] = []

    def start(
        home: Path | None = None,
        *,
        competition: str = DIGITS_MINI.name,
        spec: Path | None = None,
        forked: bool = True,
        **options: Any,
    ) -> PracticeServer:
        home = home or tmp_path_factory.mktemp("practice")
        if spec is None:
            seed_practice_home(home, competition)
        forks = _forks if forked else None
        started.append(start_server(forks, home, competition=competition, spec=spec, **options))
        return started[-1]

    yield start
    for server in started:
        server.kill()


@pytest.fixture(scope="session")
def shared_practice(
    _forks: Forks, seed_practice_home: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PracticeServer]:
    """A server of the large competition for tests that leave no faults behind; 10,000 submissions a day."""
    home = seed_practice_home(tmp_path_factory.mktemp("practice"), DIGIT_RECOGNIZER.name)
    server = start_server(_forks, home, competition=DIGIT_RECOGNIZER.name, daily_limit=10_000)
    yield server
    server.kill()


@pytest.fixture(scope="session")
def seed_prefect_home(make_once: Callable[..., Path]) -> Callable[..., Path]:
    """Give a folder Prefect's empty database, so that a server does not spend five seconds on its tables."""

    def create(folder: Path) -> None:
        command = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"]
        url = f"sqlite+aiosqlite:///{folder / 'prefect.db'}"
        variables = {"PREFECT_HOME": str(folder), "PREFECT_SERVER_DATABASE_CONNECTION_URL": url}
        subprocess.run(command, env=os.environ | variables, check=True, capture_output=True)

    def seed(folder: Path, name: str = "prefect.db") -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(make_once("prefect-home", create) / "prefect.db", folder / name)
        return folder

    return seed


async def _send_what_waits() -> None:
    """Send the logs and events that Prefect's threads still hold."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for worker in (APILogWorker, EventsWorker):
        sending = worker.drain_all()
        if sending is not None:
            await sending


@pytest.fixture(scope="session")
def serve_prefect(
    seed_prefect_home: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[bool], AbstractContextManager[str]]:
    """Run a real Prefect API on a database of its own, in a `with` block that is given its address.

    Flows and clients of this process use it until the end of the block. Without events it keeps no task runs
    either; both would double what a night costs it.
    """

    @contextmanager
    def serve(events: bool) -> Iterator[str]:
        from prefect import context, settings
        from prefect.utilities.asyncutils import run_coro_as_sync

        folder = seed_prefect_home(tmp_path_factory.mktemp("prefect"))
        variables = {
            "DO_NOT_TRACK": "1",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{folder / 'prefect.db'}",
            "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_ENABLED": str(events),
            "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": str(events),
            "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_ENABLED": str(events),
        }
        with pytest.MonkeyPatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            server = TemporaryServer()
        end = "-----END CERTIFICATE-----\n"
        certificate = folder / "certificate.pem"  # one: a client takes 24 ms to read all of certifi's
        certificate.write_text(Path(certifi.where()).read_text().partition(end)[0] + end)
        server.wait()
        with (
            settings.temporary_settings(
                {settings.PREFECT_API_URL: server.url, settings.PREFECT_API_SSL_CERT_FILE: str(certificate)}
            ),
            # For threads too, as Prefect's test harness does; that one imports the whole server.
            context._temporary_global_settings_context(context.get_settings_context()),
        ):
            yield server.url
            run_coro_as_sync(_send_what_waits())
        server.end()

    return serve


@pytest.fixture(scope="session")
def prefect_api(serve_prefect: Callable[[bool], AbstractContextManager[str]]) -> Iterator[str]:
    """A real Prefect API without events, for flows in this process; its address, for commands."""
    with serve_prefect(False) as url:
        yield url


@pytest.fixture(scope="module")
def prefect_events_api(serve_prefect: Callable[[bool], AbstractContextManager[str]]) -> Iterator[str]:
    """A real Prefect API with events, for a file of tests that read them."""
    with serve_prefect(True) as url:
        yield url


@pytest.fixture(scope="session")
def _moto() -> Iterator[S3Server]:
    server = S3Server("moto", moto())
    yield server
    server.stop()


@pytest.fixture(scope="session")
def _seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    behind = SeaweedFS(tmp_path_factory.mktemp("seaweedfs"))
    server = S3Server("seaweedfs", behind)
    yield server
    server.stop()
    behind.stop()


@pytest.fixture
def start_s3(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], S3Server]]:
    """Point the AWS variables at an S3 server with an empty bucket: `start_s3("moto")`, or `"seaweedfs"`."""
    started: list[S3Server] = []

    def start(name: str) -> S3Server:
        server: S3Server = request.getfixturevalue(f"_{name}")
        for variable in list(os.environ):
            if variable.startswith("AWS_"):
                monkeypatch.delenv(variable)
        for variable, value in {
            "AWS_ENDPOINT_URL": server.url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(variable, value)
        server.reset()
        server.bucket = f"test-{uuid.uuid4().hex[:12]}"
        server.client.create_bucket(Bucket=server.bucket)
        server.requests.clear()
        started.append(server)
        return server

    yield start
    for server in started:
        server.reset()
        if server.name == "seaweedfs":  # where each bucket has a file of its own
            server.client.delete_bucket(Bucket=server.bucket)


@pytest.fixture
def socks_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[[dict[str, tuple[str, int]]], SocksServer]]:
    """Start a SOCKS proxy that knows hosts nobody else knows; no other proxy is set in the environment."""
    for variable in list(os.environ):
        if variable.lower().endswith("_proxy"):
            monkeypatch.delenv(variable)
    started: list[SocksServer] = []

    def start(hosts: dict[str, tuple[str, int]]) -> SocksServer:
        started.append(SocksServer(hosts))
        return started[-1]

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def s3(start_s3: Callable[[str], S3Server]) -> S3Server:
    """An S3 server with an empty bucket, that the AWS variables point at."""
    return start_s3("moto")
