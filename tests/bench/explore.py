"""Measure what exploring is worth: nights with trials, with random trials and without, on one competition.

    python -m infra.practice.examples letters /tmp/letters --rows 58667 --test-rows 50000
    for repeat in 0 1 2; do python -m tests.bench.explore run /tmp/letters --repeat $repeat; done
    python -m tests.bench.explore draw docs/explore.png tests/bench/records/<date>-explore/*.jsonl

Runs no Prefect and no server. Writes each night to `tests/bench/records/<date>-explore/`, a file for each
competition and repeat, at whose end the last night's recipe is trained with further seeds. The nights see the
training rows alone; the test rows are scored for the record and choose nothing. Within a repeat all arms have
the same seeds and folds, and what they train alike is trained once: the same seed gives the same weights.
Seconds are CPU seconds, so that repeats may run side by side (`OMP_NUM_THREADS=1 taskset -c 0 …`).
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean, median, stdev
from time import process_time
from typing import Any

import numpy as np

from flows.policy.search import Plan, next_change, next_plan, night_recipe
from flows.suggest import RANDOM, SearchSpace, suggest
from flows.trial_records import SearchLog, Trial
from mnist_core import Digits, assign_folds, fit, predict, read_train
from mnist_core.recipes import Values, in_line, recipe_name
from mnist_core.spec import read_spec
from mnist_core.training import recipe_of
from mnist_core.trials import Measured, run_trial
from tests.bench.record import RECORDS
from tests.bench.scores import machine, read_lines, tell

ARMS = {"none": "without trials", "random": "random recipes", "optuna": "recipes by Optuna"}
ALL = 1_000_000
"""Trials at random before the estimator is asked: more than there are."""
STYLES = {"none": ".-", "random": ".-", "optuna": ".--"}
CHECKS = 4
"""Further seeds with which the last night's recipe is trained."""


class Bench:
    """What the arms of a repeat share: the rows, the folds, and what was trained.

    Attributes:
        train, test: digits with labels.
        scope: model and preset, `convnet/fast`.
        repeat: its number, from which folds and seeds follow.
    """

    def __init__(self, train: Digits, test: Digits, scope: str, repeat: int) -> None:
        self.train, self.test, self.scope, self.repeat = train, test, scope, repeat
        self.model, _, self.preset = scope.partition("/")
        self.folds = assign_folds(train.true_labels, f"abcdef{repeat:x}")
        self.space = SearchSpace(*recipe_of(self.model, self.preset, spec=train.spec))
        self._nights: dict[tuple[str, int], tuple[float, float, float]] = {}
        self._trials: dict[tuple[str, int, int], Measured] = {}

    def night(self, values: Values, number: int) -> tuple[float, float, float]:
        """Return a night's seconds of training, held-out error rate and public error rate."""
        key = in_line(values), number
        if key not in self._nights:
            held_out, start = self.folds == 0, process_time()
            net = fit(
                self.train, self.model, self.preset, rows=np.flatnonzero(~held_out),
                seed=100_000 + 1_000 * self.repeat + number, device="cpu", values=values,
            )  # fmt: skip
            seconds = process_time() - start
            wrong = predict(net, self.train.pixels[held_out]).argmax(1) != self.train.true_labels[held_out]
            public = predict(net, self.test.pixels).argmax(1) != self.test.true_labels
            self._nights[key] = seconds, float(wrong.mean()), float(public.mean())
        return self._nights[key]

    def trial(self, plan: Plan, values: Values) -> Measured:
        """Return how a trial ends."""
        key = in_line(values), plan.seed, plan.fold
        if key not in self._trials:
            start = process_time()
            measured = run_trial(
                self.train, self.folds, plan.fold, self.model, self.preset, values,
                seed=plan.seed, device="cpu",
            )  # fmt: skip
            self._trials[key] = replace(measured, seconds=round(process_time() - start, 3))
        return self._trials[key]


class Nights:
    """Nights of one arm, one after another."""

    def __init__(self, bench: Bench, arm: str, share: float) -> None:
        self.bench, self.arm, self.share = bench, arm, share
        self.log = SearchLog()
        self.values: Values = {}

    def night(self, number: int) -> dict[str, Any]:
        """Train a night's network, explore, and return what is known of the night."""
        bench = self.bench
        self.values = night_recipe(self.log, bench.scope)
        seconds, held_out, public = bench.night(self.values, number)
        if self.arm != "none":
            self.explore(number, seconds)
        return {
            "arm": self.arm, "night": number, "recipe": recipe_name(self.values),
            "held_out_error": round(held_out, 6), "public_error": public, "train_s": round(seconds, 2),
            "trials": len(self.log.trials), "spent_s": round(self.log.spent_s, 1),
        }  # fmt: skip

    def explore(self, number: int, training_s: float) -> None:
        """Spend what the nights earned, as `flows.explore` does."""
        bench, run = self.bench, f"repeat {self.bench.repeat} night {number}"
        self.log = self.log.with_training(run, self.share * training_s)
        while True:
            plan = next_plan(self.log, bench.scope)
            if plan is None:
                return
            startup = RANDOM if self.arm == "optuna" else ALL
            values = plan.recipe
            if values is None:
                values = suggest(self.log, bench.scope, bench.space, startup=startup)
            work = bench.space.work
            if self.log.balance_s < training_s * work(values) / work(night_recipe(self.log, bench.scope)):
                return
            trial = Trial(
                scope=bench.scope, recipe=dict(values), purpose=plan.purpose, rung=plan.rung, seed=plan.seed,
                fold=plan.fold, run=run, **asdict(bench.trial(plan, values)),
            )  # fmt: skip
            self.log = self.log.with_trial(trial)
            if (change := next_change(self.log, bench.scope)) is not None:
                self.log = self.log.with_change(change)


