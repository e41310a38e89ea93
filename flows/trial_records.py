"""The records of the search for a better recipe."""

from __future__ import annotations

import math
from enum import StrEnum
from functools import cached_property
from typing import Any

from flows.records import Record
from mnist_core.recipes import Value, recipe_name

TRIALS, TRAININGS = 3_000, 200
"""How many of each a log keeps."""
WORST = 10.0
"""The log loss that stands for a training that diverged: more than guessing among 1,000 classes, and finite,
so that it has a mean."""


class Purpose(StrEnum):
    """Why a recipe is tried; each purpose has rows of its own (`flows/policy/search.py`)."""

    SUGGEST = "suggest"
    CONFIRM = "confirm"
    JUDGE = "judge"


class Trial(Record):
    """One training of a recipe, measured on rows that it did not see.

    Attributes:
        scope: model and preset of the nights that it is for, `convnet/fast`.
        recipe: the fields in which it differs from the preset.
        purpose, rung: what it is tried for, and how far its recipe has come.
        seed, fold: of the training, and the fold held out.
        epochs: passes over the rows.
        loss: mean log loss of the held-out rows at the best temperature, in nats; None if training diverged.
        errors: held-out rows that are wrong; None if training diverged.
        rows: held-out rows.
        seconds: of training and measuring.
        run: key of the run that made it.
    """

    scope: str
    recipe: dict[str, Value]
    purpose: Purpose
    rung: int
    seed: int
    fold: int
    epochs: int
    loss: float | None
    errors: int | None
    rows: int
    seconds: float
    run: str

    @cached_property
    def name(self) -> str:
        """Its recipe's name."""
        return recipe_name(self.recipe)

    @property
    def ranked_loss(self) -> float:
        """Its log loss, at most `WORST`, which also stands for a training that diverged."""
        return WORST if self.loss is None or not math.isfinite(self.loss) else min(self.loss, WORST)

    @property
    def error_rate(self) -> float:
        """Share of the held-out rows that are wrong, 0 to 1; 1 if the training diverged."""
        return 1.0 if self.errors is None else self.errors / self.rows

    @property
    def identity(self) -> tuple[Any, ...]:
        """What it measured: of two trials with the same, the first counts."""
        return self.scope, self.name, self.purpose, self.rung, self.seed, self.fold


class Change(Record):
    """A change of the recipe that nights train, with its evidence.

    Attributes:
        scope: of the nights.
        recipe, before: the new one and the one before it.
        demotes: whether it takes back the change before it.
        pairs, difference: trials of both with the same seeds, and the mean difference of their log losses.
        p_value, level: how probable that is if both are equally good, and what was required.
        night: when, as a UTC date.
    """

    scope: str
    recipe: dict[str, Value]
    before: dict[str, Value]
    demotes: bool = False
    pairs: int
    difference: float
    p_value: float
    level: float
    night: str = ""


class SearchLog(Record):
    """All that is known of the search in a namespace.

    Attributes:
        trials: in the order in which they were recorded.
        changes: of the nights' recipes, the last one of a scope counts.
        trainings: the last runs that earned, by key.
        earned_s, spent_s: seconds that the nights' trainings earned for trials, and that trials took.
    """

    trials: tuple[Trial, ...] = ()
    changes: tuple[Change, ...] = ()
    trainings: tuple[str, ...] = ()
    earned_s: float = 0.0
    spent_s: float = 0.0

    @property
    def balance_s(self) -> float:
        """Seconds that may be spent on trials."""
        return self.earned_s - self.spent_s

    def with_training(self, run: str, earned_s: float) -> SearchLog:
        """Return the log after a training earned seconds; the same run earns once."""
        if run in self.trainings:
            return self
        known = (*self.trainings, run)[-TRAININGS:]
        return self.model_copy(update={"trainings": known, "earned_s": self.earned_s + earned_s})

    def with_trial(self, trial: Trial) -> SearchLog:
        """Return the log with a trial; one that measured what another did only spends its seconds.

        Beyond `TRIALS` the oldest that suggested a recipe is left out.
        """
        spent_s = self.spent_s + trial.seconds
        trials = self.trials
        if all(trial.identity != known.identity for known in trials):
            trials = (*trials, trial)
        if len(trials) > TRIALS:
            oldest = next((known for known in trials if known.purpose is Purpose.SUGGEST), trials[0])
            trials = tuple(known for known in trials if known is not oldest)
        return self.model_copy(update={"trials": trials, "spent_s": spent_s})

    def with_change(self, change: Change) -> SearchLog:
        """Return the log with a change of a scope's recipe."""
        return self.model_copy(update={"changes": (*self.changes, change)})
