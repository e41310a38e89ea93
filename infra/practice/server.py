"""The process of a practice server: its home, port, account and end."""

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

from infra.practice import ledger
from infra.practice.app import build_app
from infra.practice.catalog import Offer
from infra.practice.competition import Credentials, Server, now_ms
from infra.practice.errors import PracticeError
from infra.practice.faults import Fault
from infra.practice.options import PracticeOptions
from mnist_core._atomic import atomic_write


class PracticeProtocol(H11Protocol):
    """uvicorn's HTTP/1.1, which hands the connection to the faults as `scope["state"]["transport"]`."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, and keep its transport for the faults."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


def serve(
    home: Path,
    opened: Offer,
    options: PracticeOptions,
    *,
    port: int,
    faults: list[Fault],
    announce: Callable[[str], None],
    while_jobs: bool = False,
) -> None:
    """Serve the competitions of this home on loopback until a signal, or until no job is left.

    Args:
        home: submissions, zips and credentials; one server at a time.
        opened: the competition that is opened before the server answers; others open on their first call.
        options: how it deals, counts and scores.
        port: 0 takes any free one.
        faults: what goes wrong from the start.
        announce: called with the address once it is taken.
        while_jobs: end when nobody holds `jobs.lock`. The lock is held during the end, so that a job that
            starts at this moment waits until this server is gone.

    Raises:
        PracticeError: the home cannot be written or has a server, the port is taken, the data are damaged.
    """
    try:
        home.mkdir(parents=True, exist_ok=True)
        lock = (home / "server.lock").open("a")
        jobs = (home / "jobs.lock").open("a") if while_jobs else None
    except OSError as error:
        raise PracticeError(f"home {home} cannot be written ({error.strerror})", "choose another") from error
    with lock:
        _take_home(lock, home)
        with _bind(port) as listener:
            server = open_server(home, opened, options, faults)
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            listener.listen(128)
            record = {"url": url, "pid": os.getpid(), "instance": server.instance}
            _write(home / "server.json", json.dumps(record))
            announce(url)
            config = uvicorn.Config(
                build_app(server),
                http=PracticeProtocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=0,  # requests in progress have 0.1 s
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
    # A job that checks whether a server is alive holds the lock for a moment, so more than one try is needed.
    for _ in range(10):
        if _lock(lock):
            return
        time.sleep(0.1)
    raise PracticeError(
        f"a practice server already runs in home {home} (see {home / 'server.json'})",
        "use that one, stop it, or choose another --home",
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
            f"port {port} on 127.0.0.1 is taken or refused ({error.strerror})", "choose another --port, or 0"
        ) from error
    return listener


def open_server(
    home: Path, opened: Offer, options: PracticeOptions, faults: list[Fault] | None = None
) -> Server:
    """Return the state of a home's server, with its account, its submissions and one open competition.

    Raises:
        PracticeError: the home cannot be written, the submissions cannot be read, or the data are damaged.
    """
    folder = home / f"split-{options.split_seed}"
    try:
        folder.mkdir(exist_ok=True)
        submissions = ledger.open_ledger(folder / "submissions.sqlite3", now_ms())
        server = Server(home, folder, _credentials(home), options, submissions, faults or [])
        server.open(opened)
    except OSError as error:
        raise PracticeError(
            f"home {home} cannot be used ({error})", "free disk space, or choose another"
        ) from error
    return server


def _credentials(home: Path) -> Credentials:
    """Return this home's account; its token is also a file of its own, as KAGGLE_API_TOKEN accepts it."""
    path = home / "credentials.json"
    if not path.exists():
        made = Credentials("practice", secrets.token_hex(16), f"KGAT_{secrets.token_hex(16)}")
        _write(home / "access_token", made.token)
        _write(path, json.dumps(asdict(made)))
    try:
        return Credentials(**json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise PracticeError(f"{path} holds no credentials", "remove it, and new ones are made") from error


def _write(path: Path, text: str) -> None:
    """Write a whole file or none, which only its owner may read."""
    with atomic_write(path, sync=True, mode=0o600) as file:
        file.write(text.encode())
