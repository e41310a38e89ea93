"""Find or start the one practice server of a home, and have it offer the job's competition.

Each job holds a shared lock on `jobs.lock` as long as it lives; the kernel releases it however the process
ends. The server tries to lock that file exclusively, twice a second: when it succeeds, no job is left, and it
ends while it holds the lock, so a job that starts at that moment waits and then starts a new server.
`start.lock` lets one job at a time look for a server and start one; `server.lock` shows whether one is alive.
"""

import fcntl
import http.client
import json
import logging
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from flows.ops.daemon import start_daemon, without_credentials
from infra.practice import catalog
from infra.practice.errors import PracticeError
from infra.practice.options import PracticeOptions
from mnist_core._atomic import what_helps
from mnist_core.spec import DIGIT_RECOGNIZER

log = logging.getLogger("mnist")
LOG_BYTES = 1_000_000
ROOT = Path(__file__).resolve().parents[2]

_here = threading.Lock()
_jobs: dict[Path, IO[str]] = {}
"""Open `jobs.lock` files: held until this process ends. Children that are exec'ed do not inherit them."""
_started: list[subprocess.Popen[bytes]] = []
"""Servers that this process started: kept, so that Python does not warn about them while they run on."""


@dataclass(frozen=True)
class Practice:
    """A running practice server and the account to use it with."""

    url: str
    username: str
    key: str = field(repr=False)
    token: str = field(repr=False)


@dataclass(frozen=True)
class Own:
    """A competition that is not built in.

    Attributes:
        spec_text: its specification, as TOML.
        labelled: the file of labelled rows that are dealt.
    """

    spec_text: str
    labelled: Path


@dataclass(frozen=True)
class ServerRecord:
    """A running server's description of itself."""

    url: str
    pid: int
    instance: str
    options: PracticeOptions


def find_or_start(
    home: Path,
    options: PracticeOptions = PracticeOptions(),  # noqa: B008 - frozen
    *,
    competition: str = DIGIT_RECOGNIZER.name,
    own: Own | None = None,
    timeout_s: float = 120,
) -> Practice:
    """Return the practice server of this home; start it if none runs. It ends when no job is left.

    The first use of a competition in a home makes its zip, which takes a few seconds for the large one. From
    this call on the process counts as a job until it ends, `kill -9` included.

    Args:
        home: the server's submissions, zips and credentials.
        options: how it deals, counts and scores.
        competition: opened before the server answers, so that what is wrong with it is reported here.
        own: specification and rows of a competition that is not built in; its name is `competition`.
        timeout_s: for other jobs that start and servers that end, and for the server to answer.

    Raises:
        PracticeError: there is no such competition, the server runs with other options, or it does not start
            (the text has the end of its log).
    """
    deadline = time.monotonic() + timeout_s
    try:
        home = home.resolve()
        home.mkdir(parents=True, exist_ok=True)
        with _here:
            _register_job(home, deadline)
            with (home / "start.lock").open("a") as lock:
                _flock(lock, fcntl.LOCK_EX, deadline, "another job to start the practice server")
                if own is not None:
                    catalog.offer(home, own.spec_text, own.labelled)
                if competition not in catalog.names(home):
                    raise PracticeError(
                        f"the practice server has no competition {competition!r}",
                        "set MNIST_SPEC and MNIST_PRACTICE_DATA to a competition of your own, or "
                        f"MNIST_COMPETITION to one of {', '.join(catalog.names(home))}",
                    )
                found = _find_or_start(home, options, competition, deadline)
        account = json.loads((home / "credentials.json").read_text())
    except OSError as error:
        raise PracticeError(
            f"the practice server's home {home} cannot be used: {error}",
            what_helps(error, "MNIST_HOME"),
        ) from error
    for setting, running, asked in options.conflicts(found.options):
        raise PracticeError(
            f"the practice server of {home} runs with {setting}={running:g}, not {asked:g}",
            f"set {setting}={running:g}, or stop the jobs that use it (server process {found.pid}), "
            "or use another MNIST_HOME",
        )
    return Practice(found.url, account["username"], account["key"], account["token"])


def read_record(home: Path) -> ServerRecord | None:
    """Return the record of this home's server; None if none answers."""
    try:
        record = json.loads((home / "server.json").read_text())
        url = urlsplit(record["url"])
        connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=5)
        try:
            connection.request("GET", "/practice")
            answer = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        # The port of a dead server may belong to another program by now.
        if answer["instance"] != record["instance"]:
            return None
        options = PracticeOptions.from_json(answer["options"])
        return ServerRecord(record["url"], answer["pid"], answer["instance"], options)
    except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException):
        return None


def server_lives(home: Path) -> bool:
    """Return whether a server holds this home, even if it is still starting or already ending."""
    with (home / "server.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _find_or_start(home: Path, options: PracticeOptions, competition: str, deadline: float) -> ServerRecord:
    process: subprocess.Popen[bytes] | None = None
    while True:
        found = read_record(home)
        if found:
            return found
        if process is None and not server_lives(home):
            process = _start(home, options, competition)
        if process is not None and process.poll() is not None:
            raise PracticeError("the practice server did not start", _log_end(home))
        if time.monotonic() > deadline:
            if process is not None:
                process.kill()
            raise PracticeError(f"the practice server of {home} does not answer", _log_end(home))
        time.sleep(0.1)


def _start(home: Path, options: PracticeOptions, competition: str) -> subprocess.Popen[bytes]:
    """Start a server in a session of its own, away from the job's terminal and signals."""
    log.info("starting the practice server")
    command = [sys.executable, "-m", "infra.practice", "--home", str(home), "--port", "0", "--while-jobs"]
    command += ["--competition", competition, *options.arguments()]
    process = start_daemon(
        command,
        home / "server.log",
        folder=ROOT,
        environment={**without_credentials(os.environ), "PYTHONUNBUFFERED": "1"},
        log_bytes=LOG_BYTES,
    )
    _started.append(process)
    return process


def _register_job(home: Path, deadline: float) -> None:
    """Hold `jobs.lock` shared for the life of this process."""
    path = home / "jobs.lock"
    held = _jobs.get(path)
    # The home may have been removed and created again since.
    if held and path.exists() and os.path.samestat(os.fstat(held.fileno()), path.stat()):
        return
    file = path.open("a")
    _flock(file, fcntl.LOCK_SH, deadline, "the last practice server to end")
    _jobs[path] = file


def _flock(file: IO[str], kind: int, deadline: float, what: str) -> None:
    while True:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise PracticeError(
                    f"waited too long for {what} ({file.name})", "try again later, or use another MNIST_HOME"
                ) from None
            time.sleep(0.05)
        else:
            return


def _log_end(home: Path) -> str:
    try:
        lines = (home / "server.log").read_text(errors="replace").splitlines()
    except OSError:
        return f"check that {home} can be written to: it has no server.log"
    return f"read {home / 'server.log'}, which ends: " + " | ".join(lines[-5:])
