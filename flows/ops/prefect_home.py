"""Prefect on this machine: its home, its API, its database. Prefect is not imported here.

Variables that are set already win: PREFECT_HOME and PREFECT_API_URL are used as they are.
"""

import base64
import contextlib
import importlib.util
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from types import FrameType

from flows.ops.daemon import without_credentials
from flows.ops.processes import is_alive
from flows.ops.server_settings import offer_login, temporary_server
from flows.ops.temporary_server import TemporaryServer
from flows.settings import Settings, SettingsError
from mnist_core._atomic import what_helps

PRINT_API = "from prefect.settings import Settings; print(Settings().api.url or '')"
"""Python code that prints the API that Prefect would use."""
STOP_S = 8
"""Seconds after which a stopped run that has not ended yet is ended."""


def prepare_prefect(settings: Settings) -> bool:
    """Put Prefect's home into MNIST_HOME; call it before Prefect is imported.

    If `make ui` runs a server in this home, its API is used, since two servers cannot share one database.

    Returns:
        Whether a temporary server is needed, because no other one was chosen.

    Raises:
        SettingsError: the home cannot be created or written to.
    """
    home = settings.home.absolute()
    try:
        create_writable(home)
        (home / "prefect").mkdir(exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"MNIST_HOME={settings.home}: {error.strerror}",
            what_helps(error, "MNIST_HOME"),
        ) from None
    defaults = {
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_LOGGING_EXTRA_LOGGERS": "mnist",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",  # lines before and after the flow's run
    }
    alone = False
    if (url := running_server(home / "prefect")) is not None:
        offer_login(home / "prefect", url)
        defaults["PREFECT_API_URL"] = url
    elif alone := chosen_api(defaults) is None:
        if "PREFECT_HOME" not in os.environ:  # another home's database is not ours to rename
            replace_unusable_database(home / "prefect" / "prefect.db")
            place_empty_database(home / "prefect" / "prefect.db")
        defaults |= temporary_server()
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    return alone


def create_writable(folder: Path) -> None:
    """Create a folder unless it exists, and check that files can be written in it.

    Raises:
        OSError: it cannot be created, or not be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f".write-{os.getpid()}"
    probe.write_bytes(b"x")
    probe.unlink()


def chosen_api(defaults: Mapping[str, str]) -> str | None:
    """Return the API that Prefect's own settings name: a variable, profile or file; None if none does.

    A process of its own reads files, because Prefect keeps what it reads when it is imported.

    Args:
        defaults: variables that this process will set unless they are set.
    """
    variables = defaults | os.environ
    if url := variables.get("PREFECT_API_URL"):
        return url
    files = ("prefect.toml", "pyproject.toml", ".env", Path(variables["PREFECT_HOME"]) / "profiles.toml")
    if "PREFECT_PROFILES_PATH" not in variables and not any(_mentions_prefect(Path(file)) for file in files):
        return None
    command = [sys.executable, "-c", PRINT_API]
    environment = without_credentials(variables)
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    return done.stdout.decode().strip() or None


def _mentions_prefect(file: Path) -> bool:
    try:
        text = file.read_bytes().lower()
    except OSError:
        return False
    return any(words in text for words in (b"prefect_", b"[api]", b"tool.prefect"))


def running_server(prefect_home: Path) -> str | None:
    """Return the API of the server that `make ui` started in this home, or None if none answers.

    Its process must run: after a reboot, something else may answer at its address, such as a port-forward to
    the server in the cloud, which must get neither the runs nor the login of this home.
    """
    if not is_alive(prefect_home, "server"):
        return None
    try:
        url = (prefect_home / "ui-url").read_text().strip()
    except (OSError, ValueError):
        return None
    return url if answers(url) else None


def answers(url: str) -> bool:
    """Return whether a Prefect API on this machine answers at a URL that ends in `/api`."""
    return _status(f"{url}/health", timeout_s=2) == HTTPStatus.OK


def status_of(url: str, login: str | None = None) -> int | None:
    """Return the HTTP status with which a Prefect API on this machine tells its version; None: no answer.

    Args:
        url: ends in `/api`.
        login: `user:password`; None: it is asked without one.
    """
    return _status(f"{url}/admin/version", login=login)


def is_busy(status: int | None) -> bool:
    """Return whether a server did not answer, or could not: it is down, starting, or has too much to do."""
    return (
        status is None or status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    )


def _status(url: str, *, login: str | None = None, timeout_s: float = 5) -> int | None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # it is on this machine
    if login is not None:
        opener.addheaders = [("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")]
    try:
        with opener.open(url, timeout=timeout_s) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except (OSError, ValueError, HTTPException):
        return None


# Stopping


def stop_in_time(last_words: str, server: TemporaryServer | None = None) -> None:
    """Let Ctrl-C and SIGTERM end the run in the same way, within `STOP_S` seconds.

    If ending takes too long (a server that does not answer), the process exits with `last_words` on stderr.

    Args:
        last_words: what a person reads then.
        server: of this run; it is killed then.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGALRM, give_up)
        signal.alarm(STOP_S)
        signal.default_int_handler(number, frame)

    def give_up(_number: int, _frame: FrameType | None) -> None:
        if server is not None:
            server.kill()
        os.write(2, f"{last_words}\n".encode())
        os._exit(1)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)


