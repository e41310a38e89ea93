"""What a person sees: progress, log lines, the scorecard, and its report with pictures under MNIST_HOME."""

import base64
import functools
import logging
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from flows import history
from flows.records import (
    ChampionResult,
    Decision,
    NightEntry,
    RunKey,
    RunResult,
    Status,
    SubmissionResult,
)
from flows.registry import Registry

log = logging.getLogger("mnist")
QUIET_S = 5.0
"""Where there is no terminal, what takes less than this leaves no progress in the log; nor is the server told
of progress more often."""
STEPS = ("start", "download", "read", "train", "publish", "predict", "submit")
"""Of a night, in their order."""
UNBROKEN = 1000
"""Columns where there is no terminal."""
PICTURES = {"hardest.png": "The hardest validation digits", "confusion.png": "Confusion"}


@functools.cache
def console(stderr: bool = True) -> Console:
    """The terminal; a flow leaves standard output free for `--json`. In a file no line is broken."""
    found = Console(stderr=stderr)
    return found if found.is_terminal else Console(stderr=stderr, width=UNBROKEN)


def log_to_terminal() -> None:
    """Show the job's own log lines on the terminal (under a worker, Prefect shows them)."""
    handler: logging.Handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    if console().is_terminal:
        handler = RichHandler(
            console=console(), show_path=False, show_level=False, log_time_format="%H:%M:%S"
        )
        handler.setFormatter(logging.Formatter("%(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # a retried request is no news
    warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)  # fastai's use of it


def log_to_prefect() -> None:
    """Let the job's own log lines through: PREFECT_LOGGING_EXTRA_LOGGERS takes them, and sets no level."""
    log.setLevel(logging.INFO)


@contextmanager
def progress(title: str) -> Iterator[Callable[[int, int, str], None]]:
    """A bar on a terminal, a log line for each quarter elsewhere, and an artifact on Prefect's server.

    Yields `advance(done, total, note)`.
    """
    with _progress_artifact(title) as tell, _bar_or_quarters(title) as show:

        def advance(done: int, total: int, note: str = "") -> None:
            show(done, total, note)
            tell(done, total)

        yield advance


@contextmanager
def _progress_artifact(title: str) -> Iterator[Callable[[int, int], None]]:
    """The progress as the run's artifact; outside a run there is none."""
    from prefect.artifacts import create_progress_artifact, update_progress_artifact
    from prefect.context import FlowRunContext, TaskRunContext

    if FlowRunContext.get() is None and TaskRunContext.get() is None:
        yield lambda _done, _total: None
        return
    artifact: Any = None
    told = time.monotonic()
    with _optional("progress"):
        artifact = create_progress_artifact(0.0, key=title.split()[0], description=title)

    def tell(done: int, total: int) -> None:
        nonlocal told
        if artifact is not None and time.monotonic() - told > QUIET_S:
            told = time.monotonic()
            with _optional("progress"):
                update_progress_artifact(artifact, progress=min(100.0 * done / max(total, 1), 100.0))

    yield tell
    if artifact is not None:
        with _optional("progress"):
            update_progress_artifact(artifact, progress=100.0)


@contextmanager
def _optional(what: str) -> Iterator[None]:
    """What a person sees on the server is not worth a night: without an answer it is left out."""
    import httpx

    try:
        yield
    except httpx.HTTPError as error:
        log.warning("no %s on Prefect's server: %s", what, type(error).__name__)


@contextmanager
def _bar_or_quarters(title: str) -> Iterator[Callable[[int, int, str], None]]:
    if not console().is_terminal:
        yield _quarters(title)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console(), transient=True) as bars:
        bar = bars.add_task(title, total=None, note="")

        def advance(done: int, total: int, note: str = "") -> None:
            bars.update(bar, completed=done, total=total, note=note)

        yield advance


def _quarters(title: str) -> Callable[[int, int, str], None]:
    told, started = 0, time.monotonic()

    def advance(done: int, total: int, note: str = "") -> None:
        nonlocal told
        quarter = 4 * done // max(total, 1)
        if quarter > told and time.monotonic() - started > QUIET_S:
            told = quarter
            log.info("%s: %d %%  %s", title, 25 * quarter, note)

    return advance


def summarise(
    registry: Registry,
    night: str,
    version: str,
    decision: Decision | None,
    reason: str,
    seconds: dict[str, float],
    posted: bool = False,
    pruned: NightEntry | None = None,
) -> RunResult:
    """Return the result of a command, for people and for machines.

    Args:
        registry: of the namespace.
        night: the run's.
        version: the one that the result is about.
        decision: None of `train` and `submit`.
        reason: why, for people.
        seconds: by step.
        posted: whether this command posted the version's submission.
        pruned: how the night ended, if its version was pruned since.
    """
    entry = pruned or registry.need_version(version)
    made, scored = registry.submission(version), registry.score(version)
    _, champion = registry.champion()
    submission = (
        None
        if made is None
        else SubmissionResult(
            ref=made.ref,
            status=scored.status if scored else Status.PENDING,
            public_score=scored.public_score if scored else None,
            posted=posted,
        )
    )
    return RunResult(
        night=night,
        model=entry.model,
        version=version,
        valid_accuracy=entry.valid_accuracy,
        decision=decision,
        reason=reason,
        submission=submission,
        champion=None if champion is None else _champion(registry, champion),
        seconds={step: seconds[step] for step in STEPS if step in seconds},
    )


def _champion(registry: Registry, version: str) -> ChampionResult:
    scored = registry.score(version)
    return ChampionResult(
        version=version,
        valid_accuracy=registry.need_version(version).valid_accuracy,
        public_score=scored.public_score if scored else None,
    )


