"""The search for a better recipe, simulated: what is tried, what is taken, and how rarely by mistake."""

from dataclasses import replace

import numpy as np
import pytest

from flows.policy.search import (
    CONFIRM_FOLD,
    CONFIRM_SEED,
    FUTILE,
    JUDGE_FOLD,
    PAIRS,
    PAIRS_MAX,
    RUNGS,
    Plan,
    next_change,
    next_plan,
    night_recipe,
    pairs_needed,
    sign_flip,
    spent_alpha,
)
from flows.trial_records import WORST, Purpose, SearchLog, Trial

SCOPE = "convnet/fast"
NOISE = 0.001
"""Standard deviation of a trial's log loss over seeds."""


class World:
    """Nights in which each recipe has a quality, the same for all folds and seeds but for noise."""

    def __init__(self, seed, gain=lambda recipe: 0.0):
        self.random = np.random.default_rng(seed)
        self.gain = gain
        self.log = SearchLog()

    def trial(self, plan: Plan, **fields) -> Trial:
        """Return the trial of a plan; a new recipe is drawn at random."""
        recipe = {"lr": round(float(self.random.random()), 4)} if plan.recipe is None else plan.recipe
        loss = 0.02 - self.gain(recipe) + NOISE * self.random.standard_normal()
        known = {
            "scope": SCOPE, "recipe": dict(recipe), "purpose": plan.purpose, "rung": plan.rung,
            "seed": plan.seed, "fold": plan.fold, "epochs": 9, "loss": loss, "errors": 40, "rows": 8400,
            "seconds": 1.0, "run": "2026-11-23/convnet-fast/000001",
        }  # fmt: skip
        return Trial(**known | fields)

    def spend(self, trials):
        """Run a number of trials, each as the ones before it call for; return the changes."""
        for _ in range(trials):
            plan = next_plan(self.log, SCOPE)
            assert plan is not None
            self.log = self.log.with_trial(self.trial(plan))
            if (change := next_change(self.log, SCOPE)) is not None:
                self.log = self.log.with_change(change)
        return self.log.changes


def test_equal_recipes_are_hardly_ever_taken():
    """With recipes that are all equally good, fewer than 5 % of searches of 100 nights change anything."""
    changed = sum(bool(World(seed).spend(150)) for seed in range(40))

    assert changed <= 2  # the seeds are fixed; by the level, at most 2 are expected


def test_a_better_recipe_is_found_and_taken():
    """A recipe that is better by a noise's width is found, confirmed and kept by most searches."""
    worlds = [World(seed, gain=lambda recipe: NOISE * 2 * recipe.get("lr", 0.0)) for seed in range(4)]
    for world in worlds:
        world.spend(250)

    better = [night_recipe(world.log, SCOPE).get("lr", 0.0) for world in worlds]
    assert np.mean(better) > 0.5


def test_what_suggests_confirms_and_judges_is_disjoint():
    """No fold has two purposes."""
    world = World(1, gain=lambda recipe: NOISE * 3 * recipe.get("lr", 0.0))
    world.spend(250)

    folds = {
        purpose: {trial.fold for trial in world.log.trials if trial.purpose is purpose} for purpose in Purpose
    }
    assert folds[Purpose.CONFIRM] == {CONFIRM_FOLD}
    assert folds[Purpose.JUDGE] == {JUDGE_FOLD}
    assert not folds[Purpose.SUGGEST] & {CONFIRM_FOLD, JUDGE_FOLD}


def test_no_trial_is_made_twice():
    """Each trial of a long search measures something that none before it did."""
    world = World(2, gain=lambda recipe: NOISE * recipe.get("lr", 0.0))
    world.spend(250)

    identities = [trial.identity for trial in world.log.trials]
    assert len(identities) == len(set(identities)) == 250


def test_a_recipe_that_turns_out_worse_is_demoted():
    """A recipe that loses the pairs on the rows that judge gives its place back, and is not taken again."""
    world = World(3, gain=lambda recipe: NOISE * 3 * recipe.get("lr", 0.0))
    while not world.log.changes:
        world.spend(1)
    taken = world.log.changes[0].recipe
    world.gain = lambda recipe: -0.01 if recipe == taken else 0.0
    world.spend(2 * PAIRS)

    assert [change.demotes for change in world.log.changes] == [False, True]
    assert night_recipe(world.log, SCOPE) == {}
    world.spend(100)
    assert all(change.recipe != taken for change in world.log.changes[2:] if not change.demotes)


def test_cheap_trials_come_first():
    """Each recipe is tried once, and a third of the recipes go on from there."""
    world = World(4)
    world.spend(80)

    by_rung = [
        {
            trial.recipe.get("lr")
            for trial in world.log.trials
            if (trial.purpose, trial.rung) == (Purpose.SUGGEST, rung)
        }
        for rung in range(len(RUNGS))
    ]
    assert by_rung[2] <= by_rung[1] <= by_rung[0]
    assert len(by_rung[1]) - 1 <= (len(by_rung[0]) - 1) / 3