def deal(digits: Digits, test_rows: int) -> tuple[Digits, Digits]:
    """Return training and test rows, the same for all arms and repeats."""
    order = np.random.default_rng(0).permutation(len(digits))
    return digits[np.sort(order[test_rows:])], digits[np.sort(order[:test_rows])]


def run(folder: Path, scope: str, nights: int, repeat: int, share: float) -> None:
    """Run the nights of each arm in turn, so that all meet the same machine."""
    spec = read_spec(folder / "spec.toml")
    train, test = deal(read_train(folder / "labelled.csv", spec), spec.test_rows or 0)
    log = RECORDS / f"{datetime.now(UTC):%Y-%m-%d}-explore" / f"{spec.name}-{repeat}.jsonl"
    log.parent.mkdir(parents=True, exist_ok=True)
    same = {"competition": spec.name, "repeat": repeat}
    tell(log, **same, scope=scope, share=share, rows=len(train), test_rows=len(test), machine=machine())
    bench = Bench(train, test, scope, repeat)
    arms = [Nights(bench, arm, share) for arm in ARMS]
    for number in range(nights):
        for arm in arms:
            tell(log, **same, **arm.night(number))
    for arm in arms:
        for change in arm.log.changes:
            tell(log, **same, arm=arm.arm, change=change.model_dump(mode="json"))
        public = [bench.night(arm.values, nights + check)[2] for check in range(CHECKS)]
        tell(log, **same, arm=arm.arm, last_recipe=dict(arm.values), checks=public)


def summary(rows: list[dict[str, Any]]) -> list[str]:
    """Return, for each competition and arm, the error that the last night's recipe has beside the preset's.

    A repeat counts once: the median of the last night and its further seeds, which all arms share. (Some
    trainings fail altogether, and would decide a mean.)
    """
    from scipy.stats import t as student

    lines = []
    for name in sorted({row["competition"] for row in rows}):
        mine = [row for row in rows if row["competition"] == name]
        checks = {(row["arm"], row["repeat"]): row["checks"] for row in mine if "checks" in row}
        last = {(row["arm"], row["repeat"]): row["public_error"] for row in mine if "night" in row}
        for arm in ("random", "optuna"):
            repeats = sorted(repeat for known, repeat in checks if known == arm)
            means = [
                [median((last[of, repeat], *checks[of, repeat])) for of in (arm, "none")]
                for repeat in repeats
            ]
            if not means:
                continue
            differences = [ours - others for ours, others in means]
            half = ""
            if len(differences) > 1:
                t = float(student.ppf(0.975, len(differences) - 1))
                half = f" ± {100 * t * stdev(differences) / len(differences) ** 0.5:.3f}"
            lines.append(
                f"{name}, {ARMS[arm]}: {100 * fmean(ours for ours, _ in means):.3f} % wrong instead of "
                f"{100 * fmean(others for _, others in means):.3f} %, difference "
                f"{100 * fmean(differences):+.3f}{half} (95 %, {len(differences)} repeats)"
            )
    return lines


def draw(rows: list[dict[str, Any]], picture: Path) -> None:
    """Draw public and held-out error by night for each competition and arm: median and range of repeats."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, NullFormatter

    nights = [row for row in rows if "night" in row]
    names = sorted({row["competition"] for row in nights})
    figure, plots = plt.subplots(
        2, len(names), figsize=(1 + 4 * len(names), 6.5), layout="constrained", squeeze=False, sharex=True
    )
    for column, name in enumerate(names):
        for line, (key, title) in enumerate((("public_error", "test rows"), ("held_out_error", "held out"))):
            axes = plots[line][column]
            for arm, label in ARMS.items():
                by_night: dict[int, list[float]] = {}
                for row in nights:
                    if (row["competition"], row["arm"]) == (name, arm):
                        by_night.setdefault(row["night"] + 1, []).append(100 * row[key])
                xs, errors = list(by_night), list(by_night.values())
                (drawn,) = axes.plot(xs, [median(each) for each in errors], STYLES[arm], label=label)
                axes.fill_between(
                    xs, [*map(min, errors)], [*map(max, errors)], color=drawn.get_color(), alpha=0.15
                )
            axes.set_title(f"{name}: {title}")
            axes.set(ylabel="wrong, %", yscale="log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter(NullFormatter())
            axes.grid(visible=True, which="both", alpha=0.3)
        plots[1][column].set_xlabel("night")
    plots[0][0].legend(fontsize=9)
    figure.savefig(picture, dpi=120)


def main() -> None:
    """Run one repeat, or draw what was measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="run the nights of a repeat")
    running.add_argument("folder", type=Path, help="folder of an example: labelled.csv and spec.toml")
    running.add_argument("--scope", default="convnet/fast", help="model and preset")
    running.add_argument("--nights", type=int, default=14)
    running.add_argument("--repeat", type=int, default=0, help="its number: folds and seeds follow from it")
    running.add_argument("--share", type=float, default=4.0, help="part of the training seconds for trials")
    drawing = commands.add_parser("draw", help="draw what was measured, and print a summary")
    drawing.add_argument("picture", type=Path)
    drawing.add_argument("logs", type=Path, nargs="+")
    given = parser.parse_args()
    if given.command == "run":
        run(given.folder, given.scope, given.nights, given.repeat, given.share)
    else:
        rows = [row for log in given.logs for row in read_lines(log)]
        draw(rows, given.picture)
        print(*summary(rows), sep="\n")


if __name__ == "__main__":
    main()
