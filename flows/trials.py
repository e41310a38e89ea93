"""The search for a better recipe, as a numbered list of the namespace.

    recipes/000001.json             the log of all trials, changes and seconds; the highest number is current
    recipes-given/r-0123abcd.json     the values of a recipe of a sweep

Each entry has what the one before it had, and what came since, so that a night reads two objects however old
its store is. A trial that two runs make at once counts once.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from flows.policy.search import night_recipe
from flows.records import RunKey
from flows.registry import Registry
from flows.settings import SettingsError
from flows.store.lists import append, delete_old, latest
from flows.trial_records import SearchLog
from mnist_core.recipes import Value, Values, recipe_name

ENTRIES = 10
"""How many logs are not pruned; the last one is read."""


def scope_of(model: str, preset: str) -> str:
    """Return which nights a recipe is for, `convnet/fast`."""
    return f"{model}/{preset}"


def read_log(registry: Registry) -> SearchLog:
    """Return what is known of the search in the registry's namespace."""
    return latest(registry.store, _prefix(registry), SearchLog)[1] or SearchLog()


def change_log(registry: Registry, change: Callable[[SearchLog], SearchLog]) -> SearchLog:
    """Change the log and return it; if another run changed it meanwhile, the change is made to that one."""
    while True:
        number, last = latest(registry.store, _prefix(registry), SearchLog)
        log = last or SearchLog()
        changed = change(log)
        if changed == log or append(registry.store, _prefix(registry), number, changed):
            return changed


def delete_old_logs(registry: Registry) -> None:
    """Delete the logs that nobody reads any more."""
    delete_old(registry.store, _prefix(registry), ENTRIES)


def known_recipes(log: SearchLog, scope: str) -> dict[str, dict[str, Value]]:
    """Return the values of all recipes that were tried for some nights, by name, and the preset's own."""
    return {"preset": {}} | {trial.name: trial.recipe for trial in log.trials if trial.scope == scope}


def seconds_of(log: SearchLog, run: RunKey) -> float:
    """Return the seconds of the trials that a run recorded."""
    return sum(trial.seconds for trial in log.trials if trial.run == run.key)


def describe(log: SearchLog, run: RunKey) -> str:
    """Return how many trials a run made, how many there are, and what nights train, for people."""
    scope = scope_of(run.model, run.preset)
    trials = [trial for trial in log.trials if trial.scope == scope]
    tonight = sum(trial.run.startswith(run.key) for trial in trials)
    recipes = {trial.name for trial in trials}
    return (
        f"{tonight} {'trial' if tonight == 1 else 'trials'} tonight, {len(trials):,} of {len(recipes):,} "
        f"recipes in all; nights train {recipe_name(night_recipe(log, scope))}"
    )


def put_recipe(registry: Registry, values: Values) -> str:
    """Keep a recipe that somebody gives, so that each run on any machine can train it; return its name."""
    name = recipe_name(values)
    content = json.dumps(dict(sorted(values.items()))).encode()
    if values and not registry.store.put(_given(registry, name), content):
        raise SettingsError(
            f"{registry.store.location(_given(registry, name))} has another recipe of the same name",
            "change a value a little",
        )
    return name


def recipe_values(registry: Registry, scope: str, name: str | None) -> dict[str, Value]:
    """Return the values of the recipe that a run trains.

    Args:
        registry: of the namespace.
        scope: of the run.
        name: of a recipe; None: the night's.

    Raises:
        SettingsError: no recipe of that name was tried.
    """
    if name == recipe_name({}):
        return {}
    log = read_log(registry)
    if name is None:
        return dict(night_recipe(log, scope))
    known = known_recipes(log, scope)
    if name not in known and (given := registry.store.get(_given(registry, name))) is not None:
        return dict(json.loads(given))
    if name not in known:
        raise SettingsError(
            f"--recipe {name}: no such recipe was tried for {scope}",
            "`python -m flows recipes` lists those that were",
        )
    return known[name]


def _given(registry: Registry, name: str) -> str:
    return f"{registry.namespace}/recipes-given/{name}.json"


def _prefix(registry: Registry) -> str:
    return f"{registry.namespace}/recipes/"
