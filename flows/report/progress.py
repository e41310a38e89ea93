"""Progress of long work: a bar on a terminal, log lines elsewhere, and an artifact on Prefect's server."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flows.report.artifacts import best_effort
from flows.report.terminal import console
from mnist_core.progress import Progress
from mnist_core.terminal import progress_bar

log = logging.getLogger("mnist")
QUIET_S = 5.0
"""Without a terminal, what takes less than this leaves no line in the log; nor is the server updated more
often."""


@contextmanager
def progress(title: str) -> Iterator[Progress]:
    """Show the progress of the work in this context; yields what the work calls."""
    with _progress_artifact(title) as update, _bar(title) as show:

        def advance(done: int, total: int, note: str = "") -> None:
            show(done, total, note)
            update(done, total, note)

        yield advance


class _Quarters:
    """Logs a line for each quarter of the work."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._logged = 0
        self._started = time.monotonic()

    def __call__(self, done: int, total: int, note: str = "") -> None:
        quarter = 4 * done // max(total, 1)
        if quarter > self._logged and time.monotonic() - self._started > QUIET_S:
            self._logged = quarter
            log.info("%s: %d %%  %s", self._title, 25 * quarter, note)


class _Artifact:
    """Updates a progress artifact, not too often."""

    def __init__(self, artifact: Any) -> None:
        self._artifact = artifact
        self._updated = time.monotonic()

    def __call__(self, done: int, total: int, _note: str = "") -> None:
        if time.monotonic() - self._updated > QUIET_S:
            self._updated = time.monotonic()
            self.update(min(100.0 * done / max(total, 1), 100.0))

    def update(self, percent: float) -> None:
        """Set the artifact's percentage."""
        from prefect.artifacts import update_progress_artifact

        with best_effort("progress"):
            update_progress_artifact(self._artifact, progress=percent)


@contextmanager
def _progress_artifact(title: str) -> Iterator[Progress]:
    """Show the progress as the run's artifact; outside a run there is none."""
    from prefect.artifacts import create_progress_artifact
    from prefect.context import FlowRunContext, TaskRunContext

    artifact: Any = None
    if FlowRunContext.get() is not None or TaskRunContext.get() is not None:
        with best_effort("progress"):
            artifact = create_progress_artifact(0.0, key=title.split()[0], description=title)
    if artifact is None:
        yield lambda _done, _total, _note: None
        return
    shown = _Artifact(artifact)
    yield shown
    shown.update(100.0)


@contextmanager
def _bar(title: str) -> Iterator[Progress]:
    if not console().is_terminal:
        yield _Quarters(title)
        return
    with progress_bar(title, console()) as advance:
        yield advance
