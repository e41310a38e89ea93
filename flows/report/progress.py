"""Progress of long work: a bar on a terminal, log lines elsewhere, and an artifact on Prefect's server."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast
from uuid import UUID

from flows.report.artifacts import best_effort
from flows.report.terminal import console, is_quiet
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
    """Logs a line for each quarter of the work, with the time that the rest will take at that speed."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._logged = 0
        self._started = time.monotonic()

    def __call__(self, done: int, total: int, note: str = "") -> None:
        quarter = 4 * done // max(total, 1)
        if quarter > self._logged and time.monotonic() - self._started > QUIET_S:
            self._logged = quarter
            words = [f"{self._title}: {25 * quarter} %"]
            words += [note] if note and not self._title.startswith(note) else []
            left_s = (time.monotonic() - self._started) * (total - done) / max(done, 1)
            words += [f"{left_s:.0f} s left"] if quarter < 4 else []
            log.info("%s", "  ".join(words))


class _Artifact:
    """A progress artifact: it appears if the work takes long, is updated not too often, and deleted."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._artifact: UUID | None = None
        self._updated = time.monotonic()

    def __call__(self, done: int, total: int, _note: str = "") -> None:
        from prefect.artifacts import create_progress_artifact, update_progress_artifact

        if time.monotonic() - self._updated < QUIET_S:
            return
        self._updated = time.monotonic()
        percent = min(100.0 * done / max(total, 1), 100.0)
        with best_effort("progress"):
            if self._artifact is None:
                key = self._title.split()[0]
                made = create_progress_artifact(percent, key=key, description=self._title)
                self._artifact = cast(UUID, made)  # synchronous here
            else:
                update_progress_artifact(self._artifact, progress=percent)

    def delete(self) -> None:
        """Remove it, so that the list of artifacts shows what runs leave, and no finished bars."""
        from prefect.client.orchestration import get_client

        if self._artifact is not None:
            with best_effort("progress"), get_client(sync_client=True) as client:
                client.delete_artifact(self._artifact)


@contextmanager
def _progress_artifact(title: str) -> Iterator[Progress]:
    """Show the progress as the run's artifact while the work lasts; outside a run there is none."""
    from prefect.context import FlowRunContext, TaskRunContext

    if FlowRunContext.get() is None and TaskRunContext.get() is None:
        yield lambda _done, _total, _note: None
        return
    shown = _Artifact(title)
    try:
        yield shown
    finally:
        shown.delete()


@contextmanager
def _bar(title: str) -> Iterator[Progress]:
    if is_quiet():
        yield lambda _done, _total, _note: None
        return
    if not console().is_terminal:
        yield _Quarters(title)
        return
    with progress_bar(title, console()) as advance:
        yield advance