def test_a_trial_that_was_left_out_of_a_full_log_is_made_again():
    """The missing run of a rung comes next, not the one that is there: that counts once."""
    world = World(11)
    world.spend(1)
    (_, (seed, fold)) = RUNGS[2]
    kept = world.trial(Plan({"lr": 0.5}, Purpose.SUGGEST, 2, seed, fold))

    plan = next_plan(world.log.with_trial(kept), SCOPE)

    assert (plan.recipe, plan.rung, (plan.seed, plan.fold)) == ({"lr": 0.5}, 2, RUNGS[2][0])


def test_a_diverged_trial_is_a_result():
    """A recipe whose training diverges ranks last, and the search goes on."""
    log = SearchLog()
    world = World(6)
    for _ in range(40):
        plan = next_plan(log, SCOPE)
        log = log.with_trial(
            world.trial(plan, **({"loss": None, "errors": None} if plan.recipe is None else {}))
        )

    assert {trial.rung for trial in log.trials} == {0}
    assert sum(trial.loss is None for trial in log.trials) == 39


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([-1.0] * 8, 2**-8),
        ([1.0] * 8, 1.0),
        ([0.0] * 8, 1.0),
        ([-3, 1, -2], 2 / 8),
        ([-9, -1, -1], 1 / 8),
        ([9, -1, -1], 5 / 8),
    ],
)
def test_the_sign_flip_test(differences, p):
    """The p value is the share of signs that give a sum at most as large."""
    assert sign_flip(differences) == pytest.approx(p)


@pytest.mark.parametrize(
    "diverged", [{"loss": None, "errors": None}, {"loss": None, "errors": None, "rows": 0}]
)
def test_the_recipe_of_nights_that_fails_gives_its_place(diverged):
    """A night's recipe whose every trial diverges, or cannot be tried any more, is beaten like any other."""
    world = World(8, gain=lambda recipe: 0.01 * recipe.get("lr", 0.0))
    while not world.log.changes:
        plan = next_plan(world.log, SCOPE)
        world.log = world.log.with_trial(world.trial(plan, **({} if plan.recipe != {} else diverged)))
        if (change := next_change(world.log, SCOPE)) is not None:
            world.log = world.log.with_change(change)

    assert world.log.changes[0].before == {}
    assert -WORST < world.log.changes[0].difference < 0  # finite: JSON has no infinity


def test_each_of_a_pair_diverges_once():
    """A pair in which one diverged, and another in which the other one did, cancel out."""
    world, log = World(9), SearchLog()
    for seed in range(CONFIRM_SEED, CONFIRM_SEED + FUTILE):
        for recipe, fails in (({"lr": 0.5}, CONFIRM_SEED), ({}, CONFIRM_SEED + 1)):
            plan = Plan(recipe, Purpose.CONFIRM, 0, seed, CONFIRM_FOLD)
            fields = {"loss": None, "errors": None} if seed == fails else {"loss": 0.02}
            log = log.with_trial(world.trial(plan, **fields))

    assert next_plan(log, SCOPE).purpose is Purpose.SUGGEST  # given up: no better on average
    assert next_change(log, SCOPE) is None


def test_nothing_is_tried_when_nothing_can_be_taken():
    """Once no pairs can reach the level that is left, trials would be spent for nothing."""
    world, log = World(10), SearchLog()
    for number in range(22):
        plan = Plan({"lr": float(number)}, Purpose.CONFIRM, 0, CONFIRM_SEED, CONFIRM_FOLD)
        assert next_plan(log, SCOPE) is not None
        for seed in range(CONFIRM_SEED, CONFIRM_SEED + FUTILE):
            for each in (plan, replace(plan, recipe={})):
                loss = 0.03 if each.recipe else 0.02
                log = log.with_trial(world.trial(replace(each, seed=seed), loss=loss))

    assert next_plan(log, SCOPE) is None


def test_alpha_is_spent_over_recipes():
    """All recipes that will ever be confirmed together have less than a chance of 5 %, and pairs suffice."""
    levels = [spent_alpha(place) for place in range(1, 1000)]

    assert sum(levels) < 0.05
    assert pairs_needed(levels[0]) == PAIRS
    assert pairs_needed(levels[21]) == PAIRS_MAX
    assert pairs_needed(levels[22]) is None


def test_a_training_earns_once():
    """The same run, resumed, does not earn its seconds again."""
    log = SearchLog().with_training("a", 2.0).with_training("a", 2.0).with_training("b", 1.0)

    assert (log.earned_s, log.balance_s) == (3.0, 3.0)


def test_two_runs_that_made_the_same_trial_count_once():
    """The second of two equal trials spends its seconds and measures nothing."""
    world = World(7)
    trial = world.trial(next_plan(SearchLog(), SCOPE))
    log = SearchLog().with_trial(trial).with_trial(trial.model_copy(update={"loss": 0.5}))

    assert log.trials == (trial,)
    assert log.spent_s == 2 * trial.seconds
