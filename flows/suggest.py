"""Suggest a recipe to try next: Optuna's tree-structured Parzen estimator over what was tried before."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from flows.trial_records import Purpose, SearchLog, Trial
from mnist_core.recipes import Choice, Range, Space, Value, rounded

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution

RANDOM = 10
"""Trials drawn at random before the estimator is asked; Optuna's default."""


def is_available() -> bool:
    """Return whether Optuna is installed; the package's extra `explore` has it."""
    from importlib.util import find_spec

    return find_spec("optuna") is not None


def suggest(log: SearchLog, scope: str, space: Space, base: Mapping[str, Value]) -> dict[str, Value]:
    """Return the values of a new recipe.

    The same log gives the same recipe; runs that explore at once differ once one of them has recorded.

    Args:
        log: what was tried.
        scope: whose trials count: those of the first rung, which all recipes went through.
        space: what may be changed.
        base: the preset's values of the fields of `space`, which stand for what a recipe does not set.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    tried = [
        trial
        for trial in log.trials
        if trial.scope == scope and trial.purpose is Purpose.SUGGEST and trial.rung == 0
    ]
    seed = zlib.crc32(f"{scope}/{len(tried)}/{log.trainings[-1:]}".encode())
    sampler = optuna.samplers.TPESampler(multivariate=True, n_startup_trials=RANDOM, seed=seed)
    study = optuna.create_study(sampler=sampler)
    distributions = {name: _distribution(part) for name, part in space.items()}
    _add(study, tried, distributions, base)
    return rounded(study.ask(distributions).params)


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
