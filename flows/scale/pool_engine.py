"""The engine of a work pool: child runs of ranges of shards, each on a machine of the pool.

They are started, waited for and cancelled as the trainings of a night are. A child does its shards with the
processes of its own machine.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from flows.environment import SettingsError
from flows.scale.job import Output
from flows.scale.worker import Failure, Outcome

RUNS = 4
"""Child runs unless a number is given."""
READERS = 8
"""Records of finished shards that are read at once."""


class PoolEngine:
    """Child runs of a deployment of the flow `predict`.

    Args:
        deployment: such as `predict/cpu`.
        runs: how many at most.
        start_s, cap_s: seconds within which one must start, and that it may take.
    """

    def __init__(self, deployment: str, runs: int, start_s: float, cap_s: float) -> None:
        self.deployment, self.runs = deployment, runs
        self.start_s, self.cap_s = start_s, cap_s

    def __call__(self, output: str, numbers: Sequence[int]) -> Iterator[Outcome]:
        """Do shards in child runs, and yield how each ended when all runs have.

        Raises:
            ChildError: a run did not end well; those beside it were finished first.
        """
        from flows.ops.children import Limits, run_children
        from flows.parameters import PredictParameters

        ranges = [in_ranges(part) for part in split(sorted(numbers), self.runs)]
        children = {
            f"predict shards {part}": PredictParameters.check(output=output, shards=part) for part in ranges
        }
        run_children(self.deployment, children, Limits(self.start_s, self.cap_s))
        opened = Output(output)
        with ThreadPoolExecutor(READERS) as pool:
            for number, finished in zip(numbers, pool.map(opened.finished, numbers), strict=True):
                failure = None
                if finished is None:
                    failure = Failure(
                        f"shard {number}: its run ended without it",
                        f"let the machines of {self.deployment} reach {output}, and run this again",
                    )
                yield Outcome(number, finished, failure)


def split(numbers: Sequence[int], parts: int) -> list[Sequence[int]]:
    """Return numbers in at most this many parts, one after another, as equal as can be; none is empty."""
    count = min(parts, len(numbers))
    bounds = [len(numbers) * part // count for part in range(count + 1)] if count else []
    return [numbers[start:stop] for start, stop in itertools.pairwise(bounds)]


def in_ranges(numbers: Sequence[int]) -> str:
    """Return sorted numbers as `0-49,60`."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


def of_ranges(text: str, count: int) -> list[int]:
    """Return the numbers of `0-49,60`.

    Args:
        text: as `in_ranges` gives it.
        count: of the shards of the job.

    Raises:
        SettingsError: it has another form, or a shard that the job does not have.
    """
    numbers: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise SettingsError(f"shards {text}: {part!r} is not a range", "give such as 0-49,60")
        start, stop = int(first), int(last or first) + 1
        if not start < stop <= count:
            raise SettingsError(f"shards {text}: the job has shards 0 to {count - 1}", "give some of them")
        numbers += range(start, stop)
    return numbers
