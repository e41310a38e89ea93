"""The command line, `python -m flows`: the flows, and what a person looks up or changes around them."""

# ruff: noqa: E402  (the clock is read first, because the slow imports are part of a command's time)
import time

STARTED = time.monotonic()

import atexit
import gc
import json
import logging
import os
import threading
from collections.abc import Callable
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from pkgutil import resolve_name
from typing import Annotated, Any

import typer

from flows.ending import ask, command_to_resume, end, stopped
from flows.kaggle.address import PRACTICE
from flows.ops.prefect_home import prepare_prefect, stop_in_time
from flows.ops.temporary_server import TemporaryServer, start_temporary_server, without_heartbeats
from flows.parameters import (
    NightlyParameters,
    Parameters,
    PredictParameters,
    RunParameters,
    SubmitParameters,
    SweepParameters,
    TrainParameters,
    takes,
)
from flows.records import Decision, PredictResult, Record, RunResult
from flows.settings import Settings, read_settings
from flows.sweep_records import SweepResult
from mnist_core import __version__
from mnist_core.errors import MnistError
from mnist_core.terminal import print_anywhere
from mnist_core.windows import refuse_windows

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)

Json = Annotated[
    bool, typer.Option("--json", help="Print one line of JSON on stdout and everything else on stderr.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be done; change nothing.")]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print warnings and errors alone, without bars and scorecard.")
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Print Prefect's own log lines too.")]

