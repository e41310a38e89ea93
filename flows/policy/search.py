"""The search for a better recipe: what is tried next, and when a recipe becomes the night's.

Three kinds of trials, on three disjoint sets of rows:

    suggest   folds 2, 3, 4   new recipes; the best third of each rung goes on to the next one
    confirm   fold 1          the best one against the night's recipe, in pairs with the same seeds
    judge     fold 0          a recipe that was taken against the one before it, in pairs too

Fold 0 is also what the gate holds out from a single network, so that the rows that judge never chose. (An
ensemble's gate reads all folds; its recipes are judged on fold 0 all the same.)

A recipe is taken if it beats the night's in a test that is exact if both are equally good: the signs of the
pairs' differences are then arbitrary. The n-th recipe that is confirmed has to pass at 6 / (π n)² of 5 %, so
that the chance of ever taking one that is not better stays below 5 %, however many nights there are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from flows.trial_records import Change, Purpose, SearchLog, Trial
from mnist_core.recipes import Values, recipe_name

ALPHA = 0.05
"""Chance of ever taking a recipe that is not better, and of demoting one that is not worse."""
PAIRS = 8
"""Fewest pairs of trials that decide."""
PAIRS_MAX = 16
FUTILE = 4
"""Pairs after which a recipe that is not better on average is given up."""
PART = 3
"""One in this number of recipes on a rung goes on."""
JUDGE_FOLD, CONFIRM_FOLD = 0, 1
CONFIRM_SEED, JUDGE_SEED = 1_000, 2_000


RUNGS = (((0, 2),), ((1, 3),), ((2, 4), (3, 2)))
"""Seeds and folds of the trials of each rung: the same for all recipes, so that they can be paired.

Halving by trials, not by epochs: on half of its epochs a training may still be at chance, and says nothing of
a whole one (measured on coloured letters; tests/bench/LOG.md)."""


@dataclass(frozen=True)
class Plan:
    """The next trial.

    Attributes:
        recipe: its values; None: a new one, for the sampler to suggest.
        purpose, rung, seed, fold: as of a `Trial`.
    """

    recipe: Values | None
    purpose: Purpose
    rung: int
    seed: int
    fold: int


def night_recipe(log: SearchLog, scope: str) -> Values:
    """Return the recipe that the nights of a scope train."""
    last = _last_change(log, scope)
    return {} if last is None else last.recipe


def next_change(log: SearchLog, scope: str) -> Change | None:
    """Return the change of the night's recipe that the trials call for; None if they call for none."""
    now = night_recipe(log, scope)
    last = _last_change(log, scope)
    if last is not None and not last.demotes:
        differences = _differences(log, scope, Purpose.JUDGE, now, last.before)
        if len(differences) >= PAIRS and (p := sign_flip([-value for value in differences[:PAIRS]])) <= ALPHA:
            return _change(scope, last.before, now, differences[:PAIRS], p, ALPHA, demotes=True)
        if len(differences) < PAIRS:
            return None  # first it is judged
    for place, candidate in enumerate(_confirmed(log, scope), 1):
        level = spent_alpha(place)
        needed = pairs_needed(level)
        differences = _differences(log, scope, Purpose.CONFIRM, candidate, now)
        if (
            candidate == now
            or needed is None
            or len(differences) < needed
            or _was_taken(log, scope, candidate)
        ):
            continue
        p = sign_flip(differences[:needed])
        if p <= level and _error_rate(log, scope, candidate) <= _error_rate(log, scope, now):
            return _change(scope, candidate, now, differences[:needed], p, level, demotes=False)
    return None


def next_plan(log: SearchLog, scope: str) -> Plan | None:
    """Return the trial that comes next; it is for the budget to say whether it begins.

    None if too many recipes were confirmed for a further one to be taken (`pairs_needed`).
    """
    plan = _to_judge(log, scope) or _to_confirm(log, scope)
    if plan is None and _may_confirm(len(_confirmed(log, scope)) + 1):
        return _to_suggest(log, scope)
    return plan