# The database


EMPTY_DATABASE = Path(sys.prefix) / "prefect.db"
"""A database without rows, of the Prefect that is installed; `make setup` makes it."""


def place_empty_database(path: Path, empty: Path = EMPTY_DATABASE) -> None:
    """Copy the empty database into a home without one: Prefect would take eight seconds to make its tables.

    One that a server has written meanwhile stays, and one of another version is left alone.
    """
    if path.exists() or not empty.exists() or _database_fault(empty) is not None:
        return
    copied = path.with_name(f"{path.name}.{os.getpid()}")
    with contextlib.suppress(OSError):  # Prefect then makes its own
        shutil.copyfile(empty, copied)
        with contextlib.suppress(FileExistsError):
            os.link(copied, path)
    copied.unlink(missing_ok=True)


def replace_unusable_database(path: Path) -> None:
    """Rename Prefect's database with a warning if Prefect could not open it; Prefect then creates a new one.

    The store is the source of truth, so nothing but the list of runs is lost.
    """
    fault = _database_fault(path)
    if fault is None:
        return
    aside = path.with_name(f"{path.name}.{datetime.now(UTC):%Y%m%dT%H%M%S}.damaged")
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    print(  # noqa: T201
        f"Prefect's database {path} cannot be opened ({fault}). It is now {aside.name}, and a new one "
        "is created: the UI no longer shows earlier runs; versions and champions are in the store",
        file=sys.stderr,
    )


def _database_fault(path: Path) -> str | None:
    """Return why the installed Prefect could not open a database; None if it could, or if there is none.

    It cannot if the file is damaged, or was written by a newer Prefect.
    """
    if not path.exists():
        return None
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as database:
            answer = str(database.execute("PRAGMA quick_check(1)").fetchone()[0])
            return answer if answer != "ok" else _revision_fault(database)
    except sqlite3.OperationalError as error:
        # Another run is using it, so it can be opened.
        locked = error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
        return None if locked else str(error)
    except sqlite3.DatabaseError as error:
        return str(error)


def _revision_fault(database: sqlite3.Connection) -> str | None:
    table = database.execute("SELECT name FROM sqlite_master WHERE name = 'alembic_version'").fetchone()
    row = database.execute("SELECT version_num FROM alembic_version").fetchone() if table else None
    if row is None or _prefect_knows(row[0]):  # without a revision Prefect starts from scratch
        return None
    return f"it was written by another version of Prefect (revision {row[0]})"


def _prefect_knows(revision: str) -> bool:
    """Return whether the installed Prefect has this migration of its database."""
    spec = importlib.util.find_spec("prefect")
    folders = spec.submodule_search_locations if spec else None
    return any(
        f'"{revision}"' in file.read_text()
        for folder in folders or ()
        for file in Path(folder).glob("server/database/_migrations/versions/sqlite/*.py")
    )