FAILED = RunResult(decision=Decision.FAILED)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mnist-nightly {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Train a digit classifier every night and submit it to a Kaggle competition."""


# Flows


@app.command()
@takes(NightlyParameters, checked=False)
def nightly(
    parameters: NightlyParameters, quiet: Quiet = False, verbose: Verbose = False, as_json: Json = False
) -> None:
    """Train a version and, if it passes the gate, promote it, submit it and read its score."""
    _run_flow("flows.nightly:nightly", parameters, as_json, _level(quiet, verbose))


@app.command()
@takes(TrainParameters, checked=False)
def train(
    parameters: TrainParameters, quiet: Quiet = False, verbose: Verbose = False, as_json: Json = False
) -> None:
    """Train a version and publish it."""
    _run_flow("flows.train:train", parameters, as_json, _level(quiet, verbose))


@app.command()
@takes(SweepParameters, checked=False)
def sweep(
    parameters: SweepParameters, quiet: Quiet = False, verbose: Verbose = False, as_json: Json = False
) -> None:
    """Train a grid of settings and recipe fields, and compare them on held-out rows; promote nothing."""
    _run_flow("flows.sweep:sweep", parameters, as_json, _level(quiet, verbose), SweepResult())


@app.command()
@takes(SubmitParameters, checked=False)
def submit(
    parameters: SubmitParameters, quiet: Quiet = False, verbose: Verbose = False, as_json: Json = False
) -> None:
    """Submit a version, unless the competition already has its predictions."""
    _run_flow("flows.submit:submit", parameters, as_json, _level(quiet, verbose))


@app.command()
@takes(PredictParameters, checked=False)
def predict(
    parameters: PredictParameters, quiet: Quiet = False, verbose: Verbose = False, as_json: Json = False
) -> None:
    """Predict any number of digits, in shards, into Parquet files; the same command resumes it."""
    _run_flow("flows.predict:predict", parameters, as_json, _level(quiet, verbose), PredictResult())


# Operations


@app.command()
def status(as_json: Json = False) -> None:
    """Show the champion, the last nights, unfinished submissions and today's quota."""
    _run_report("flows.ops.status:status", as_json)


@app.command()
def versions(as_json: Json = False) -> None:
    """List all versions with their scores."""
    _run_report("flows.ops.versions:versions", as_json)


@app.command()
def recipes(as_json: Json = False) -> None:
    """List the recipes that nights tried, and which one they train."""
    _run_report("flows.ops.recipes:recipes", as_json)


@app.command()
def export(
    version: Annotated[
        str | None, typer.Argument(help="Version to export (default: the champion).", show_default=False)
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DIR]",
            help="New folder, or that of an earlier export (default: champion, or the version's name).",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a version into a folder, with a model card: to use it, or to give it to others."""
    _run_report("flows.ops.export:export", as_json, version, folder)


@app.command()
def rollback(yes: Yes = False, dry_run: DryRun = False, as_json: Json = False) -> None:
    """Demote the champion permanently and promote the one before it, after a question; submit nothing."""

    def change(settings: Settings, plan: Any) -> Record:
        from flows.ops import versions

        return versions.rollback(settings, plan.demotes.version)

    _run_change(
        "flows.ops.versions:plan_rollback",
        [],
        change,
        asks=not (yes or dry_run),
        dry_run=dry_run,
        as_json=as_json,
    )


@app.command()
def promote(
    version: Annotated[str, typer.Option(help="Version to promote.")],
    as_json: Json = False,
) -> None:
    """Make a version champion without the gate, also one that was rolled back; submit nothing."""
    _run_report("flows.ops.versions:promote", as_json, version)


@app.command()
def prune(
    keep: Annotated[
        int, typer.Option(min=1, help="Number of latest versions to keep (default: 30).", show_default=False)
    ] = 30,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Delete old versions that were not champion recently, and unused objects, after a question."""

    def change(settings: Settings, plan: Any) -> Record:
        from flows.ops import versions

        return versions.prune(settings, plan.keep)

    _run_change(
        "flows.ops.versions:plan_prune",
        [keep],
        change,
        asks=not (yes or dry_run),
        dry_run=dry_run,
        as_json=as_json,
    )


@app.command()
def site(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder for the pages; made if need be.")],
    as_json: Json = False,
) -> None:
    """Write a public site about the nights and the champion: static pages and a feed."""
    _run_report("flows.site.build:site", as_json, folder)


@app.command("open")
def open_page(
    ui: Annotated[bool, typer.Option("--ui", help="Show Prefect's UI that `make ui` started.")] = False,
    as_json: Json = False,
) -> None:
    """Show the newest report in the browser; without one, print where it is."""
    _run_report("flows.ops.browser:open_page", as_json, ui)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check what a nightly run needs, and name a remedy for each problem; submit nothing."""
    findings: list[Any] = []

    def run() -> None:
        from flows.ops.doctor.checks import examine
        from flows.ops.doctor.finding import row
        from flows.report.terminal import console

        for finding in examine():
            findings.append(finding)
            if not as_json:
                console(stderr=False).print(row(finding))

    ending = end(run)
    ending.print_last_line()
    if as_json:
        from flows.ops.doctor.finding import summary

        error = {"error": ending.last_line} if ending.last_line else {}
        _print_json(summary(findings) | error)
    raise typer.Exit(ending.code or int(any(finding.state == "failed" for finding in findings)))


# Running


def _level(quiet: bool, verbose: bool) -> int:
    """Return the lowest level of the log lines that are shown.

    Raises:
        BadParameter: both were asked for.
    """
    if quiet and verbose:
        raise typer.BadParameter("leave one of the two out", param_hint="--quiet and --verbose")
    return logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO


def _run_flow(
    name: str,
    parameters: Parameters,
    as_json: bool,
    level: int,
    failed: RunResult | PredictResult | SweepResult = FAILED,
) -> None:
    """Run a flow, such as `flows.nightly:nightly`, and exit with its code.

    What can be refused is refused before Prefect is imported, and the first line says what the run will do.
    `failed` is the result of one that fails.
    """
    results: list[RunResult | PredictResult | SweepResult] = []
    command = command_to_resume(datetime.now(UTC))

    def run() -> None:
        given = type(parameters).check(**parameters.to_json())
        settings = given.read_settings()
        from flows.preflight import preflight
        from flows.report.ending import call_flow
        from flows.report.terminal import log_to_terminal

        log_to_terminal(level)
        logging.getLogger("mnist").info("%s", preflight(given, settings))
        if level < logging.INFO:
            os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "INFO")
        server = start_temporary_server() if prepare_prefect(settings) else None
        stop_in_time(stopped(command), server)
        flow = _import_flow(name, given, settings, server)
        with nullcontext() if server is None else without_heartbeats():
            results.append(call_flow(flow, **given.to_json()))

    ending = end(run, command)
    result = results[0] if results else getattr(ending.error, "result", failed)
    facts = result.to_json()
    if submission := getattr(ending.error, "submission", None):
        facts["submission"] = submission.to_json()
    if ending.code:
        facts["reason"] = ending.last_line
    facts["seconds"]["total"] = round(time.monotonic() - STARTED, 3)
    ending.print_last_line()
    if not ending.code:
        logging.getLogger("mnist").info("done in %.1f s", facts["seconds"]["total"])
    if as_json:
        _print_json(facts)
    raise typer.Exit(ending.code)


def _import_flow(
    name: str, parameters: Parameters, settings: Settings, server: TemporaryServer | None
) -> Callable[..., Any]:
    """Import a flow while the servers that it needs start, and what it trains with while it waits for them.

    The garbage collector waits: it would look again and again at what these modules have made, which stays.
    """
    gc.disable()
    try:
        practice = threading.Thread(target=_start_practice, args=(parameters, settings), daemon=True)
        practice.start()
        flow: Callable[..., Any] = resolve_name(name)
        if server is not None:
            import prefect.flow_engine
            import prefect.task_engine  # noqa: F401

            if isinstance(parameters, RunParameters):
                import mnist_core.training  # noqa: F401
            server.wait()
        practice.join()
    finally:
        gc.freeze()
        gc.enable()
    return flow


def _start_practice(parameters: Parameters, settings: Settings) -> None:
    """Start the practice server, if that is the competition's; if it fails, the flow says so."""
    from flows.kaggle.competition import connect

    if settings.kaggle == PRACTICE and not isinstance(parameters, PredictParameters):
        with suppress(MnistError):
            connect(settings)


def _run_report(name: str, as_json: bool, *arguments: Any) -> None:
    """Run a function that returns a record, such as `flows.ops.status:status`; show it and exit."""
    _show_record(lambda: resolve_name(name)(read_settings(), *arguments), as_json)


def _run_change(
    plan: str,
    arguments: list[Any],
    change: Callable[[Settings, Any], Record],
    *,
    asks: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Show what a command will do, ask whether it shall, do it and exit.

    Args:
        plan: a function that returns what will be done, such as `flows.ops.versions:plan_rollback`.
        arguments: of that function, after the settings.
        change: does it, and returns what was done.
        asks: whether a person must agree; without a terminal the command is refused.
        dry_run: end with the plan.
        as_json: print one line of JSON on stdout.
    """

    def run() -> Record:
        settings = read_settings()
        planned: Record = resolve_name(plan)(settings, *arguments)
        if dry_run:
            return planned
        if asks:
            _print_record(planned, stderr=True)
            ask()
        return change(settings, planned)

    _show_record(run, as_json)


def _print_record(record: Record, *, stderr: bool) -> None:
    from rich.text import Text

    from flows.ops.terminal import show
    from flows.report.terminal import console

    out = console(stderr=stderr)
    for part in show(record, out.width):
        whole = isinstance(part, Text) and any(len(word) >= out.width for word in part.plain.split())
        out.print(part, soft_wrap=whole)  # a path in two pieces could not be copied


def _show_record(make: Callable[[], Record], as_json: bool) -> None:
    """Show a record, as JSON if asked for, and exit."""
    records: list[Record] = []

    def run() -> None:
        records.append(make())
        if not as_json:
            _print_record(records[0], stderr=False)

    ending = end(run)
    ending.print_last_line()
    if as_json:
        _print_json({"error": ending.last_line} if ending.code else records[0].to_json())
    raise typer.Exit(ending.code)


def _print_json(value: dict[str, Any]) -> None:
    print(json.dumps(value), flush=True)  # noqa: T201  (the terminal is this module's job)


def main() -> None:
    """Run the command line; console script `mnist-nightly`."""
    refuse_windows()
    atexit.register(gc.freeze)  # the last garbage collection would look at all that torch and Prefect made
    print_anywhere()
    app()


if __name__ == "__main__":
    main()
