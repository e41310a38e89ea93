"""Measure what exploring is worth: nights with trials, with random trials and without, on one competition.

    python -m infra.practice.examples letters /tmp/letters --rows 13000
    python -m tests.bench.explore /tmp/letters --nights 14 --repeats 3 --share 2

Runs no Prefect and no server. Appends each night to `tests/bench/records/<date>-explore/results.jsonl`.
The nights see the training rows alone; the test rows are scored for the record and choose nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean, stdev
from time import perf_counter
from typing import Any

import numpy as np

from flows.policy.search import expected_s, next_change, next_plan, night_recipe
from flows.suggest import suggest
from flows.trial_records import SearchLog, Trial
from mnist_core import Digits, assign_folds, fit, predict, read_train
from mnist_core.recipes import Choice, Range, Space, Value, recipe_name, rounded
from mnist_core.spec import read_spec
from mnist_core.training import recipe_of
from mnist_core.trials import run_trial
from tests.bench.record import RECORDS
from tests.bench.scores import machine, tell

ARMS = ("none", "random", "optuna")
Suggest = Callable[[SearchLog, Space, Mapping[str, Value]], dict[str, Value]]


class Nights:
    """Nights of one arm, one after another."""

    def __init__(self, train: Digits, test: Digits, scope: str, arm: str, share: float, repeat: int) -> None:
        self.train, self.test, self.scope, self.arm, self.share, self.repeat = (
            train,
            test,
            scope,
            arm,
            share,
            repeat,
        )
        self.model, _, self.preset = scope.partition("/")
        self.folds = assign_folds(train.true_labels, "abcdef")
        self.random = np.random.default_rng(repeat)
        self.log = SearchLog()

    def night(self, number: int) -> dict[str, Any]:
        """Train a night's network, explore, and return what is known of the night."""
        values = night_recipe(self.log, self.scope)
        rows = np.flatnonzero(self.folds != 0)
        start = perf_counter()
        net = fit(
            self.train,
            self.model,
            self.preset,
            rows=rows,
            seed=1000 * self.repeat + number,
            device="cpu",
            values=values,
        )
        training_s = perf_counter() - start
        held_out = self.folds == 0
        wrong = (
            predict(net, self.train.pixels[held_out]).argmax(1) != self.train.true_labels[held_out]
        ).mean()
        public = (predict(net, self.test.pixels).argmax(1) != self.test.true_labels).mean()
        if self.arm != "none":
            self.explore(number, training_s)
        return {
            "arm": self.arm, "repeat": self.repeat, "night": number, "recipe": recipe_name(values),
            "held_out_error": float(wrong), "public_error": float(public), "train_s": round(training_s, 2),
            "trials": len(self.log.trials), "spent_s": round(self.log.spent_s, 1),
        }  # fmt: skip

    def explore(self, number: int, training_s: float) -> None:
        """Spend what the nights earned, as `flows.explore` does."""
        run = f"night {number}"
        self.log = self.log.with_training(run, self.share * training_s)
        kind, recipe = recipe_of(self.model, self.preset, spec=self.train.spec)
        space = kind.space_of(recipe)
        base = {name: getattr(recipe, name) for name in space}
        while True:
            plan = next_plan(self.log, self.scope)
            if plan is None or self.log.balance_s < expected_s(plan, training_s):
                return
            values = plan.recipe
            if values is None:
                values = (
                    suggest(self.log, self.scope, space, base) if self.arm == "optuna" else self.drawn(space)
                )
            measured = run_trial(
                self.train, self.folds, plan.fold, self.model, self.preset, values,
                seed=plan.seed, effort=plan.effort, device="cpu",
            )  # fmt: skip
            trial = Trial(
                scope=self.scope, recipe=dict(values), purpose=plan.purpose, rung=plan.rung, seed=plan.seed,
                fold=plan.fold, run=run, **asdict(measured),
            )  # fmt: skip
            self.log = self.log.with_trial(trial)
            if (change := next_change(self.log, self.scope)) is not None:
                self.log = self.log.with_change(change)

    def drawn(self, space: Space) -> dict[str, Value]:
        """Return a recipe drawn at random within the bounds."""
        return rounded({name: self._value(part) for name, part in space.items()})

    def _value(self, part: Range | Choice) -> Value:
        if isinstance(part, Choice):
            return part.values[int(self.random.integers(len(part.values)))]
        if part.whole:
            return int(self.random.integers(int(part.low), int(part.high) + 1))
        if part.log:
            return float(np.exp(self.random.uniform(np.log(part.low), np.log(part.high))))
        return float(self.random.uniform(part.low, part.high))


def deal(digits: Digits, test_rows: int) -> tuple[Digits, Digits]:
    """Return training and test rows, the same for all arms."""
    order = np.random.default_rng(0).permutation(len(digits))
    return digits[np.sort(order[test_rows:])], digits[np.sort(order[:test_rows])]


def main() -> None:
    """Run the nights of each arm in turn, so that all meet the same machine."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="folder of an example: labelled.csv and spec.toml")
    parser.add_argument("--scope", default="convnet/fast", help="model and preset")
    parser.add_argument("--nights", type=int, default=14)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--share", type=float, default=2.0, help="part of the training seconds for trials")
    parser.add_argument("--test-rows", type=int, default=3000)
    given = parser.parse_args()
    spec = read_spec(given.folder / "spec.toml")
    train, test = deal(read_train(given.folder / "labelled.csv", spec), given.test_rows)
    log = RECORDS / f"{datetime.now(UTC):%Y-%m-%d}-explore" / "results.jsonl"
    log.parent.mkdir(parents=True, exist_ok=True)
    tell(log, competition=spec.name, scope=given.scope, share=given.share, rows=len(train), machine=machine())
    last: dict[str, list[float]] = {arm: [] for arm in ARMS}
    for repeat in range(given.repeats):
        arms = [Nights(train, test, given.scope, arm, given.share, repeat) for arm in ARMS]
        for number in range(given.nights):
            for nights in arms:
                row = nights.night(number)
                tell(log, competition=spec.name, **row)
                if number >= given.nights - 3:
                    last[nights.arm].append(row["public_error"])
    for arm, errors in last.items():
        spread = stdev(errors) if len(errors) > 1 else 0.0
        tell(log, competition=spec.name, arm=arm, last_nights=len(errors), mean=fmean(errors), sd=spread)


if __name__ == "__main__":
    main()
