"""The coordinator of a job: which shards are left, what their failures mean, and the index that ends it.

Shards and index are create-only, so two coordinators of one job, at once or one after another, give the same
result. Needs no Prefect.
"""

from __future__ import annotations

import io
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from flows.environment import SettingsError
from flows.scale.engine import Engine
from flows.scale.job import INDEX, PICTURE, Job, Output, index_of
from flows.scale.worker import Failure, Outcome
from flows.store.base import StoreError
from mnist_core.cores import cores
from mnist_core.errors import MnistError
from mnist_core.progress import Progress
from mnist_core.shards import Finished, Uncertain, merge_least_certain
from mnist_core.spec import CompetitionSpec

log = logging.getLogger("mnist")
TRIES = 3
"""Times that a shard is tried whose failure may pass, such as that of a server."""
FAILURES = 20
"""Shards with broken rows after which the others are not tried."""
READERS = 8
"""Objects of the output that are read at once."""


class ShardError(MnistError):
    """Shards that failed; the finished ones are kept, and the same command does the others."""


@dataclass
class Progressed:
    """What became of the shards so far.

    Attributes:
        finished: by number, without their least certain digits.
        least_certain: of all of them.
        failures: by number.
    """

    finished: dict[int, Finished] = field(default_factory=dict)
    least_certain: list[Uncertain] = field(default_factory=list)
    failures: dict[int, Failure] = field(default_factory=dict)

    def add(self, finished: Finished) -> None:
        """Add a finished shard."""
        self.least_certain = merge_least_certain(iter([self.least_certain, finished.least_certain]))
        self.finished[finished.number] = replace(finished, least_certain=[])


def open_job(
    output: Output, make: Callable[[], tuple[Job, Mapping[str, bytes]]], given: Mapping[str, Any]
) -> Job:
    """Return the job of an output: the one that is there, else the one that is planned now.

    Args:
        output: where it is.
        make: plans a job, and reads the files of its bundle.
        given: fields of the job that the command names; one that is None is not given.

    Raises:
        SettingsError: the output has a job that differs.
    """
    job = output.read_job()
    if job is None:
        planned, bundle = make()
        output.put_model(planned, bundle)
        job = output.put_job(planned)
        log.info(
            "shards planned: %s, of files: %s, with rows: %s",
            f"{len(job.pieces):,}", f"{len(job.files):,}", f"{job.rows:,}",
        )  # fmt: skip
    for name, value in given.items():
        if value is not None and getattr(job, name) != value:
            raise SettingsError(
                f"--output {output.address}: has a job with {name.replace('_', ' ')} {getattr(job, name)}, "
                f"not {value}",
                "name another --output, or the same options to resume that job",
            )
    return job


def do_shards(
    output: Output,
    job: Job,
    engine: Engine,
    numbers: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> Progressed:
    """Do the shards that are not finished.

    Args:
        output: where the job is.
        job: what is to be done.
        engine: does the shards.
        numbers: these alone (default: all).
        progress: called with rows done, rows in all, and the rate.

    Raises:
        ShardError: one failed. If the cause lies in its rows, the others are done first.
    """
    chosen = range(len(job.pieces)) if numbers is None else numbers
    done = output.done()
    todo = [number for number in chosen if number not in done]
    if done and todo:  # resumed, or second to another coordinator: begin elsewhere
        log.info("%s of %s shards are finished already", f"{len(chosen) - len(todo):,}", f"{len(chosen):,}")
        start = random.randrange(len(todo))  # noqa: S311  (not for security)
        todo = todo[start:] + todo[:start]
    rate = _Rate(job, chosen, todo, progress)
    made, tries = Progressed(), Counter(todo)
    while todo:
        again: list[int] = []
        for outcome in engine(output.address, todo):
            if outcome.finished is not None:
                made.add(outcome.finished)
                rate.add(outcome.number)
            elif _try_again(outcome, tries):
                again.append(outcome.number)
            else:
                _note(made, outcome)
        todo = again
    if made.failures:
        raise _failed(made.failures, output)
    return made


def _try_again(outcome: Outcome, tries: Counter[int]) -> bool:
    if outcome.failure is None or not outcome.failure.again or tries[outcome.number] >= TRIES:
        return False
    tries[outcome.number] += 1
    log.warning("%s (trying again)", outcome.failure.problem)
    return True


def _note(made: Progressed, outcome: Outcome) -> None:
    """Note a failure; raise it if other shards would fail, too."""
    assert outcome.failure is not None
    made.failures[outcome.number] = outcome.failure
    log.error("%s", outcome.failure.problem)
    if not outcome.failure.shard_alone:
        raise ShardError(outcome.failure.problem, outcome.failure.remedy, retryable=True)
    if len(made.failures) >= FAILURES:
        raise ShardError(
            f"{FAILURES} shards failed, the last one: {outcome.failure.problem}", outcome.failure.remedy
        )


def _failed(failures: Mapping[int, Failure], output: Output) -> ShardError:
    first = failures[min(failures)]
    others = len(failures) - 1
    more = (
        f" (and {others} more shards failed: {', '.join(map(str, sorted(failures)[1:6]))})" if others else ""
    )
    return ShardError(f"{first.problem}{more}", first.remedy)


class _Rate:
    """Reports rows done and rows a second."""

    def __init__(
        self, job: Job, chosen: Sequence[int], todo: Sequence[int], progress: Progress | None
    ) -> None:
        self._rows = {number: job.shards[number].rows for number in chosen}
        self._total = sum(self._rows.values())
        self._done = self._before = self._total - sum(self._rows[number] for number in todo)
        self._started = time.monotonic()
        self._progress = progress

    def add(self, number: int) -> None:
        self._done += self._rows[number]
        if self._progress is not None:
            rate = (self._done - self._before) / max(time.monotonic() - self._started, 1e-9)
            self._progress(self._done, self._total, f"{rate:,.0f} digits/s")


def finish(output: Output, job: Job, made: Progressed) -> dict[str, Any]:
    """Verify all parts, and put the picture and the index, which ends the job; return the index.

    Raises:
        StoreError: a part is missing or has changed, or the rows do not add up.
    """
    others = [shard.number for shard in job.shards if shard.number not in made.finished]
    with ThreadPoolExecutor(READERS) as pool:
        for found in pool.map(output.finished, others):
            if found is not None:
                made.add(found)
    index = index_of(job, made.finished)
    with ThreadPoolExecutor(min(READERS, 2 * cores())) as pool:
        wrong = [found for found in pool.map(output.check_part, made.finished.values()) if found]
    if wrong:
        raise StoreError(
            f"{wrong[0]} ({len(wrong):,} of {len(job.pieces):,} parts are not as they were written)",
            "start another job with another --output",
        )
    if made.least_certain:
        output.store.put(PICTURE, draw(made.least_certain, job.spec))
    output.store.put(INDEX, json_bytes(index))
    return index


def json_bytes(value: Mapping[str, Any]) -> bytes:
    """Return JSON that a person can read, too."""
    import json

    return json.dumps(value, indent=1).encode() + b"\n"


def draw(least_certain: Sequence[Uncertain], spec: CompetitionSpec) -> bytes:
    """Return a PNG of the least certain digits, each with its label and probability."""
    import numpy as np

    from mnist_core.drawing import sheet

    pixels = np.stack([each.picture(spec) for each in least_certain])
    captions = [f"{each.label} {each.probability:.2f}" for each in least_certain]
    content = io.BytesIO()
    sheet(pixels, columns=5, scale=3, captions=captions).save(content, "PNG")
    return content.getvalue()
