"""The process that serves the practice competition: its home, port, account, and end."""

import asyncio
import fcntl
import json
import os
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import IO

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from infra.practice import data, ledger
from infra.practice.errors import PracticeError
from infra.practice.faults import Fault
from infra.practice.protocol import Competition, Credentials, build_app


class PracticeProtocol(H11Protocol):
    """uvicorn's HTTP/1.1, which lets the faults at the connection by `scope["state"]["transport"]`."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


def serve(
    home: Path,
    *,
    port: int,
    split_seed: int,
    daily_limit: int,
    day_seconds: float,
    score_seconds: float,
    faults: list[Fault],
    announce: Callable[[str], None],
    while_jobs: bool = False,
) -> None:
    """Serve the competition of this home on loopback until a signal, or until no job is left.

    Args:
        home: submissions, zips and credentials; one server at a time.
        port: 0 takes any free one.
        announce: called with the address once it is taken.
        while_jobs: end when nobody holds `jobs.lock`, with that lock held, so that a job that comes at this
            moment waits until this server is gone.

    Raises:
        PracticeError: the home can not be written or has a server, the port is taken, the data are damaged.
    """
    try:
        home.mkdir(parents=True, exist_ok=True)
        lock = (home / "server.lock").open("a")
        jobs = (home / "jobs.lock").open("a") if while_jobs else None
    except OSError as error:
        raise PracticeError(
            f"home {home} can not be written ({error.strerror}): choose another one"
        ) from error
    with lock:
        _take_home(lock, home)
        with _bind(port) as listener:
            at = _prepare(home, split_seed, daily_limit, day_seconds, score_seconds, faults)
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            listener.listen(128)
            record = {"url": url, "pid": os.getpid(), "instance": at.instance}
            _write(home / "server.json", json.dumps(record))
            announce(url)
            config = uvicorn.Config(
                build_app(at),
                http=PracticeProtocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=0,  # what is under way has 0.1 s
            )
            asyncio.run(_run(uvicorn.Server(config), listener, jobs))


async def _run(server: uvicorn.Server, listener: socket.socket, jobs: IO[str] | None) -> None:
    watch = asyncio.create_task(_end_with_the_jobs(server, jobs)) if jobs else None
    await server.serve(sockets=[listener])
    if watch:
        watch.cancel()


async def _end_with_the_jobs(server: uvicorn.Server, jobs: IO[str]) -> None:
    while not _lock(jobs):
        await asyncio.sleep(0.5)
    server.should_exit = True


def _take_home(lock: IO[str], home: Path) -> None:
    # A job that looks whether a server lives holds the lock for a moment: hence more than one try.
    for _ in range(10):
        if _lock(lock):
            return
        time.sleep(0.1)
    raise PracticeError(
        f"a practice server runs in home {home} already (see {home / 'server.json'}): use or end that one, "
        "or choose another --home"
    )


def _lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _bind(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError as error:
        listener.close()
        raise PracticeError(
            f"port {port} on 127.0.0.1 is taken or refused ({error.strerror}): choose another --port, or 0"
        ) from error
    return listener


def _prepare(
    home: Path,
    split_seed: int,
    daily_limit: int,
    day_seconds: float,
    score_seconds: float,
    faults: list[Fault],
) -> Competition:
    folder = home / f"split-{split_seed}"
    try:
        data.make_zip(folder, split_seed)
        return Competition(
            folder=folder,
            credentials=_credentials(home),
            solution=data.solve(split_seed),
            submissions=ledger.open_ledger(folder / "submissions.sqlite3", time.time_ns() // 1_000_000),
            split_seed=split_seed,
            daily_limit=daily_limit,
            day_seconds=day_seconds,
            score_seconds=score_seconds,
            faults=faults,
        )
    except OSError as error:
        raise PracticeError(
            f"home {home} can not be used ({error}): make room, or choose another one"
        ) from error


def _credentials(home: Path) -> Credentials:
    """The account of this home; the token also alone, in the form that KAGGLE_API_TOKEN takes as a path."""
    path = home / "credentials.json"
    if not path.exists():
        made = Credentials("practice", secrets.token_hex(16), f"KGAT_{secrets.token_hex(16)}")
        _write(home / "access_token", made.token)
        _write(path, json.dumps(asdict(made)))
    try:
        return Credentials(**json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise PracticeError(f"{path} holds no credentials: remove it, and new ones are made") from error


def _write(path: Path, text: str) -> None:
    """A whole file or none, readable by its owner only."""
    part = data.temporary(path)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.rename(path)
