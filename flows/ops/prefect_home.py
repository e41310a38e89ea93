"""Prefect on this machine: its home, its temporary server, its database; before Prefect is imported.

What is set already wins: of `PREFECT_HOME` and `PREFECT_API_URL` each holds where the environment has it.
"""

import contextlib
import importlib.util
import os
import signal
import sqlite3
import subprocess
import sys
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from flows.settings import Settings, SettingsError

STOP_S = 8
"""Seconds after which a stopped night that has not ended yet ends itself."""

SERVER_THAT_ENDS_WITH_US = """
import os, runpy, signal, sys, threading, time

def watch():
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(5)
    os._exit(1)

threading.Thread(target=watch, daemon=True).start()
sys.argv[0] = "uvicorn"
runpy.run_module("uvicorn", run_name="__main__")
"""
"""Python that runs uvicorn, and ends when its standard input does."""


def prepare_prefect(settings: Settings) -> None:
    """Put Prefect's home under MNIST_HOME before Prefect is imported; what is set already wins.

    Where `make ui` has a server running on this home, its API is used: two servers on one database
    would be one too many. Else Prefect starts a temporary one, which ends with this process.

    Raises:
        SettingsError: the home can not be made or written.
    """
    home = settings.home.absolute()
    try:
        (home / "prefect").mkdir(parents=True, exist_ok=True)
        probe = home / f".write-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise SettingsError(
            f"MNIST_HOME={settings.home}: {error.strerror}; it must be a folder that you can write"
        ) from None
    defaults = {
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_LOGGING_EXTRA_LOGGERS": "mnist",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    }
    if (url := running_server(home / "prefect")) is not None:
        defaults["PREFECT_API_URL"] = url
    elif not {"PREFECT_API_URL", "PREFECT_HOME"} & os.environ.keys():
        set_aside_a_damaged_database(home / "prefect" / "prefect.db")
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


def stop_in_time(last_words: str) -> None:
    """Let Ctrl-C and SIGTERM end the night the same way, within `STOP_S` seconds.

    A terminal sends Ctrl-C to all processes of the job. Prefect's temporary server gets a session of its own,
    so that the stopped run can still be recorded there. It ends with this process, `kill -9` included: it
    reads from a pipe whose other end only this process holds. Should the end take too long (a server that
    does not answer), the process ends itself, with these last words.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGALRM, give_up)
        signal.alarm(STOP_S)
        signal.default_int_handler(number, frame)

    def give_up(_number: int, _frame: FrameType | None) -> None:
        for server in started:
            server.kill()
        os.write(2, f"{last_words}\n".encode())
        os._exit(1)

    started: list[subprocess.Popen[Any]] = []
    popen = subprocess.Popen

    class Popen(popen):  # type: ignore[misc, valid-type]
        def __init__(self, args: Any, **options: Any) -> None:
            if "prefect.server.api.server:create_app" in args:
                args = [args[0], "-c", SERVER_THAT_ENDS_WITH_US, *args[3:]]  # for -m uvicorn
                options |= {"start_new_session": True, "stdin": subprocess.PIPE}
                started.append(self)
            super().__init__(args, **options)

    subprocess.Popen = Popen  # type: ignore[misc, assignment]  # Prefect offers no other way to say it
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)


def running_server(prefect_home: Path) -> str | None:
    """The API of the server that `make ui` started on this home; None where none answers."""
    try:
        url = (prefect_home / "ui-url").read_text().strip()
        with urllib.request.urlopen(f"{url}/health", timeout=2):  # noqa: S310  (written by make ui)
            return url
    except (OSError, ValueError):
        return None


def set_aside_a_damaged_database(path: Path) -> None:
    """Rename Prefect's database, with a word, where it does not open: the store is the truth, not it.

    It does not open where SQLite finds it damaged, or where a newer Prefect than the installed one made it.
    """
    if not path.exists():
        return
    fault = None
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as database:
            answer = database.execute("PRAGMA quick_check(1)").fetchone()[0]
            fault = None if answer == "ok" else answer
            tables = database.execute("SELECT name FROM sqlite_master WHERE name = 'alembic_version'")
            if fault is None and tables.fetchone():
                row = database.execute("SELECT version_num FROM alembic_version").fetchone()
                if row is not None and not _prefect_knows(row[0]):  # without one Prefect begins anew
                    fault = f"another Prefect than the installed one made it (revision {row[0]})"
    except sqlite3.OperationalError as error:
        if "locked" in str(error):  # another night uses it, so it opens
            return
        fault = str(error)
    except sqlite3.DatabaseError as error:
        fault = str(error)
    if fault is None:
        return
    aside = path.with_name(f"{path.name}.{datetime.now(UTC):%Y%m%dT%H%M%S}.damaged")
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    print(  # noqa: T201
        f"Prefect's database {path} does not open ({fault}). It is {aside.name} now, and a new one is made: "
        "the runs that the UI showed are in it, versions and champions are in the store",
        file=sys.stderr,
    )


def _prefect_knows(revision: str) -> bool:
    """Whether the installed Prefect has this migration of its database; without importing it."""
    spec = importlib.util.find_spec("prefect")
    folders = spec.submodule_search_locations if spec else None
    return any(
        f'"{revision}"' in file.read_text()
        for folder in folders or ()
        for file in Path(folder).glob("server/database/_migrations/versions/sqlite/*.py")
    )
