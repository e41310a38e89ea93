"""The command line, `python -m flows`: nightly, train, submit; status, versions, rollback, prune, doctor."""

import json
import logging
import os
import shlex
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from flows import STARTED
from flows.ops.prefect_home import prepare_prefect, stop_in_time
from flows.records import Decision, RunResult
from flows.settings import Settings, SettingsError, read_settings
from mnist_core.errors import MnistError

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)

Model = Annotated[str | None, typer.Option(help="What is trained: convnet, ensemble, resnet18, scratch.")]
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

    def run() -> RunResult:
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
    member: Annotated[
        int | None, typer.Option(help="Of an ensemble's night: 1 is the first; all where not given.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train a version and publish it."""

    def run() -> RunResult:
        from flows.train import train

        return train(night, model, preset, seed, device, fresh=fresh, member=member)

    _run(run, as_json, model=model, preset=preset, device=device)


@app.command()
def submit(
    version: Annotated[str | None, typer.Option(help="Its name; the champion where not given.")] = None,
    as_json: Json = False,
) -> None:
    """Submit a version, unless the competition has these predictions already."""

    def run() -> RunResult:
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


@app.command()
def doctor(as_json: OneJson = False) -> None:
    """Look at all that a night needs, and say for each what to do; nothing is submitted."""
    findings: list[Any] = []

    def run() -> None:
        from flows.ops.doctor.checks import examine
        from flows.ops.doctor.finding import row
        from flows.report import console

        for finding in examine():
            findings.append(finding)
            if not as_json:
                console(stderr=False).print(row(finding))

    code, last, _ = _ending(run)
    if last:
        print(last, file=sys.stderr)  # noqa: T201
    if as_json:
        from flows.ops.doctor.finding import summary

        print(json.dumps(summary(findings) | ({"error": last} if last else {})), flush=True)  # noqa: T201
    raise typer.Exit(code or int(any(finding.state == "failed" for finding in findings)))


def _ask(ask: Callable[[Any, Settings], dict[str, Any]], as_json: bool) -> None:
    """Run a call of `flows.ops.status`: what it tells on standard output, and the exit code."""
    told: dict[str, Any] = {}

    def run() -> None:
        from flows.ops import status as oncall

        told.update(ask(oncall, read_settings()))
        if not as_json:
            from flows.report import console

            for part in oncall.show(told):
                console(stderr=False).print(part)

    code, last, _ = _ending(run)
    if last:
        print(last, file=sys.stderr)  # noqa: T201
    if as_json:
        print(json.dumps({"error": last} if code else told), flush=True)  # noqa: T201
    raise typer.Exit(code)


def _run(run: Callable[[], RunResult], as_json: bool, **overrides: str | None) -> None:
    """Run a flow: its result on standard output, all else on standard error, and the exit code."""
    results = [RunResult(decision=Decision.FAILED)]

    def prepared() -> None:
        prepare_prefect(read_settings(**overrides))
        stop_in_time(_stopped())
        from flows import report

        report.log_to_terminal()
        results.append(run())

    code, last, error = _ending(prepared)
    result: RunResult = getattr(error, "result", results[-1])
    facts = result.to_json()
    if submission := getattr(error, "submission", None):
        facts["submission"] = submission.to_json()
    if code:
        facts["reason"] = last
    facts["seconds"]["total"] = round(time.time() - STARTED, 3)
    if last:
        print(last, file=sys.stderr)  # noqa: T201  (the terminal is this module's job)
    if as_json:
        print(json.dumps(facts), flush=True)  # noqa: T201
    raise typer.Exit(code)


def _ending(run: Callable[[], None]) -> tuple[int, str, BaseException | None]:
    """Run something to its end: the exit code, the last line for a person, and the error behind them."""
    try:
        run()
    except SettingsError as error:
        return 2, f"settings: {error}", error
    except MnistError as error:
        go_on = f". To go on: {_command_again()}" if error.retryable else ""
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
