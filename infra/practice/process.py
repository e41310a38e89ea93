"""Find or start the one practice server of a home.

Every job process holds a shared lock on `jobs.lock` as long as it lives; the kernel takes it back however
the process ends. The server asks for that lock alone, twice a second: when it gets it, no job is left, and it
ends with the lock in hand, so that a job that comes at this moment waits and then starts a fresh one.
`start.lock` lets one job at a time look and start; `server.lock` tells whether a server lives.
"""

import fcntl
import http.client
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from flows.ops.daemon import start_daemon
from infra.practice.errors import PracticeError

LOG_BYTES = 1_000_000
ROOT = Path(__file__).resolve().parents[2]

_here = threading.Lock()
_jobs: dict[Path, IO[str]] = {}
"""Open `jobs.lock` files: held until this process ends. Children that are exec'ed do not inherit them."""
_started: list[subprocess.Popen[bytes]] = []
"""Servers that this process started: kept, so that none is reported as forgotten while it runs on."""


@dataclass(frozen=True)
class Practice:
    """A running practice competition and the account to use it with."""

    url: str
    username: str
    key: str = field(repr=False)
    token: str = field(repr=False)


def find_or_start(
    home: Path,
    *,
    split_seed: int = 0,
    daily_limit: int = 10,
    day_seconds: float = 86400,
    score_seconds: float = 1.0,
    timeout_s: float = 120,
) -> Practice:
    """The practice competition of this home, started where none runs; it ends when no job is left.

    The first start in a home makes the competition's zip, which takes a few seconds. From this call on the
    process counts as a job until it ends, `kill -9` included.

    Raises:
        PracticeError: the server runs with other settings, or does not start; the text has its log's end.
    """
    asked = {"splitSeed": split_seed, "dailyLimit": daily_limit, "daySeconds": day_seconds}
    options = {
        "split-seed": split_seed,
        "daily-limit": daily_limit,
        "day-seconds": day_seconds,
        "score-seconds": score_seconds,
    }
    deadline = time.monotonic() + timeout_s
    try:
        home = home.resolve()
        home.mkdir(parents=True, exist_ok=True)
        with _here:
            _hold_job(home, deadline)
            with (home / "start.lock").open("a") as lock:
                _flock(lock, fcntl.LOCK_EX, deadline, "another job to start the practice server")
                found = _find_or_start(home, options, deadline)
        account = json.loads((home / "credentials.json").read_text())
    except OSError as error:
        raise PracticeError(f"the practice competition's home {home} can not be used: {error}") from error
    _check(home, asked, found)
    return Practice(found["url"], account["username"], account["key"], account["token"])


def read_record(home: Path) -> dict[str, Any] | None:
    """What the server of this home says of itself, with its `url`; None where none answers."""
    try:
        record = json.loads((home / "server.json").read_text())
        url = urlsplit(record["url"])
        connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=5)
        try:
            connection.request("GET", "/practice")
            said = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        # The port of a dead server may be somebody else's by now.
        return {**said, "url": record["url"]} if said["instance"] == record["instance"] else None
    except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException):
        return None


def server_lives(home: Path) -> bool:
    """Whether a server holds this home, be it still starting or already ending."""
    with (home / "server.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _find_or_start(home: Path, options: dict[str, float], deadline: float) -> dict[str, Any]:
    process: subprocess.Popen[bytes] | None = None
    while True:
        found = read_record(home)
        if found:
            return found
        if process is None and not server_lives(home):
            process = _start(home, options)
        if process is not None and process.poll() is not None:
            raise PracticeError(f"the practice server did not start; {_log_end(home)}")
        if time.monotonic() > deadline:
            if process is not None:
                process.kill()
            raise PracticeError(f"the practice server of {home} does not answer; {_log_end(home)}")
        time.sleep(0.1)


def _start(home: Path, options: dict[str, float]) -> subprocess.Popen[bytes]:
    """Start a server in a session of its own, away from the job's terminal and signals."""
    command = [sys.executable, "-m", "infra.practice", "--home", str(home), "--port", "0", "--while-jobs"]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    process = start_daemon(
        command,
        home / "server.log",
        folder=ROOT,
        environment={**os.environ, "PYTHONUNBUFFERED": "1"},
        log_bytes=LOG_BYTES,
    )
    _started.append(process)
    return process


def _hold_job(home: Path, deadline: float) -> None:
    """Hold `jobs.lock` shared for the life of this process."""
    path = home / "jobs.lock"
    held = _jobs.get(path)
    # The home may have been removed and made again since.
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
                raise PracticeError(f"waited too long for {what} ({file.name})") from None
            time.sleep(0.05)
        else:
            return


def _check(home: Path, asked: dict[str, float], found: dict[str, Any]) -> None:
    settings = {"splitSeed": "MNIST_SPLIT_SEED", "dailyLimit": "daily_limit", "daySeconds": "day_seconds"}
    for name, value in asked.items():
        if found[name] != value:
            raise PracticeError(
                f"the practice competition of {home} runs with {settings[name]}={found[name]:g}, "
                f"not {value:g}: set {settings[name]}={found[name]:g}, or end the jobs that use it "
                f"(server process {found['pid']}), or use another MNIST_HOME"
            )


def _log_end(home: Path) -> str:
    try:
        lines = (home / "server.log").read_text(errors="replace").splitlines()
    except OSError:
        return f"{home / 'server.log'} can not be read"
    return f"{home / 'server.log'} ends: " + " | ".join(lines[-5:])
