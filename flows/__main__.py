"""The command line: `python -m flows nightly`, `train`, `submit`."""

import json
import logging
import os
import shlex
import signal
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

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)

Model = Annotated[str | None, typer.Option(help="What is trained: convnet, resnet18, scratch.")]
Preset = Annotated[str | None, typer.Option(help="How long: fast, balanced, best.")]
Device = Annotated[str | None, typer.Option(help="Where it is trained: auto, cpu, cuda.")]
Seed = Annotated[int | None, typer.Option(help="0 to 2^31-1; from night and attempt where not given.")]
Night = Annotated[str | None, typer.Option(help="UTC date of the night; today's where not given.")]
Fresh = Annotated[bool, typer.Option(help="Open the night's next attempt instead of going on.")]
Json = Annotated[bool, typer.Option("--json", help="End with one line of JSON on standard output.")]


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


def _run(run: Callable[[], dict[str, Any]], as_json: bool, **overrides: str | None) -> None:
    """Run a flow: its result on standard output, all else on standard error, and the exit code."""
    result: dict[str, Any] = dict.fromkeys(("night", "model", "version", "valid_accuracy"))
    result |= {"decision": "failed", "reason": "", "submission": None, "champion": None}
    try:
        settings = read_settings(**overrides)
        prepare_prefect(settings)
        stop_in_time()
        from flows import report

        report.log_to_terminal()
        result = run()
        code, last = 0, ""
    except SettingsError as error:
        code, last = 2, f"settings: {error}"
    except MnistError as error:
        code, last = 1, f"failed: {error}"
        result |= getattr(error, "result", {"submission": getattr(error, "submission", None)})
        if error.again:
            last += f". To go on: {_command_again()}"
    except KeyboardInterrupt:
        code, last = 1, _stopped()
    except OSError as error:
        code, last = (
            1,
            f"failed: {error.filename or ''}: {error.strerror or error}; make room, or mend its rights",
        )
    except Exception as error:
        logging.getLogger("mnist").exception("an error that nobody foresaw")
        code, last = (
            1,
            f"failed: {type(error).__name__}: {error}; this is a fault of the job, please report it",
        )
    if code:
        result["reason"] = last
    result.setdefault("seconds", {})["total"] = round(time.time() - STARTED, 3)
    if last:
        print(last, file=sys.stderr)  # noqa: T201  (the terminal is this module's job)
    if as_json:
        print(json.dumps(result), flush=True)  # noqa: T201
    raise typer.Exit(code)


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
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


def stop_in_time() -> None:
    """Let Ctrl-C and SIGTERM end the night the same way, within `STOP_S` seconds.

    A terminal sends Ctrl-C to all processes of the job. Prefect's temporary server gets a session of its own,
    so that the stopped run can still be recorded there; it ends with this process. Should that take too long
    (a server that does not answer), the process ends itself.
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
                options["start_new_session"] = True
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


def _stopped() -> str:
    return f"stopped. To go on: {_command_again()}"


def _command_again() -> str:
    """The command that goes on with this night, as it can be typed in this folder."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--fresh"]
    if "submit" not in arguments and not any(a.split("=")[0] == "--night" for a in arguments):
        arguments += ["--night", datetime.fromtimestamp(STARTED, UTC).date().isoformat()]
    home = [f"MNIST_HOME={os.environ['MNIST_HOME']}"] if "MNIST_HOME" in os.environ else []
    return shlex.join([*home, os.path.relpath(sys.executable), "-m", "flows", *arguments])


def main() -> None:
    """Console script `mnist-nightly`."""
    app()


if __name__ == "__main__":
    main()
