"""Suggest a recipe to try next: Optuna's tree-structured Parzen estimator over what was tried before."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from flows.policy.search import night_recipe
from flows.trial_records import Purpose, SearchLog, Trial
from mnist_core.models.base import ModelKind, Recipe
from mnist_core.recipes import Choice, Range, Space, Value, Values, rounded

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution

RANDOM = 10
"""Trials drawn at random before the estimator is asked; Optuna's default."""
CHANGED = 0.2
"""Chance of each field to be changed: presets are good, and a recipe that is all drawn is seldom better."""
DRAWS = 1_000
"""Draws after which a recipe is taken as it is, though it was tried or is slow: the space is exhausted."""
SLOWER = 1.5
"""No recipe is tried that trains longer than this many times the preset's: a preset says how long."""


def is_available() -> bool:
    """Return whether Optuna is installed; the package's extra `explore` has it."""
    from importlib.util import find_spec

    return find_spec("optuna") is not None


@dataclass(frozen=True)
class SearchSpace:
    """What may be changed of a recipe, and what that does to the time that it trains.

    Attributes:
        kind: the model.
        preset: its recipe as the preset has it.
    """

    kind: ModelKind
    preset: Recipe

    @property
    def fields(self) -> Space:
        """The fields that may be changed, with their bounds."""
        return self.kind.space_of(self.preset)

    @property
    def base(self) -> dict[str, Value]:
        """The preset's values of these fields, which stand for what a recipe does not set."""
        return {name: getattr(self.preset, name) for name in self.fields}

    def work(self, values: Values) -> float:
        """Return how long a recipe trains, as a multiple of the preset's time."""
        if self.kind.work is None:
            return 1.0
        known = {name: value for name, value in values.items() if name in self.fields}
        return self.kind.work(replace(self.preset, **known)) / self.kind.work(self.preset)


def suggest(log: SearchLog, scope: str, space: SearchSpace, *, startup: int = RANDOM) -> dict[str, Value]:
    """Return the values of a new recipe: the night's, with others in a few of its fields.

    The same log gives the same recipe; runs that explore at once differ once one of them has recorded.

    Args:
        log: what was tried.
        scope: whose trials count: those of the first rung, which all recipes went through.
        space: what may be changed.
        startup: trials drawn at random before the estimator is asked.
    """
    import numpy as np
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    tried = [
        trial
        for trial in log.trials
        if trial.scope == scope and trial.purpose is Purpose.SUGGEST and trial.rung == 0
    ]
    seed = zlib.crc32(f"{scope}/{len(tried)}/{log.trainings[-1:]}".encode())
    random = np.random.default_rng(seed)
    sampler = optuna.samplers.TPESampler(multivariate=True, n_startup_trials=startup, seed=seed)
    study = optuna.create_study(sampler=sampler)
    distributions = {name: _distribution(part) for name, part in space.fields.items()}
    base = space.base
    _add(study, tried, distributions, base)
    night = night_recipe(log, scope)
    now = base | {
        name: night[name]
        for name, part in space.fields.items()
        if name in night and not part.check(night[name])
    }
    known = [base, now, *(base | trial.recipe for trial in tried)]
    recipe = now
    for _ in range(DRAWS):
        changed = [name for name in base if random.random() < CHANGED]
        drawn = rounded(study.ask(distributions).params)
        recipe = now | {name: drawn[name] for name in changed}
        if recipe not in known and space.work(recipe) <= SLOWER:
            break
    return {name: value for name, value in recipe.items() if value != base[name]}


def _add(
    study: Study,
    tried: Sequence[Trial],
    distributions: Mapping[str, BaseDistribution],
    base: Mapping[str, Value],
) -> None:
    """Add what was tried to a study; a trial of an older space, with other fields or bounds, is left out."""
    from optuna.trial import create_trial

    for trial in tried:
        params = {**base, **trial.recipe}
        fits = params.keys() == distributions.keys() and all(
            part._contains(part.to_internal_repr(params[name])) for name, part in distributions.items()
        )
        if fits:
            study.add_trial(
                create_trial(params=params, distributions=dict(distributions), value=trial.ranked_loss)
            )


def _distribution(part: Range | Choice) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(part, Choice):
        return CategoricalDistribution(part.values)
    if part.whole:
        return IntDistribution(int(part.low), int(part.high), log=part.log)
    return FloatDistribution(part.low, part.high, log=part.log)
