"""What a person sees: progress, log lines, the scorecard, and its report with pictures under MNIST_HOME."""

import functools
import logging
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

from flows.registry import Registry, Work

log = logging.getLogger("mnist")
QUIET_S = 5.0
"""Where there is no terminal, what takes less than this leaves no progress in the log."""
PICTURES = {"hardest.png": "The hardest validation digits", "confusion.png": "Confusion"}


@functools.cache
def console() -> Console:
    """The terminal; standard output stays free for `--json`."""
    return Console(stderr=True)


def log_to_terminal() -> None:
    """Show the job's own log lines on the terminal (under a worker, Prefect shows them)."""
    handler = RichHandler(console=console(), show_path=False, show_level=False, log_time_format="%H:%M:%S")
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # a retried request is no news
    warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)  # fastai's use of it


@contextmanager
def progress(title: str) -> Iterator[Callable[[int, int, str], None]]:
    """A bar on a terminal, a log line for each quarter elsewhere; yields `advance(done, total, note)`."""
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
    night: str | None,
    version: str,
    decision: str | None,
    reason: str,
    seconds: dict[str, float],
    posted: bool = False,
    pruned: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The result of a command, for people and for machines: the object that `--json` prints.

    Args:
        pruned: how the night ended, where its version was pruned since.
    """
    manifest = registry.version(version) or pruned
    assert manifest is not None
    made, scored = registry.submission(version), registry.score(version)
    _, champion = registry.champion()
    return {
        "night": night or manifest["night"],
        "model": manifest["model"],
        "version": version,
        "valid_accuracy": manifest["valid_accuracy"],
        "decision": decision,
        "reason": reason,
        "submission": made
        and {
            "ref": made["ref"],
            "status": scored["status"] if scored else "PENDING",
            "public_score": scored["public_score"] if scored else None,
            "posted": posted,
        },
        "champion": champion and _champion(registry, champion),
        "seconds": seconds,
    }


def _champion(registry: Registry, version: str) -> dict[str, Any]:
    manifest, scored = registry.version(version), registry.score(version)
    assert manifest is not None
    return {
        "version": version,
        "valid_accuracy": manifest["valid_accuracy"],
        "public_score": scored["public_score"] if scored else None,
    }


def write(registry: Registry, work: Work, result: dict[str, Any], home: Path) -> Path:
    """Write a night's report: scorecard.md, its pictures and submission.csv.

    Returns:
        The folder, `<home>/reports/<night>/<model>-<preset>/<attempt>`.
    """
    folder = home.absolute() / "reports" / work.key
    folder.mkdir(parents=True, exist_ok=True)
    registry.fetch(result["version"], folder, *PICTURES)
    csv = registry.predictions(result["version"])
    if csv is not None:
        (folder / "submission.csv").write_bytes(csv)
    rows = "\n".join(f"| {name} | {value} |" for name, value in facts(registry, result))
    pictures = "\n\n".join(f"![{title}]({name})" for name, title in PICTURES.items())
    (folder / "scorecard.md").write_text(
        f"# Night {result['night']}: {result['decision']}\n\n| | |\n|---|---|\n{rows}\n\n{pictures}\n"
    )
    return folder


def facts(registry: Registry, result: dict[str, Any]) -> list[tuple[str, str]]:
    """The rows of a scorecard."""
    version = result["version"]
    manifest = registry.version(version)
    assert manifest is not None
    low, high = manifest["valid_interval"]
    made, champion = result["submission"], result["champion"]
    rows = [
        ("version", version),
        ("model", f"{result['model']} {manifest['preset']}, seed {manifest['seed']}"),
        (
            "validation accuracy",
            f"{result['valid_accuracy']:.4f}, 95 % within {low:.4f} and {high:.4f} "
            f"({manifest['valid_rows']:,} rows left out)",
        ),
    ]
    if made is None:
        rows.append(("public score", "not submitted"))
    else:
        score = "not out yet" if made["public_score"] is None else f"{made['public_score']:.5f}"
        how = "posted now" if made["posted"] else "posted before"
        rows.append(("public score", f"{score} (submission {made['ref']}, {how})"))
    if result["decision"]:
        rows.append(("decision", f"{result['decision']}: {result['reason']}"))
    if champion:
        score = "no score" if champion["public_score"] is None else f"{champion['public_score']:.5f}"
        rows.append(("champion", f"{champion['version']} ({champion['valid_accuracy']:.4f}, {score})"))
    rows.append(("seconds", ", ".join(f"{step} {spent:.1f}" for step, spent in result["seconds"].items())))
    rows.append(("learner.pkl", registry.store.location(f"objects/{manifest['objects']['learner.pkl']}")))
    return rows


def show(registry: Registry, result: dict[str, Any], folder: Path | None = None) -> None:
    """Print the scorecard on the terminal."""
    table = Table(title=f"Night {result['night']}", title_justify="left", show_header=False, box=None)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in facts(registry, result):
        table.add_row(name, value)
    if folder is not None:
        table.add_row("report", str(folder))
    console().print()
    console().print(table)
