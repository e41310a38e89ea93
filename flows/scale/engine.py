"""The seam between a job and what does its shards, and the engine that needs nothing: local processes.

An engine is called with the job's output and the numbers of shards, and yields an outcome for each, in any
order. It keeps no results, and a shard that it does twice is the same: `run_shard` sees to both.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from flows.scale.worker import Failure, Outcome

DEATHS = 5
"""Workers that one shard may lose before it fails: it may be the shard that kills them."""
ROOT = Path(__file__).parents[2]


class Engine(Protocol):
    """What does shards."""

    def __call__(self, output: str, numbers: Sequence[int]) -> Iterator[Outcome]:
        """Do the shards of these numbers, and yield how each ended."""
        ...


class LocalEngine:
    """Processes of this machine, with one thread each.

    Args:
        workers: how many.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def __call__(self, output: str, numbers: Sequence[int]) -> Iterator[Outcome]:
        """Do shards; a process that dies is replaced, and its shard done again."""
        run = _Run(output, numbers)
        threads = [
            threading.Thread(target=run.serve, daemon=True) for _ in range(min(self.workers, len(numbers)))
        ]
        try:
            for thread in threads:
                thread.start()
            for _ in numbers:
                outcome = run.outcomes.get()
                if isinstance(outcome, BaseException):
                    raise outcome
                yield outcome
        finally:
            run.stop()
            for thread in threads:
                thread.join()


class _Run:
    """The shards of one call, between the threads that each serve one process."""

    def __init__(self, output: str, numbers: Sequence[int]) -> None:
        self._output = output
        self._todo: queue.Queue[int | None] = queue.Queue()
        for number in numbers:
            self._todo.put(number)
        self._deaths: Counter[int] = Counter()
        self._processes: set[subprocess.Popen[str]] = set()
        self._stopped = False
        self._lock = threading.Lock()
        self.outcomes: queue.Queue[Outcome | BaseException] = queue.Queue()

    def serve(self) -> None:
        """Give shards to a process of one's own until there are none."""
        process = None
        try:
            while not self._stopped and (number := self._todo.get()) is not None:
                process = process or self._start()
                answer = self._ask(process, number)
                if answer:
                    self.outcomes.put(Outcome.from_json(answer))
                elif not self._stopped:
                    self._lost(process, number)
                    process = None
        except BaseException as error:
            self.outcomes.put(error)

    def _start(self) -> subprocess.Popen[str]:
        """Start a process, unless the run was stopped."""
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.scale.worker"],
            env=os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2", "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with self._lock:
            self._processes.add(process)
            if self._stopped:
                process.kill()
        return process

    def _ask(self, process: subprocess.Popen[str], number: int) -> str:
        """Return a process's answer about a shard; nothing if it died."""
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps([self._output, number]) + "\n")
            process.stdin.flush()
        except OSError:
            return ""
        line = process.stdout.readline()
        return line if line.endswith("\n") else ""

    def _lost(self, process: subprocess.Popen[str], number: int) -> None:
        """Put a shard back whose process died, unless it has cost enough of them."""
        code = process.wait()
        with self._lock:
            self._processes.discard(process)
        self._deaths[number] += 1
        if self._deaths[number] < DEATHS:
            self._todo.put(number)
            return
        ended = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        failure = Failure(
            f"shard {number}: its worker {ended}, {DEATHS} times",
            "look for the cause in the log of this machine; if it was short of memory, use fewer --workers",
        )
        self.outcomes.put(Outcome(number, failure=failure))

    def stop(self) -> None:
        """End the processes, and let the threads end."""
        with self._lock:
            self._stopped = True
            started = list(self._processes)  # a thread may just now take a dead one out
            for process in started:
                process.kill()
        for _ in range(threading.active_count()):
            self._todo.put(None)
        for process in started:
            process.wait()
            for end in (process.stdin, process.stdout):
                if end is not None:
                    end.close()
