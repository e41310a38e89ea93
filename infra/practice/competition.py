"""What a practice server holds: one account, the open competitions, and their submissions."""

import asyncio
import secrets
import sqlite3
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infra.practice import data, ledger
from infra.practice.faults import Fault
from infra.practice.ledger import Submission
from infra.practice.options import PracticeOptions
from mnist_core.spec import CompetitionSpec


@dataclass(frozen=True)
class Credentials:
    """The home's one account, created once in `credentials.json`, which only its owner may read."""

    username: str
    key: str = field(repr=False)
    token: str = field(repr=False)


@dataclass(frozen=True)
class Competition:
    """A competition that is open: its files, its solution and its submissions."""

    spec: CompetitionSpec
    archive: Path
    solution: NDArray[np.uint8] = field(repr=False)
    ledger: sqlite3.Connection = field(repr=False)

    @property
    def title(self) -> str:
        """The name as Kaggle shows it: `Digit Recognizer`."""
        return self.spec.name.replace("-", " ").title()

    def submissions(self) -> list[Submission]:
        """Return all submissions, newest first."""
        return ledger.list_submissions(self.ledger, self.spec.name)

    def used(self, now_ms: int, day_seconds: float) -> tuple[int, int]:
        """Return how many submissions count, today and in all; as on Kaggle, those in ERROR do not."""
        day_ms = day_seconds * 1000
        counted = [found for found in self.submissions() if found.status(now_ms) != "ERROR"]
        return sum(found.posted_ms // day_ms == now_ms // day_ms for found in counted), len(counted)


@dataclass
class Server:
    """The state of a practice server, shared by its handlers.

    Attributes:
        folder: zips and submissions of this split.
        ledger: the submissions to all competitions.
        faults: what goes wrong on purpose, in any competition.
        instance: differs at each start.
    """

    folder: Path
    credentials: Credentials
    options: PracticeOptions
    ledger: sqlite3.Connection = field(repr=False)
    faults: list[Fault] = field(default_factory=list)
    instance: str = field(default_factory=lambda: secrets.token_hex(8))
    competitions: dict[str, Competition] = field(default_factory=dict)
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)

    def open(self, spec: CompetitionSpec) -> Competition:
        """Open a competition: its first opening in a home makes its zip, which takes seconds.

        Raises:
            PracticeError: the file of all digits is missing or damaged.
            OSError: the folder cannot be written.
        """
        archive = data.make_zip(self.folder, self.options.split_seed, spec)
        solution = data.solve(self.options.split_seed, spec)
        self.competitions[spec.name] = Competition(spec, archive, solution, self.ledger)
        return self.competitions[spec.name]

    async def find(self, spec: CompetitionSpec) -> Competition:
        """Return an open competition, and open it if this is its first call."""
        async with self._opening:
            if spec.name not in self.competitions:
                await asyncio.to_thread(self.open, spec)
        return self.competitions[spec.name]


def now_ms() -> int:
    """Return the time in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000
