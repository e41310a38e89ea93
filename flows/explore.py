"""Use a part of each night's training seconds to try other recipes, and take one that is shown to be better.

What is tried and what follows from it is decided in `flows/policy/search.py`.
"""

import logging
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

from prefect import task
from prefect.cache_policies import NO_CACHE

from flows.caps import OverdueError, left_s
from flows.policy.search import Plan, next_change, next_plan, night_recipe
from flows.run import RunContext, is_scheduled
from flows.settings import Settings
from flows.suggest import SearchSpace, is_available, suggest
from flows.trial_records import SearchLog, Trial
from flows.trials import change_log, recipe_values, scope_of
from mnist_core.errors import ModelError
from mnist_core.models.base import find
from mnist_core.recipes import Value, Values, recipe_name

if TYPE_CHECKING:
    from mnist_core import Digits

log = logging.getLogger("mnist")
DEFAULT_SHARE = 0.2
"""Part of a scheduled night's training seconds that is used for trials."""
ROOM = 2.0
"""A trial begins only if its expected seconds times this are left until the run's cap."""


def share_of(settings: Settings) -> float:
    """Return the part of its training seconds that a run earns for trials; none if it is not scheduled."""
    if settings.explore is not None:
        return settings.explore
    return DEFAULT_SHARE if is_scheduled() else 0.0


@task(name="explore", cache_policy=NO_CACHE, persist_result=False)
def explore(run: RunContext, training_s: float, share: float) -> None:
    """Try recipes while this and earlier trainings have earned the seconds for it.

    A trial that has begun is finished; each is recorded when it ends, so that a run which dies loses at most
    the one that it was at. What fails here does not fail the night.

    Args:
        run: whose network was trained, as long as this takes.
        training_s: what its training took.
        share: part of it that is earned for trials.
    """
    space = _search_space(run)
    if not space.fields:
        return
    if not is_available():
        log.info("no recipe is tried: Optuna is missing; pip install 'mnist-nightly[explore]'")
        return
    try:
        _explore(run, space, training_s, share)
    except OverdueError:
        raise
    except Exception:  # the night has its network
        log.warning("trying other recipes ended early", exc_info=True)


def _explore(run: RunContext, space: SearchSpace, training_s: float, share: float) -> None:
    scope = scope_of(run.key.model, run.key.preset)
    known = change_log(run.registry, lambda known: known.with_training(run.key.key, share * training_s))
    digits = None
    while True:
        plan = next_plan(known, scope)
        if plan is None:
            log.info("no recipe is tried: as many were confirmed as there can be (docs/recipes.md)")
            return
        values = suggest(known, scope, space) if plan.recipe is None else plan.recipe
        needed = training_s * space.work(values) / space.work(night_recipe(known, scope))
        if known.balance_s < needed or left_s() < ROOM * needed:
            return
        digits = _read(run) if digits is None else digits
        trial = _try(run, digits, plan, values)
        known = change_log(run.registry, partial(_with_trial, run=run, scope=scope, trial=trial))


def _with_trial(known: SearchLog, run: RunContext, scope: str, trial: Trial) -> SearchLog:
    """Return the log with a trial, and with the change of recipe that it calls for, if it does."""
    known = known.with_trial(trial)
    change = next_change(known, scope)
    if change is None:
        return known
    names = recipe_name(change.recipe), recipe_name(change.before)
    log.info(
        "%s: nights train %s from now on instead of %s (%d pairs, p = %.4f)",
        scope, *names, change.pairs, change.p_value,
    )  # fmt: skip
    return known.with_change(change.model_copy(update={"night": run.key.night}))


def _try(run: RunContext, digits: "Digits", plan: Plan, values: Values) -> Trial:
    """Run one trial of a recipe."""
    from mnist_core import assign_folds
    from mnist_core.trials import Measured, run_trial

    scope = scope_of(run.key.model, run.key.preset)
    folds = assign_folds(digits.true_labels, run.data.digest)
    try:
        measured = run_trial(
            digits, folds, plan.fold, run.key.model, run.key.preset, values, seed=plan.seed,
            member=first_member(run.key.model), device=run.settings.device,
        )  # fmt: skip
    except ModelError as error:  # a recipe of an older space; without a record it would stay the next one
        log.warning("recipe %s cannot be tried: %s", recipe_name(values), error)
        measured = Measured(loss=None, errors=None, rows=0, epochs=0, seconds=0.0)
    loss = "diverged" if measured.loss is None else f"log loss {measured.loss:.5f}"
    log.info(
        "tried recipe %s (%s, rung %d): %s, %s of %s wrong, %.1f s",
        recipe_name(values), plan.purpose, plan.rung, loss, measured.errors, f"{measured.rows:,}",
        measured.seconds,
    )  # fmt: skip
    return Trial(
        scope=scope, recipe=dict(values), purpose=plan.purpose, rung=plan.rung, seed=plan.seed,
        fold=plan.fold, run=run.key.key, **asdict(measured),
    )  # fmt: skip


def _search_space(run: RunContext) -> SearchSpace:
    """Return what may be changed of the recipe of a run's network."""
    from mnist_core.training import recipe_of

    key = run.key
    return SearchSpace(*recipe_of(key.model, key.preset, member=first_member(key.model), spec=run.data.spec))


def _read(run: RunContext) -> "Digits":
    from mnist_core import read_train

    return read_train(run.data.train_csv, run.data.spec, rows=run.data.spec.train_rows)


def first_member(model: str) -> int | None:
    """Return the number of the network that stands for a model's: the first of an ensemble, or None."""
    return None if find(model).member is None else 0


def values_of(run: RunContext) -> dict[str, Value]:
    """Return the values of the recipe that a run trains: the given one's, or the night's.

    Raises:
        SettingsError: no recipe of the given name was tried.
    """
    from mnist_core.training import recipe_of

    key = run.key
    values = recipe_values(run.registry, scope_of(key.model, key.preset), key.recipe)
    try:
        recipe_of(key.model, key.preset, member=first_member(key.model), values=values, spec=run.data.spec)
    except ModelError as error:
        if key.recipe is not None:
            raise
        log.warning("the preset's own recipe is trained: %s", error)
        return {}
    return values
