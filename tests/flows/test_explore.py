"""Nights that try other recipes: what is recorded, what it costs, and what a failure leaves."""

import multiprocessing
import os
import signal
import threading
from dataclasses import replace

import pytest

from flows import explore as explore_module
from flows.explore import explore, share_of, values_of
from flows.nightly import nightly
from flows.parameters import TrainParameters
from flows.records import RunKey
from flows.run import RunContext
from flows.settings import SettingsError, read_settings
from flows.train import _train_on_gpu_pool
from flows.trial_records import Change, Purpose, SearchLog, Trial
from flows.trials import ENTRIES, change_log, delete_old_logs, read_log, scope_of
from mnist_core import trials as trials_module
from mnist_core.recipes import recipe_name
from mnist_core.trials import Measured

NIGHT = "2026-11-23"
SCOPE = "scratch/fast"


@pytest.fixture
def run(data, registry, tmp_path, monkeypatch):
    """The context of a night of the smallest model, whose data are here."""
    monkeypatch.setenv("MNIST_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MNIST_COMPETITION", data.spec.name)
    key = RunKey(night=NIGHT, model="scratch", preset="fast")
    return RunContext(settings=read_settings(), competition=None, data=data, registry=registry, key=key)


@pytest.fixture
def instant(monkeypatch):
    """Replace each trial's training by a moment's work that takes, as it says, ten seconds.

    New recipes differ in a field that does not change how long a training takes.
    """

    def suggest(log, *_given):
        return {"lr": 0.2 + len(log.trials) / 1000}

    monkeypatch.setattr(explore_module, "suggest", suggest)

    def measure(_digits, _folds, _fold, _model, _preset, values, *, seed, **_options):
        return Measured(loss=0.1 + 0.01 * seed, errors=3, rows=300, epochs=4, seconds=10.0)

    monkeypatch.setattr(trials_module, "run_trial", measure)


def test_a_night_spends_what_it_earned(run, instant):
    """Trials begin while the balance covers them; what is left is for the next night."""
    explore.fn(run, training_s=10.0, share=1.2)

    log = read_log(run.registry)
    assert (log.earned_s, len(log.trials)) == (12.0, 1)
    assert log.balance_s == pytest.approx(2)

    explore.fn(run, training_s=10.0, share=1.2)  # the same run again, after it was killed
    assert read_log(run.registry) == log

    explore.fn(run.with_key(run.key.with_attempt(2)), training_s=10.0, share=1.2)
    assert len(read_log(run.registry).trials) == 2


def test_the_budget_knows_how_long_a_recipe_trains(run, instant, monkeypatch):
    """A recipe of a third more epochs does not begin with the seconds of a training of the preset's."""
    monkeypatch.setattr(explore_module, "suggest", lambda *_given: {"epochs": 16})

    explore.fn(run, training_s=10.0, share=2.3)
    assert len(read_log(run.registry).trials) == 1  # the preset's; 13 of the 13.3 seconds are left

    explore.fn(run.with_key(run.key.with_attempt(2)), training_s=10.0, share=0.04)
    assert [trial.recipe for trial in read_log(run.registry).trials] == [{}, {"epochs": 16}]


def test_a_small_share_adds_up(run, instant):
    """A share of less than one trial a night gives one every few nights."""
    counts = []
    for night in range(1, 9):
        key = run.key.model_copy(update={"night": f"2026-11-{night:02d}"})
        explore.fn(run.with_key(key), training_s=10.0, share=0.3)
        counts.append(len(read_log(run.registry).trials))

    assert counts == [0, 0, 0, 1, 1, 1, 2, 2]