def write(registry: Registry, run: RunKey, result: RunResult, home: Path) -> Path:
    """Write a night's report: scorecard.md, its pictures and submission.csv.

    Returns:
        The folder, `<home>/reports/<night>/<model>-<preset>/<attempt>`.
    """
    version = str(result.version)
    folder = home.absolute() / "reports" / run.key
    folder.mkdir(parents=True, exist_ok=True)
    registry.fetch(version, folder, *PICTURES)
    csv = registry.predictions(version)
    if csv is not None:
        (folder / "submission.csv").write_bytes(csv)
    (folder / "scorecard.md").write_text(scorecard(registry, result, {name: name for name in PICTURES}))
    return folder


def forget(home: Path, keep: int) -> None:
    """Remove the reports of all but the latest nights: what they show lies in the store."""
    for folder in sorted((home / "reports").glob("????-??-??"))[:-keep]:
        shutil.rmtree(folder, ignore_errors=True)


def scorecard(registry: Registry, result: RunResult, pictures: dict[str, str]) -> str:
    """A night's scorecard as markdown.

    Args:
        pictures: by name as in `PICTURES`, where each lies: a file, or a data URI.
    """
    rows = [f"| {name} | {value} |" for name, value in facts(registry, result) if name != "seconds"]
    server, competition, _ = registry.namespace.split("/")
    if server == "kaggle" and result.submission:
        url = f"https://www.kaggle.com/competitions/{competition}/submissions"
        rows.append(f"| on Kaggle | [submission {result.submission.ref}]({url}) |")
    location = registry.location("versions", str(result.version))
    if page := registry.store.console_url(f"{registry.namespace}/versions/{result.version}.json"):
        location = f"[{location}]({page})"
    rows.append(f"| manifest | {location} |")
    steps = [f"| {step} | {spent:.1f} |" for step, spent in result.seconds.items()]
    return "\n".join(
        [
            f"# Night {result.night}: {result.decision}", "",
            "| | |", "|---|---|", *rows, "",
            "| step | seconds |", "|---|---:|", *steps, "",
            *(f"![{title}]({pictures[name]})\n" for name, title in PICTURES.items() if name in pictures),
        ]
    )  # fmt: skip


def publish(registry: Registry, result: RunResult) -> None:
    """Leave the scorecard and the history of all nights as artifacts of this run."""
    from prefect.artifacts import create_markdown_artifact

    objects = registry.need_version(str(result.version)).objects
    pictures = {
        name: "data:image/png;base64," + base64.b64encode(picture).decode()
        for name in PICTURES
        if (picture := registry.store.get(f"objects/{objects[name]}")) is not None
    }
    entries = history.read(registry)
    with _optional("scorecard"):
        create_markdown_artifact(
            scorecard(registry, result, pictures),
            key="scorecard",
            description=f"{result.version}: {result.decision}",
        )
        if entries:
            create_markdown_artifact(
                history.markdown(entries, registry.namespace),
                key="history",
                description=f"{len(entries)} nights, the last {entries[-1].night} {entries[-1].decision}",
            )


def announce(registry: Registry, event: str, version: str, reason: str) -> None:
    """Tell Prefect's server of a champion, for whom an automation tells; `promoted` or `rolled-back`."""
    from prefect.events import emit_event

    emit_event(
        f"mnist.champion.{event}",
        resource={
            "prefect.resource.id": f"mnist.champion.{registry.namespace}",
            "prefect.resource.name": version,
        },
        payload={"version": version, "reason": reason},
    )


def facts(registry: Registry, result: RunResult) -> list[tuple[str, str]]:
    """The rows of a scorecard."""
    entry = registry.need_version(str(result.version))
    low, high = entry.valid_interval
    made, champion = result.submission, result.champion
    rows = [
        ("version", entry.version),
        ("model", f"{entry.model} {entry.preset}, seed {entry.seed}"),
    ]
    if entry.members:
        rows.append(("members", f"{len(entry.members)}: {', '.join(entry.members)}"))
    if entry.agreement is not None:
        rows.append(("agreement", f"{entry.agreement:.2%} of the rows that several members held out"))
    rows.append(
        (
            "validation accuracy",
            f"{entry.valid_accuracy:.4f}, 95 % interval {low:.4f} to {high:.4f} "
            f"({entry.valid_rows:,} held-out rows)",
        )
    )
    if made is None:  # why not is its decision's reason, if it has one
        why = "" if result.decision else f": {result.reason}"
        rows.append(("public score", f"not submitted{why}"))
    else:
        score = "not known yet" if made.public_score is None else f"{made.public_score:.5f}"
        how = "posted now" if made.posted else "posted before"
        rows.append(("public score", f"{score} (submission {made.ref}, {how})"))
    if result.decision:
        rows.append(("decision", f"{result.decision}: {result.reason}"))
    if champion:
        score = "no score" if champion.public_score is None else f"{champion.public_score:.5f}"
        rows.append(("champion", f"{champion.version} ({champion.valid_accuracy:.4f}, {score})"))
    rows.append(("seconds", ", ".join(f"{step} {spent:.1f}" for step, spent in result.seconds.items())))
    if learner := entry.objects.get("learner.pkl"):
        rows.append(("learner.pkl", registry.store.location(f"objects/{learner}")))
    return rows


def show(registry: Registry, result: RunResult, folder: Path | None = None) -> None:
    """Print the scorecard on the terminal; a deployment's run leaves its artifacts alone."""
    from prefect.runtime import deployment

    if deployment.id is not None:
        return
    table = Table(title=f"Night {result.night}", title_justify="left", show_header=False, box=None)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in facts(registry, result):
        table.add_row(name, value)
    if folder is not None:
        table.add_row("report", str(folder))
    console().print()
    console().print(table)
