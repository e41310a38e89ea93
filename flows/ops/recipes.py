"""List the recipes that nights tried, with what is known of each."""

from collections.abc import Sequence
from enum import StrEnum
from statistics import fmean

from flows.ops.status import open_registry
from flows.policy.search import night_recipe
from flows.records import Record
from flows.settings import Settings
from flows.trial_records import Change, Purpose, SearchLog, Trial
from flows.trials import read_log
from mnist_core.evaluation import wilson
from mnist_core.recipes import Value, recipe_name


class Standing(StrEnum):
    """What a recipe is to the nights."""

    NIGHT = "nights train it"
    DEMOTED = "demoted"
    TRIED = ""


class RecipeRow(Record):
    """A recipe, and how it did on rows that it was not trained on.

    Attributes:
        nights: model and preset of the nights that it is for.
        recipe: its name; `preset` is the preset's own.
        trials: how many there are, short ones included.
        log_loss: mean of the trials of all epochs that suggest a recipe, in nats; None without any.
        accuracy, low, high: share of their rows that are right, and its 95 % interval.
        values: the fields in which it differs from the preset.
    """

    nights: str
    recipe: str
    standing: Standing
    trials: int
    log_loss: float | None = None
    accuracy: float | None = None
    low: float | None = None
    high: float | None = None
    values: dict[str, Value]


class RecipeList(Record):
    """All recipes of a namespace, of each model and preset the best first.

    Attributes:
        changes: of the nights' recipes, with the evidence.
        balance_s: seconds that may be spent on trials.
    """

    namespace: str
    recipes: list[RecipeRow]
    changes: list[Change]
    balance_s: float


def recipes(settings: Settings) -> RecipeList:
    """Return what was tried, and what was taken."""
    registry = open_registry(settings)
    known = read_log(registry)
    scopes = sorted({trial.scope for trial in known.trials})
    rows = [row for scope in scopes for row in rank(known, scope)]
    return RecipeList(
        namespace=registry.namespace,
        recipes=rows,
        changes=list(known.changes),
        balance_s=round(known.balance_s, 1),
    )


def rank(known: SearchLog, scope: str) -> list[RecipeRow]:
    """Return the recipes of some nights, the lowest log loss first; those of short trials alone come last."""
    by_name: dict[str, list[Trial]] = {}
    for trial in known.trials:
        if trial.scope == scope:
            by_name.setdefault(trial.name, []).append(trial)
    rows = [_row(known, scope, name, trials) for name, trials in by_name.items()]
    return sorted(rows, key=lambda row: (row.log_loss is None, row.log_loss or 0.0, row.recipe))


def _row(known: SearchLog, scope: str, name: str, trials: Sequence[Trial]) -> RecipeRow:
    full = [trial for trial in trials if trial.purpose is Purpose.SUGGEST and trial.loss is not None]
    row = RecipeRow(
        nights=scope,
        recipe=name,
        standing=_standing(known, scope, name),
        trials=len(trials),
        values=trials[0].recipe,
    )
    if not full:
        return row
    total = sum(trial.rows for trial in full)
    right = total - sum(trial.errors or 0 for trial in full)
    low, high = wilson(right, total)
    shown = {"accuracy": right / total, "low": low, "high": high}
    loss = fmean(trial.loss for trial in full if trial.loss is not None)
    return row.model_copy(
        update={"log_loss": round(loss, 6), **{key: round(value, 5) for key, value in shown.items()}}
    )


def _standing(known: SearchLog, scope: str, name: str) -> Standing:
    if name == recipe_name(night_recipe(known, scope)):
        return Standing.NIGHT
    taken_back = any(
        change.demotes and change.scope == scope and recipe_name(change.before) == name
        for change in known.changes
    )
    return Standing.DEMOTED if taken_back else Standing.TRIED
