"""The command line: `python -m flows nightly | train | submit | status | versions | rollback | prune`."""

import contextlib
import importlib.util
import json
import logging
import os
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from flows import STARTED
from flows.settings import Settings, SettingsError, read_settings
from mnist_core.errors import MnistError

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

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)

Model = Annotated[str | None, typer.Option(help="What is trained: convnet, resnet18, scratch.")]
Preset = Annotated[str | None, typer.Option(help="How long: fast, balanced, best.")]
Device = Annotated[str | None, typer.Option(help="Where it is trained: auto, cpu, cuda.")]
Seed = Annotated[int | None, typer.Option(help="0 to 2^31-1; from night and attempt where not given.")]
Night = Annotated[str | None, typer.Option(help="UTC date of the night; today's where not given.")]
Fresh = Annotated[bool, typer.Option(help="Open the night's next attempt instead of going on.")]
Json = Annotated[bool, typer.Option("--json", help="End with one line of JSON on standard output.")]
OneJson = Annotated[bool, typer.Option("--json", help="One line of JSON instead.")]


@app.command()
def nightly(
    model: Model = None,
    preset: Preset = None,
    device: Device = None,
    seed: Seed = None,
    night: Night = None,
    fresh: Fresh = False,
    dry_run: Annotated[
        bool, typer.Option(help="Stop after the gate: nothing promoted, nothing posted.")
    ] = False,
    force: Annotated[bool, typer.Option(help="Pass the gate; the format is checked all the same.")] = False,
    as_json: Json = False,
) -> None:
    """Train, predict, pass the gate, submit, read the score."""

    def run() -> dict[str, Any]:
        from flows.nightly import nightly

        return nightly(night, model, preset, seed, device, fresh, dry_run, force)

    _run(run, as_json, model=model, preset=preset, device=device)


@app.command()
def train(
    model: Model = None,
    preset: Preset = None,
    device: Device = None,
    seed: Seed = None,
    night: Night = None,
    fresh: Fresh = False,
    as_json: Json = False,
) -> None:
    """Train a version and publish it."""

    def run() -> dict[str, Any]:
        from flows.train import train

        return train(night, model, preset, seed, device, fresh=fresh)

    _run(run, as_json, model=model, preset=preset, device=device)


@app.command()
def submit(
    version: Annotated[str | None, typer.Option(help="Its name; the champion where not given.")] = None,
    as_json: Json = False,
) -> None:
    """Submit a version, unless the competition has these predictions already."""

    def run() -> dict[str, Any]:
        from flows.submit import submit

        return submit(version)

    _run(run, as_json)


@app.command()
def status(as_json: OneJson = False) -> None:
    """The last nights, the champion, submissions that are pending or unknown, and today's quota."""
    _ask(lambda oncall, settings: oncall.status(settings), as_json)


@app.command()
def versions(as_json: OneJson = False) -> None:
    """All versions with their scores."""
    _ask(lambda oncall, settings: oncall.versions(settings), as_json)


@app.command()
def rollback(as_json: OneJson = False) -> None:
    """Give the title back to the champion before; nothing is posted."""
    _ask(lambda oncall, settings: oncall.rollback(settings), as_json)


@app.command()
def prune(
    keep: Annotated[int, typer.Option(min=1, help="So many versions stay, the last ones.")] = 30,
    as_json: OneJson = False,
) -> None:
    """Delete old versions that are no recent champions, and objects that no version names."""
    _ask(lambda oncall, settings: oncall.prune(settings, keep), as_json)


def _ask(ask: Callable[[Any, Settings], dict[str, Any]], as_json: bool) -> None:
    """Run a call of `flows.oncall`: what it tells on standard output, and the exit code."""
    told: dict[str, Any] = {}

    def run() -> None:
        from flows import oncall

        told.update(ask(oncall, read_settings()))
        if not as_json:
            from rich.console import Console

            for part in oncall.show(told):
                Console().print(part)

    code, last, _ = _ending(run)
    if last:
        print(last, file=sys.stderr)  # noqa: T201
    if as_json:
        print(json.dumps({"error": last} if code else told), flush=True)  # noqa: T201
    raise typer.Exit(code)


def _run(run: Callable[[], dict[str, Any]], as_json: bool, **overrides: str | None) -> None:
    """Run a flow: its result on standard output, all else on standard error, and the exit code."""
    result: dict[str, Any] = dict.fromkeys(("night", "model", "version", "valid_accuracy"))
    result |= {"decision": "failed", "reason": "", "submission": None, "champion": None}

    def prepared() -> None:
        prepare_prefect(read_settings(**overrides))
        stop_in_time()
        from flows import report

        report.log_to_terminal()
        result.update(run())

    code, last, error = _ending(prepared)
    if isinstance(error, MnistError):
        result |= getattr(error, "result", {"submission": getattr(error, "submission", None)})
    if code:
        result["reason"] = last
    result.setdefault("seconds", {})["total"] = round(time.time() - STARTED, 3)
    if last:
        print(last, file=sys.stderr)  # noqa: T201  (the terminal is this module's job)
    if as_json:
        print(json.dumps(result), flush=True)  # noqa: T201
    raise typer.Exit(code)


def _ending(run: Callable[[], None]) -> tuple[int, str, BaseException | None]:
    """Run something to its end: the exit code, the last line for a person, and the error behind them."""
    try:
        run()
    except SettingsError as error:
        return 2, f"settings: {error}", error
    except MnistError as error:
        go_on = f". To go on: {_command_again()}" if error.again else ""
        return 1, f"failed: {error}{go_on}", error
    except KeyboardInterrupt as error:
        return 1, _stopped(), error
    except OSError as error:
        what = f"{error.filename or ''}: {error.strerror or error}"
        return 1, f"failed: {what}; make room, or mend its rights", error
    except Exception as error:
        logging.getLogger("mnist").exception("an error that nobody foresaw")
        what = f"{type(error).__name__}: {error}"
        return 1, f"failed: {what}; this is a fault of the job, please report it", error
    return 0, "", None


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


def stop_in_time() -> None:
    """Let Ctrl-C and SIGTERM end the night the same way, within `STOP_S` seconds.

    A terminal sends Ctrl-C to all processes of the job. Prefect's temporary server gets a session of its own,
    so that the stopped run can still be recorded there. It ends with this process, `kill -9` included: it
    reads from a pipe whose other end only this process holds. Should the end take too long (a server that
    does not answer), the process ends itself.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGALRM, give_up)
        signal.alarm(STOP_S)
        signal.default_int_handler(number, frame)

    def give_up(_number: int, _frame: FrameType | None) -> None:
        for server in started:
            server.kill()
        os.write(2, f"{_stopped()}\n".encode())
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
                [revision] = database.execute("SELECT version_num FROM alembic_version").fetchone()
                if not _prefect_knows(revision):
                    fault = f"another Prefect than the installed one made it (revision {revision})"
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


def _stopped() -> str:
    return f"stopped. To go on: {_command_again()}"


def _command_again() -> str:
    """The command that goes on with this night, as it can be typed in this folder."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--fresh"]
    if {"nightly", "train"} & set(arguments) and not any(a.split("=")[0] == "--night" for a in arguments):
        arguments += ["--night", datetime.fromtimestamp(STARTED, UTC).date().isoformat()]
    home = [f"MNIST_HOME={os.environ['MNIST_HOME']}"] if "MNIST_HOME" in os.environ else []
    return shlex.join([*home, os.path.relpath(sys.executable), "-m", "flows", *arguments])


def main() -> None:
    """Console script `mnist-nightly`."""
    app()


if __name__ == "__main__":
    main()