def test_two_nights_at_once_lose_no_trial(registry):
    """Two writers of one list each record twenty trials: all are there, and equal ones count once."""

    def record(first):
        for seed in range(first, first + 20):
            trial = Trial(
                scope=SCOPE, recipe={"lr": 0.1}, purpose=Purpose.SUGGEST, rung=0, seed=seed, fold=2,
                epochs=4, loss=0.1, errors=1, rows=10, seconds=1.0, run=f"{NIGHT}/scratch-fast/000001",
            )  # fmt: skip
            change_log(registry, lambda log: log.with_trial(trial))  # noqa: B023  (called at once)

    writers = [threading.Thread(target=record, args=(first,)) for first in (0, 10)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    log = read_log(registry)
    assert sorted(trial.seed for trial in log.trials) == list(range(30))
    assert log.spent_s == 40


def _explore_until_killed(run, marker):
    def measure(*_given, **_options):
        if marker.exists():
            os.kill(os.getpid(), signal.SIGKILL)
        marker.touch()
        return Measured(loss=0.1, errors=3, rows=300, epochs=4, seconds=1.0)

    trials_module.run_trial = measure
    explore.fn(run, training_s=1.0, share=5.0)


def test_a_killed_night_loses_only_the_trial_that_it_was_at(run, instant, tmp_path):
    """What was recorded before a SIGKILL stays, and the same run goes on without earning twice."""
    process = multiprocessing.get_context("fork").Process(
        target=_explore_until_killed, args=(run, tmp_path / "marker")
    )
    process.start()
    process.join()

    assert process.exitcode == -signal.SIGKILL
    log = read_log(run.registry)
    assert (len(log.trials), log.earned_s) == (1, 5.0)

    explore.fn(run, training_s=1.0, share=5.0)
    assert len(read_log(run.registry).trials) > 1
    assert read_log(run.registry).earned_s == 5.0


def test_what_fails_while_exploring_does_not_fail_the_night(run, monkeypatch, caplog):
    """The night has its network; the reason is logged."""

    def fail(*_given, **_options):
        raise RuntimeError("no memory")

    monkeypatch.setattr(trials_module, "run_trial", fail)

    explore.fn(run, training_s=10.0, share=1.0)

    assert "trying other recipes ended early" in caplog.text


def test_a_model_without_bounds_is_not_explored(run, instant):
    """Nothing is tried, and nothing is earned for it."""
    explore.fn(
        run.with_key(run.key.model_copy(update={"model": "scratch-regression"})), training_s=10.0, share=5.0
    )

    assert read_log(run.registry) == SearchLog()


def test_no_trial_begins_that_the_cap_would_end(run, instant, monkeypatch):
    """With less than twice a trial's seconds left, none begins."""
    monkeypatch.setattr(explore_module, "left_s", lambda: 6.0)

    explore.fn(run, training_s=10.0, share=5.0)

    assert read_log(run.registry).trials == ()


def test_a_recipe_that_was_taken_is_the_nights(run):
    """A night trains the last change's recipe, `preset` the preset's own; an unknown name is refused."""
    recipe = {"lr": 0.2}
    change = Change(
        scope=SCOPE, recipe=recipe, before={}, pairs=8, difference=-0.1, p_value=0.004, level=0.03
    )
    trial = Trial(
        scope=SCOPE, recipe=recipe, purpose=Purpose.SUGGEST, rung=0, seed=0, fold=2, epochs=4, loss=0.1,
        errors=1, rows=10, seconds=1.0, run=run.key.key,
    )  # fmt: skip
    assert values_of(run) == {}
    change_log(run.registry, lambda log: log.with_trial(trial).with_change(change))

    def named(name):
        return run.with_key(run.key.model_copy(update={"recipe": name}))

    assert values_of(run) == recipe
    assert values_of(named("preset")) == {}
    assert values_of(named(recipe_name(recipe))) == recipe
    with pytest.raises(SettingsError, match="r-00000000: no such recipe was tried for scratch/fast"):
        values_of(named("r-00000000"))


def test_a_stored_recipe_that_is_out_of_bounds_today_does_not_stop_nights(run, caplog):
    """The preset's own recipe is trained, with a warning that says why."""
    change = Change(
        scope=SCOPE, recipe={"lr": 9}, before={}, pairs=8, difference=-0.1, p_value=0.004, level=0.03
    )
    change_log(run.registry, lambda log: log.with_change(change))

    assert values_of(run) == {}
    assert "the preset's own recipe is trained: " in caplog.text


def test_trials_on_the_gpu_pool_are_the_nights_too(run, manifest, tmp_path, monkeypatch):
    """A night that let the pool train has the trials' seconds: its scorecard and its cost show them."""
    (tmp_path / "weights.safetensors").write_bytes(b"weights")
    trial = Trial(
        scope=SCOPE, recipe={}, purpose=Purpose.SUGGEST, rung=0, seed=0, fold=2, epochs=4, loss=0.1, errors=1,
        rows=10, seconds=2.5, run=run.key.key,
    )  # fmt: skip

    def train_there(_pool, children, *_limits):
        assert [given.explore for given in children.values()] == [0.2]
        made = manifest(seconds={"read": 1.0, "train": 10.0, "publish": 1.0})
        run.registry.publish(run.key, replace(made, model="scratch"), tmp_path)
        for key in (run.key, run.key.with_attempt(2)):
            other = trial.model_copy(update={"run": key.key, "seed": key.attempt})
            change_log(run.registry, lambda log: log.with_trial(other))  # noqa: B023  (called at once)
        return 30.0

    monkeypatch.setattr("flows.train.run_children", train_there)
    given = TrainParameters(night=NIGHT, model="scratch", preset="fast", explore=0.2)

    _train_on_gpu_pool(run, given, [run.key])

    assert run.seconds == {"start": 30.0, "read": 1.0, "train": 10.0, "explore": 2.5}


def test_old_logs_are_pruned(registry):
    """Of a long list the last entries stay, and the last one is read."""
    for number in range(ENTRIES + 5):
        change_log(registry, lambda log: log.with_training(f"run {number}", 1.0))  # noqa: B023
    delete_old_logs(registry)

    assert read_log(registry).earned_s == ENTRIES + 5
    assert len(registry.store.keys(f"{registry.namespace}/recipes/")) == ENTRIES


@pytest.mark.parametrize(
    ("given", "scheduled", "share"),
    [(None, False, 0.0), (None, True, 0.2), ("0", True, 0.0), ("0.5", False, 0.5)],
)
def test_the_schedule_explores_and_a_run_by_hand_does_not(monkeypatch, given, scheduled, share):
    """Unless MNIST_EXPLORE says otherwise."""
    monkeypatch.setattr(explore_module, "is_scheduled", lambda: scheduled)
    if given is not None:
        monkeypatch.setenv("MNIST_EXPLORE", given)

    assert share_of(read_settings()) == share


@pytest.mark.usefixtures("prefect_api")
def test_a_night_tries_recipes_and_says_so(job, monkeypatch):
    """A whole night with real trials: recorded, in the scorecard's row, and reused by the same command."""
    started = job()
    monkeypatch.setenv("MNIST_MODEL", "scratch")
    monkeypatch.setenv("MNIST_EXPLORE", "5")

    result = nightly(NIGHT)

    log = read_log(started.registry)
    assert result.decision == "promoted"
    assert result.seconds["explore"] > 0
    assert {trial.scope for trial in log.trials} == {scope_of("scratch", "fast")}
    assert len(log.trials) >= 2
    assert log.trials[0].recipe == {}
    again = nightly(NIGHT)
    assert again.version == result.version
    assert read_log(started.registry) == log
    assert isinstance(log, SearchLog)