def sign_flip(differences: Sequence[float]) -> float:
    """Return how probable differences at least this negative are if their signs are arbitrary, 2^-n to 1.

    Source: R. A. Fisher, The Design of Experiments, 1935, § 21.
    """
    import numpy as np

    values = np.asarray(differences, np.float64)
    n = len(values)
    signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
    sums = signs @ values
    return float((sums <= values.sum() + 1e-12).mean())


def spent_alpha(place: int) -> float:
    """Return the level at which the recipe that is the `place`-th to be confirmed has to pass, from 1."""
    return ALPHA * 6 / (math.pi * place) ** 2


def pairs_needed(level: float) -> int | None:
    """Return how many pairs decide at a level; None if even `PAIRS_MAX` cannot."""
    return next((n for n in range(PAIRS, PAIRS_MAX + 1) if 2.0**-n <= level / 4), None)


def _may_confirm(place: int) -> bool:
    """Return whether enough of the level is left for the `place`-th recipe that is confirmed."""
    return pairs_needed(spent_alpha(place)) is not None


# Judge and confirm: pairs


def _to_judge(log: SearchLog, scope: str) -> Plan | None:
    last = _last_change(log, scope)
    if last is None or last.demotes:
        return None
    return _missing_half(log, scope, Purpose.JUDGE, (last.recipe, last.before), PAIRS)


def _to_confirm(log: SearchLog, scope: str) -> Plan | None:
    now = night_recipe(log, scope)
    confirmed = _confirmed(log, scope)
    for place, candidate in enumerate(confirmed, 1):
        needed = pairs_needed(spent_alpha(place))
        if candidate == now or needed is None or _was_taken(log, scope, candidate):
            continue
        differences = _differences(log, scope, Purpose.CONFIRM, candidate, now)
        if len(differences) >= FUTILE and fmean(differences) >= 0:
            continue
        plan = _missing_half(log, scope, Purpose.CONFIRM, (candidate, now), needed)
        if plan is not None:
            return plan
    best = _winner(log, scope)
    if best is None or not _may_confirm(len(confirmed) + 1):
        return None
    return Plan(best, Purpose.CONFIRM, 0, CONFIRM_SEED, CONFIRM_FOLD)


def _missing_half(
    log: SearchLog, scope: str, purpose: Purpose, recipes: tuple[Values, Values], pairs: int
) -> Plan | None:
    """Return the first trial that is missing from a number of pairs."""
    first = CONFIRM_SEED if purpose is Purpose.CONFIRM else JUDGE_SEED
    fold = CONFIRM_FOLD if purpose is Purpose.CONFIRM else JUDGE_FOLD
    known = [_losses(log, scope, purpose, recipe) for recipe in recipes]
    return next(
        (
            Plan(recipe, purpose, 0, seed, fold)
            for seed in range(first, first + pairs)
            for recipe, losses in zip(recipes, known, strict=True)
            if seed not in losses
        ),
        None,
    )


def _differences(log: SearchLog, scope: str, purpose: Purpose, a: Values, b: Values) -> list[float]:
    """Return the loss of a minus that of b for each seed that both were tried with, in order of the seeds."""
    of_a, of_b = (_losses(log, scope, purpose, recipe) for recipe in (a, b))
    return [of_a[seed] - of_b[seed] for seed in sorted(of_a.keys() & of_b.keys())]


def _error_rate(log: SearchLog, scope: str, recipe: Values) -> float:
    """Return the mean error rate of a recipe's confirming trials."""
    name = recipe_name(recipe)
    return fmean(trial.error_rate for trial in _trials(log, scope, Purpose.CONFIRM) if trial.name == name)


def _confirmed(log: SearchLog, scope: str) -> list[Values]:
    """Return the recipes that were chosen to be confirmed, in that order."""
    found: dict[str, Values] = {}
    for trial in _trials(log, scope, Purpose.CONFIRM):
        if trial.recipe:
            found.setdefault(trial.name, trial.recipe)
    return list(found.values())


# Suggest: rungs


