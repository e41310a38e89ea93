"""How the nights ended, and what is still to be known of their submissions.

    nights/<run>/000001/000001.json     numbered list: how an attempt ended
    history/000001.json                 numbered list: the last nights, scores, submissions without a score

Each history has what the one before it had, and what came since; the first one is made from the lists of all
nights, submissions and scores. So a night reads the same few objects however old its store is.
"""

import re
import time
from collections.abc import Callable, Iterable
from datetime import date, timedelta

from flows.records import VERSION, History, NightEntry, RunKey, Score, SubmissionEntry
from flows.store.base import Store
from flows.store.lists import append, delete_old, get_record, last_number, latest, names_of

NIGHTS = 90
"""How many nights a history has."""
ENTRIES = 10
"""How many histories are not pruned; the last one is read."""
LISTS = "champions", "leases", "history"
"""Numbered lists of a namespace that grow with every night."""
RECALL_DAYS = 40
MOMENT_S = 3.0
"""For how long what was read of a list is not read again; a write to the list fails if it was too old."""
ENTRY = re.compile(rf"{VERSION}\.json")
END = re.compile(r"\d{4}-\d\d-\d\d/.+/\d{6}/\d{6}\.json")


class Nights:
    """The nights of a namespace.

    Args:
        store: where they are kept.
        namespace: as the registry's.
    """

    def __init__(self, store: Store, namespace: str) -> None:
        self._store = store
        self._namespace = namespace
        self._prefix = f"{namespace}/history/"
        self._read_until = 0.0  # by the monotonic clock

    def ended(self, run: RunKey) -> NightEntry | None:
        """Return how a run ended; None while it has not."""
        return latest(self._store, f"{self._namespace}/nights/{run.key}/", NightEntry)[1]

    def end(self, entry: NightEntry) -> None:
        """Record how a run ended; the last entry counts, and of two at once the first is kept."""
        prefix = f"{self._namespace}/nights/{entry.run.key}/"
        seen = {name: self._store.seen.get(f"{self._namespace}/{name}/", 0) for name in LISTS}
        entry = entry.model_copy(update={"numbers": seen})
        kept: NightEntry | None = entry
        if not append(self._store, prefix, last_number(self._store, prefix), entry):
            kept = self.ended(entry.run)
        if kept is not None:
            self._add_night(kept)

    def last(self, count: int | None) -> list[NightEntry]:
        """Return the ends of the last runs, the oldest night first; None for all."""
        if count is not None and count <= NIGHTS:
            return list(self._read()[1].nights[-count:])
        return self._all()[-(count or 0) :]

    def scores(self) -> dict[str, float | None]:
        """Return the public scores of the last nights' versions; None if one ended without a score."""
        history = self._read()[1]
        return history.scores | self._scores_of(history.unscored)

    def unscored(self) -> list[SubmissionEntry]:
        """Return the submissions whose end is not known yet, by version."""
        made = self._read()[1].unscored
        ended = self._scores_of(made)
        return [entry for entry in made if entry.version not in ended]

    def add_submission(self, entry: SubmissionEntry) -> None:
        """Add a submission whose score is not known yet."""

        def add(history: History) -> History:
            others = [made for made in history.unscored if made.version != entry.version]
            unscored = sorted([*others, entry], key=lambda made: made.version)
            return history.model_copy(update={"unscored": tuple(unscored)})

        self._change(add)

    def delete_old(self) -> None:
        """Delete the histories that nobody reads any more."""
        delete_old(self._store, self._prefix, ENTRIES)

    def _add_night(self, entry: NightEntry) -> None:
        def add(history: History) -> History:
            others = [night for night in history.nights if night.run.key != entry.run.key]
            nights = sorted([*others, entry], key=lambda night: (night.run.night, night.at or ""))[-NIGHTS:]
            new = self._scores_of(history.unscored)
            names = {night.version for night in nights}
            scores = {name: score for name, score in (history.scores | new).items() if name in names}
            unscored = tuple(made for made in history.unscored if made.version not in new)
            return History(nights=tuple(nights), scores=scores, unscored=unscored)

        self._change(add)

    def _change(self, change: Callable[[History], History]) -> None:
        while True:
            number, history = self._read()
            changed = change(history)
            if (number and changed == history) or append(self._store, self._prefix, number, changed):
                return
            self._read_until = 0.0

    def recall(self, night: str) -> None:
        """Take from the last night before this one at what numbers the lists were: they are not searched."""
        prefix = f"{self._namespace}/nights/"
        since = (date.fromisoformat(night) - timedelta(days=RECALL_DAYS)).isoformat()
        names = [name for name in self._store.names(prefix, since).names if END.fullmatch(name)]
        if names and (last := get_record(self._store, prefix + names[-1], NightEntry)) is not None:
            for name, number in last.numbers.items():
                known = f"{self._namespace}/{name}/"
                self._store.seen[known] = max(number, self._store.seen.get(known, 0))

    def _read(self) -> tuple[int, History]:
        """Return number and value of the history; what was read a moment ago is not read again."""
        if time.monotonic() >= self._read_until:
            number, last = latest(self._store, self._prefix, History)
            if last is None:
                return number, self._collect()
            self._read_until = time.monotonic() + MOMENT_S
        number = self._store.seen[self._prefix]
        last = get_record(self._store, f"{self._prefix}{number:06d}.json", History)
        return number, last or self._collect()

    def _collect(self) -> History:
        """Return the first history."""
        nights = tuple(self._all()[-NIGHTS:])
        submitted, scored = (
            names_of(self._store, f"{self._namespace}/{kind}/", ENTRY) for kind in ("submissions", "scores")
        )
        missing = (
            get_record(self._store, f"{self._namespace}/submissions/{name}", SubmissionEntry)
            for name in sorted(submitted.keys() - scored.keys())
        )
        found = (self._score(night.version) for night in nights)
        return History(
            nights=nights,
            scores={score.version: score.public_score for score in found if score is not None},
            unscored=tuple(entry for entry in missing if entry is not None),
        )

    def _all(self) -> list[NightEntry]:
        """Return how all runs ended, the oldest night first and those of a night as they ended."""
        prefix = f"{self._namespace}/nights/"
        ends = {}
        for name, written in names_of(self._store, prefix, END).items():  # of an attempt the last one counts
            run = name.rpartition("/")[0]
            ends[run] = (run.partition("/")[0], written, prefix + name)
        entries = (get_record(self._store, key, NightEntry) for _, _, key in sorted(ends.values()))
        return [entry for entry in entries if entry is not None]

    def _scores_of(self, submissions: Iterable[SubmissionEntry]) -> dict[str, float | None]:
        """Return the public scores of those submissions that have ended."""
        scores = [score for made in submissions if (score := self._score(made.version)) is not None]
        return {score.version: score.public_score for score in scores}

    def _score(self, version: str) -> Score | None:
        return get_record(self._store, f"{self._namespace}/scores/{version}.json", Score)
