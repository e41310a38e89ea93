"""Recipes that Optuna suggests."""

from statistics import fmean

import pytest

from flows.suggest import SLOWER, SearchSpace, suggest
from flows.trial_records import Change, Purpose, SearchLog, Trial
from mnist_core.models.base import kinds
from mnist_core.training import recipe_of

SCOPE = "scratch/fast"
SEARCHED = [kind.name for kind in kinds().values() if kind.space is not None]


@pytest.fixture
def space():
    """What may be changed of the smallest model."""
    return SearchSpace(*recipe_of("scratch", "fast"))


def log_of(space, loss_of, count):
    """Return a log of suggested recipes, each with a loss that depends on its values."""
    log = SearchLog()
    for number in range(count):
        values = suggest(log, SCOPE, space)
        assert {name: space.fields[name].check(value) for name, value in values.items()} == dict.fromkeys(
            values, ""
        )
        log = log.with_trial(
            Trial(
                scope=SCOPE,
                recipe=values,
                purpose=Purpose.SUGGEST,
                rung=0,
                seed=0,
                fold=2,
                epochs=4,
                loss=loss_of(space.base | values),
                errors=1,
                rows=10,
                seconds=1.0,
                run=f"2026-11-{number:02d}/x/000001",
            )
        )
    return log


def test_suggestions_keep_their_bounds_and_follow_what_was_tried(space):
    """Learning rates tried late are nearer to the best one than at random; diverged ones count too."""

    def loss_of(values):
        return None if values["lr"] > 0.8 else abs(values["lr"] - 0.4)

    log = log_of(space, loss_of, 90)

    assert len(log.trials) == 90  # none was suggested twice
    late = [trial.recipe["lr"] for trial in log.trials[45:] if "lr" in trial.recipe]
    assert sum(0.2 < lr < 0.6 for lr in late) > 0.7 * len(late) > 0  # at random a quarter of them


def test_a_suggestion_changes_a_few_fields_and_says_only_these(space):
    """No value of a recipe is the preset's own, and few fields are changed: a fifth, but at least one."""
    log = log_of(space, lambda values: values["lr"], 40)

    recipes = [trial.recipe for trial in log.trials]
    assert all(value != space.base[name] for recipe in recipes for name, value in recipe.items())
    assert all(recipes)
    assert fmean(map(len, recipes)) < 0.4 * len(space.fields)


def test_a_suggestion_starts_from_the_nights_recipe(space):
    """What was taken stays in most suggestions, and the other fields are the preset's."""
    change = Change(
        scope=SCOPE, recipe={"momentum": 0.5}, before={}, pairs=8, difference=-0.1, p_value=0.004, level=0.03
    )

    found = []
    for number in range(20):
        log = SearchLog(changes=(change,), trainings=(f"night {number}",))
        found.append(suggest(log, SCOPE, space))
    assert sum(recipe.get("momentum") == 0.5 for recipe in found) > 10


@pytest.mark.parametrize("model", SEARCHED)
@pytest.mark.parametrize("preset", ["fast", "best"])
def test_no_suggestion_trains_much_longer_than_the_preset(model, preset):
    """Forty recipes of each model stay within the factor."""
    space = SearchSpace(*recipe_of(model, preset))

    for number in range(40):
        values = suggest(SearchLog(trainings=(f"night {number}",)), f"{model}/{preset}", space)
        assert 0 < space.work(values) <= SLOWER


def test_the_same_log_gives_the_same_recipe(space):
    """A run that died suggests the same again."""
    log = log_of(space, lambda values: values["lr"], 3)

    assert suggest(log, SCOPE, space) == suggest(log, SCOPE, space)


def test_a_trial_of_an_older_space_is_left_out(space):
    """A field that is gone, or a value out of today's bounds, does not stop the search."""
    log = log_of(space, lambda values: values["lr"], 2)
    old = [log.trials[0].model_copy(update={"recipe": recipe}) for recipe in ({"gone": 1}, {"lr": 99.0})]
    change = Change(
        scope=SCOPE,
        recipe={"gone": 1, "lr": 99.0},
        before={},
        pairs=8,
        difference=-0.1,
        p_value=0.004,
        level=0.03,
    )

    assert suggest(log.model_copy(update={"trials": (*log.trials, *old), "changes": (change,)}), SCOPE, space)
    assert space.work({"gone": 1}) == 1
