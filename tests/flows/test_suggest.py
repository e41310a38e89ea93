"""Recipes that Optuna suggests."""

from flows.suggest import suggest
from flows.trial_records import Purpose, SearchLog, Trial
from mnist_core.training import recipe_of

SCOPE = "scratch/fast"


def log_of(loss_of, count):
    """Return a log of suggested recipes, each with a loss that depends on its values."""
    kind, recipe = recipe_of("scratch", "fast")
    space = kind.space_of(recipe)
    base = {name: getattr(recipe, name) for name in space}
    log = SearchLog()
    for number in range(count):
        values = suggest(log, SCOPE, space, base)
        assert {name: part.check(values[name]) for name, part in space.items()} == dict.fromkeys(space, "")
        log = log.with_trial(
            Trial(
                scope=SCOPE,
                recipe=values,
                purpose=Purpose.SUGGEST,
                rung=0,
                seed=0,
                fold=2,
                epochs=4,
                loss=loss_of(values),
                errors=1,
                rows=10,
                seconds=1.0,
                run=f"2026-11-{number:02d}/x/000001",
            )
        )
    return log


def test_suggestions_keep_their_bounds_and_follow_what_was_tried():
    """After 30 trials the learning rate is nearer to the best one than at random; diverged ones count too."""

    def loss_of(values):
        return None if values["lr"] > 0.8 else abs(values["lr"] - 0.05)

    log = log_of(loss_of, 45)

    late = [trial.recipe["lr"] for trial in log.trials[30:]]
    assert sorted(late)[len(late) // 2] < 0.2
    assert len({trial.name for trial in log.trials}) == 45


def test_the_same_log_gives_the_same_recipe():
    """A run that died suggests the same again."""
    kind, recipe = recipe_of("scratch", "fast")
    space = kind.space_of(recipe)
    base = {name: getattr(recipe, name) for name in space}
    log = log_of(lambda values: values["lr"], 3)

    assert suggest(log, SCOPE, space, base) == suggest(log, SCOPE, space, base)


def test_a_trial_of_an_older_space_is_left_out():
    """A field that is gone, or a value out of today's bounds, does not stop the search."""
    kind, recipe = recipe_of("scratch", "fast")
    space = kind.space_of(recipe)
    base = {name: getattr(recipe, name) for name in space}
    log = log_of(lambda values: values["lr"], 2)
    old = [log.trials[0].model_copy(update={"recipe": recipe}) for recipe in ({"gone": 1}, {"lr": 99.0})]

    assert suggest(log.model_copy(update={"trials": (*log.trials, *old)}), SCOPE, space, base)