def _to_suggest(log: SearchLog, scope: str) -> Plan:
    now = night_recipe(log, scope)
    base = _on_rung(log, scope, 0).get(recipe_name(now))
    if base is None:
        return _on(0, now, 0)
    for number in (2, 1):
        reached, below = _on_rung(log, scope, number), _on_rung(log, scope, number - 1)
        for name, trials in reached.items():
            run = _missing_run(number, trials)
            if name != recipe_name(now) and run is not None:
                return _on(number, trials[0].recipe, run)
        rising = _rising(below, now)
        new = next((trials[0].recipe for name, trials in rising if name not in reached), None)
        if new is not None:
            run = _missing_run(number, reached.get(recipe_name(now), ()))
            return _on(number, new, 0) if run is None else _on(number, now, run)
    return Plan(None, Purpose.SUGGEST, 0, *RUNGS[0][0])


def _missing_run(rung: int, trials: Sequence[Trial]) -> int | None:
    """Return the place of the first run of a rung that a recipe has no trial of; None if it has all."""
    known = {(trial.seed, trial.fold) for trial in trials}
    return next((place for place, run in enumerate(RUNGS[rung]) if run not in known), None)


def _on(rung: int, recipe: Values, run: int) -> Plan:
    seed, fold = RUNGS[rung][run]
    return Plan(recipe, Purpose.SUGGEST, rung, seed, fold)


def _rising(reached: dict[str, list[Trial]], now: Values) -> list[tuple[str, list[Trial]]]:
    """Return the recipes of a rung that go on to the next one: the best part, better than the night's."""
    own = reached.get(recipe_name(now))
    others = {name: trials for name, trials in reached.items() if name != recipe_name(now)}
    ranked = sorted(others.items(), key=lambda item: _mean_loss(item[1]))[: len(others) // PART]
    if own is None:
        return []
    limit = _mean_loss(own)
    return [(name, trials) for name, trials in ranked if _mean_loss(trials) < limit]


def _winner(log: SearchLog, scope: str) -> Values | None:
    """Return the best recipe of the last rung that beats the night's there and was not confirmed yet."""
    now, last = night_recipe(log, scope), len(RUNGS) - 1
    known = {recipe_name(recipe) for recipe in _confirmed(log, scope)} | {recipe_name(now)}
    reached = _on_rung(log, scope, last)
    own = reached.get(recipe_name(now), [])
    done = {
        name: trials
        for name, trials in reached.items()
        if name not in known and len(trials) == len(RUNGS[last]) == len(own)
    }
    if not done:
        return None
    best = min(done.values(), key=_mean_loss)
    return best[0].recipe if _mean_loss(best) < _mean_loss(own) else None


def _on_rung(log: SearchLog, scope: str, rung: int) -> dict[str, list[Trial]]:
    """Return the trials of each recipe on a rung, by the recipe's name."""
    found: dict[str, list[Trial]] = {}
    for trial in _trials(log, scope, Purpose.SUGGEST):
        if trial.rung == rung:
            found.setdefault(trial.name, []).append(trial)
    return found


def _mean_loss(trials: Sequence[Trial]) -> float:
    return fmean(trial.ranked_loss for trial in trials)


# What the log says


def _trials(log: SearchLog, scope: str, purpose: Purpose) -> Iterable[Trial]:
    return (trial for trial in log.trials if trial.scope == scope and trial.purpose is purpose)


def _losses(log: SearchLog, scope: str, purpose: Purpose, recipe: Values) -> dict[int, float]:
    """Return the loss of each seed that a recipe was tried with."""
    name = recipe_name(recipe)
    return {trial.seed: trial.ranked_loss for trial in _trials(log, scope, purpose) if trial.name == name}


def _last_change(log: SearchLog, scope: str) -> Change | None:
    return next((change for change in reversed(log.changes) if change.scope == scope), None)


def _was_taken(log: SearchLog, scope: str, recipe: Values) -> bool:
    return any(change.scope == scope and change.recipe == recipe for change in log.changes)


def _change(
    scope: str,
    recipe: Values,
    before: Values,
    differences: Sequence[float],
    p: float,
    level: float,
    *,
    demotes: bool,
) -> Change:
    return Change(
        scope=scope, recipe=dict(recipe), before=dict(before), demotes=demotes, pairs=len(differences),
        difference=fmean(differences), p_value=p, level=level,
    )  # fmt: skip
