"""What a practice server holds: one account, the open competitions, and their submissions."""

import asyncio
import secrets
import sqlite3
import time
from dataclasses import dataclass, field
from pathlib import Path

from infra.practice import catalog, data, labelled, ledger
from infra.practice.catalog import Offer
from infra.practice.data import Solution
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

    offer: Offer
    archive: Path
    solution: Solution = field(repr=False)
    ledger: sqlite3.Connection = field(repr=False)

    @property
    def spec(self) -> CompetitionSpec:
        """What its files hold."""
        return self.offer.spec

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
        home: its own; it has a record of each competition that is not built in.
        folder: zips and submissions of this split.
        ledger: the submissions to all competitions.
        faults: what goes wrong on purpose, in any competition.
        instance: differs at each start.
    """

    home: Path
    folder: Path
    credentials: Credentials
    options: PracticeOptions
    ledger: sqlite3.Connection = field(repr=False)
    faults: list[Fault] = field(default_factory=list)
    instance: str = field(default_factory=lambda: secrets.token_hex(8))
    competitions: dict[str, Competition] = field(default_factory=dict)
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)

    def open(self, offer: Offer) -> Competition:
        """Open a competition: its first opening in a home makes its zip, which takes seconds.

        Raises:
            PracticeError: its labelled rows are missing, damaged or wrong.
            OSError: the folder cannot be written.
        """
        spec, seed = offer.spec, self.options.split_seed
        own = offer.labelled is not None
        rows = labelled.read(offer.labelled, spec) if offer.labelled else labelled.digits(spec)
        folder = self.folder / f"{spec.name}-{offer.digest[:12]}" if own else self.folder
        archive = data.make_zip(folder, seed, spec, rows)
        opened = Competition(offer, archive, data.solve(seed, spec, rows), self.ledger)
        self.competitions[spec.name] = opened
        return opened

    async def find(self, name: object) -> Competition | None:
        """Return an open competition, opened if this is its first call; None if there is none of the name.

        Raises:
            PracticeError, OSError: as `open`.
        """
        async with self._opening:
            offer = catalog.find(self.home, name)
            if offer is None:
                return None
            opened = self.competitions.get(offer.spec.name)
            if opened is None or opened.offer != offer:
                opened = await asyncio.to_thread(self.open, offer)
            return opened


def now_ms() -> int:
    """Return the time in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000
