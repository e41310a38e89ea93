"""The terminal: log lines, and the result of a command."""

import functools
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.logging import RichHandler
from rich.table import Table
from rich.text import Text

from flows.report.scorecard import Scorecard
from mnist_core.terminal import silence_torch

log = logging.getLogger("mnist")
FILE_WIDTH = 1000
"""Columns if there is no terminal, so that no line of a file is broken."""


@functools.cache
def console(stderr: bool = True) -> Console:
    """Return the terminal; a flow leaves standard output free for `--json`."""
    found = Console(stderr=stderr)
    return found if found.is_terminal else Console(stderr=stderr, width=FILE_WIDTH)


def log_to_terminal(level: int = logging.INFO) -> None:
    """Show the job's own log lines on the terminal (under a worker, Prefect shows them).

    Args:
        level: the lowest that is shown; above INFO, neither bars nor scorecards are.
    """
    handler: logging.Handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    if console().is_terminal:
        handler = RichHandler(
            console=console(), show_path=False, show_level=False, log_time_format="%H:%M:%S"
        )
        handler.setFormatter(logging.Formatter("%(message)s"))
    log.addHandler(handler)
    log.setLevel(level)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # a retried request is not worth a line
    silence_torch()


def is_quiet() -> bool:
    """Return whether only warnings and errors are wanted."""
    return log.level > logging.INFO


def log_to_prefect() -> None:
    """Let the job's own log lines through, unless the command line has set how many are wanted.

    PREFECT_LOGGING_EXTRA_LOGGERS takes them, and sets no level.
    """
    if log.level == logging.NOTSET:
        log.setLevel(logging.INFO)


def show(card: Scorecard, folder: Path | None = None) -> None:
    """Print a scorecard; a deployment's run leaves its artifacts instead.

    Args:
        card: of the run.
        folder: where its report is.
    """
    from prefect.runtime import deployment

    if deployment.id is not None or is_quiet():
        return
    table = Table(title=card.title, title_justify="left", show_header=False, box=None)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in card.rows():
        table.add_row(name, Text(value))  # not a string: a server's words may look like markup
    console().print()
    console().print(table)
    python = os.path.relpath(sys.executable)
    if folder is not None:
        _print_commands(
            f"The report is {_short(folder)}. To see it in a browser:", [f"{python} -m flows open"]
        )
    _print_commands("To use this version:", card.commands(python))


def _short(path: Path) -> Path:
    """Return a path in the working directory as one relative to it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _print_commands(title: str, commands: Sequence[str]) -> None:
    for line in ("", title, *(f"  {command}" for command in commands)):
        console().print(Text(line), soft_wrap=True)  # a path or command in two pieces could not be copied
