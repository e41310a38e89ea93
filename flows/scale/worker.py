"""What does a shard, wherever it runs: a process of this machine, a worker of Dask, a child run.

As a program it reads shards from standard input, one a line, and answers each with one line. It ends when its
input does, so none is left behind when the coordinator is killed.

Imports neither Prefect nor torch: a worker takes 150 MB.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import tempfile
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.environment import prepare_environment
from flows.scale.inputs import Input, open_input
from flows.scale.job import Job, Output
from mnist_core.cores import limit_cores
from mnist_core.errors import DataError, MnistError
from mnist_core.shards import Finished, Shard, describe_part, predict_shard

if TYPE_CHECKING:
    from mnist_core.inference import Model


@dataclass(frozen=True)
class Failure:
    """Why a shard failed.

    Attributes:
        problem, remedy: of the error.
        shard_alone: whether the cause lies in the rows of this shard, so that others can go on.
        again: whether the shard may succeed if it is tried again at once.
    """

    problem: str
    remedy: str
    shard_alone: bool = False
    again: bool = False


@dataclass(frozen=True)
class Outcome:
    """How a shard ended: one of `finished` and `failure`.

    Attributes:
        number: the shard's.
    """

    number: int
    finished: Finished | None = None
    failure: Failure | None = None

    def to_json(self) -> str:
        """Return one line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Outcome:
        """Return what `to_json` described."""
        value = json.loads(text)
        return cls(
            value["number"],
            None if value["finished"] is None else Finished.from_json(value["finished"]),
            None if value["failure"] is None else Failure(**value["failure"]),
        )


def run_shard(output: str, number: int) -> str:
    """Do a shard of the job at an address, unless it is finished, and return its outcome as JSON.

    The arguments and the result are small and hold no credentials: what is read and written are the job's
    input and output, with the credentials of the machine that this runs on.
    """
    try:
        finished = _do_shard(*_open(output), number)
        return Outcome(number, finished=finished).to_json()
    except MnistError as error:
        of_the_rows = isinstance(error, DataError)
        by_the_disk = isinstance(error.__cause__, OSError)
        again = error.retryable and not by_the_disk
        failure = Failure(error.problem, error.remedy, shard_alone=of_the_rows, again=again)
    except MemoryError:
        failure = Failure("a worker ran out of memory", "use fewer --workers, or a larger machine")
    except Exception as error:
        logging.getLogger("mnist").exception("shard %d", number)
        failure = Failure(
            f"shard {number}: {type(error).__name__}: {error}", "this is a bug, please report it"
        )
    return Outcome(number, failure=failure).to_json()


def run_on_dask(output: str, number: int) -> str:
    """Do a shard on a worker of Dask, with the environment of its machine."""
    try:
        _prepare_dask()
    except MnistError as error:
        return Outcome(number, failure=Failure(error.problem, error.remedy)).to_json()
    return run_shard(output, number)


@lru_cache(maxsize=1)
def _prepare_dask() -> None:
    prepare_environment()
    prepare()


def _do_shard(output: Output, job: Job, model: Model, number: int) -> Finished:
    """Do one shard: its part first, then, create-only and last, the record that it is finished."""
    earlier = output.finished(number)
    if earlier is not None:
        return earlier
    shard = job.shards[number]
    content = output.part(number)
    if content is None:
        part = _predict(job, model, shard)
        if part.bad_rows:
            output.put_bad_rows(number, part.bad_rows)
        if output.put_part(number, part.content):
            return output.put_finished(part.finished)
        content = output.part(number) or b""
    return output.put_finished(describe_part(content, shard))


def _predict(job: Job, model: Model, shard: Shard) -> Any:
    file: Input = job.files[job.pieces[shard.number][0]]
    try:
        opened = open_input(file)
    except DataError as error:
        raise DataError(f"{shard}: {error.problem}", error.remedy) from error
    with opened:
        return predict_shard(
            model,
            opened,
            shard,
            job.spec,
            skip_bad_rows=job.bad_rows == "skip",
            all_probabilities=job.probabilities,
            facts={"version": job.version},
        )


@lru_cache(maxsize=1)
def _open(output: str) -> tuple[Output, Job, Model]:
    """Open a job and its model; the next shards of the same job find them open."""
    from mnist_core.inference import open_model

    opened = Output(output)
    job = opened.need_job()
    with tempfile.TemporaryDirectory() as folder:
        opened.fetch_model(job, Path(folder))
        return opened, job, open_model(Path(folder), "int8" if job.int8 else None)


def prepare() -> None:
    """Let this process use one thread: each core has a worker of its own."""
    limit_cores(1)
    try:
        import pyarrow
    except ImportError:  # the first shard says so
        return
    pyarrow.set_cpu_count(1)


def main() -> None:
    """Answer the shards that come in on standard input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of Ctrl-C the coordinator hears, and ends this process
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is not an answer
    prepare()
    for line in sys.stdin:
        output, number = json.loads(line)
        print(run_shard(output, number), file=answers, flush=True)


if __name__ == "__main__":
    main()
