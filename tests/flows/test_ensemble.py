"""An ensemble that grows night by night: members, folds, the limit, and two nights that grow one champion."""

import numpy as np
import pytest

from flows import contest
from flows import train as train_module
from flows.ensemble import assemble, number_of, trained_keys
from flows.nightly import nightly
from flows.records import RunKey
from flows.run import RunContext
from flows.train import train
from mnist_core.folds import FOLDS
from mnist_core.models import ensemble

EPOCHS = "16"
NIGHTS = [f"2026-11-{day}" for day in range(21, 30)]
pytestmark = pytest.mark.usefixtures("prefect_api")


@pytest.fixture
def small(job, monkeypatch):
    """A job whose nights train two members, each a few epochs of the smallest network."""
    started = job()
    monkeypatch.setenv("MNIST_MODEL", "ensemble")
    monkeypatch.setenv("MNIST_EPOCHS", EPOCHS)
    return started


def context(job, night):
    """The context of an ensemble's night."""
    competition = job.competition
    key = RunKey(night=night, model="ensemble", preset="fast", epochs=int(EPOCHS))
    return RunContext(
        settings=job.settings, competition=competition, data=competition.download(),
        registry=job.registry, key=key,
    )  # fmt: skip


@pytest.fixture
def publish_members(small):
    """Publish the session's bundle as tonight's members, each with its own fold and errors of its own."""

    def publish(night, count=2, errors=10):
        run = context(small, night)
        for number, key in enumerate(trained_keys(run.key)[:count]):
            fold = number_of(run.with_key(key)) % FOLDS
            small.publish_member(key, fold, seed=NIGHTS.index(night) * 10 + number, errors=errors)
        return run

    return publish


def test_members_are_trained_published_and_assembled(small):
    """A night from nothing: two members, each without another fold, one ensemble, one submission."""
    result = nightly(NIGHTS[0])

    registry = small.registry
    members = registry.members_of(result.version)
    assert (result.decision, result.model, len(members)) == ("promoted", "ensemble", 2)
    folds = [registry.version(name).fold for name in members]
    assert folds == [0, 1]
    rows = [set(registry.held_out(name).rows.tolist()) for name in members]
    together = registry.held_out(result.version)
    assert not rows[0] & rows[1]
    assert set(together.rows.tolist()) == rows[0] | rows[1]
    np.testing.assert_allclose(together.probabilities.sum(1), 1, atol=1e-5)
    assert {registry.version(name).model for name in members} == {"convnet"}
    assert len({registry.version(name).seed for name in members}) == 2
    manifest = registry.version(result.version)
    assert manifest.valid_rows == small.server.spec.train_rows * 2 // FOLDS
    assert "learner.pkl" not in manifest.objects
    assert len(small.server.submissions()) == 1
    assert result.seconds["train"] == pytest.approx(
        sum(registry.version(name).seconds["train"] for name in members), abs=0.01
    )


def test_the_next_night_grows_the_champion_and_a_killed_one_trains_only_what_is_missing(
    small, publish_members, monkeypatch
):
    """Members that are there are adopted; the champion's come first, numbered on."""
    publish_members(NIGHTS[0])
    first = nightly(NIGHTS[0])
    publish_members(NIGHTS[1], count=1)  # the night was killed after its first member
    trained = []
    fit = train_module.fit_and_publish

    def counted(run):
        trained.append(run.key.member)
        return fit(run)

    monkeypatch.setattr(train_module, "fit_and_publish", counted)
    second = nightly(NIGHTS[1], force=True)

    registry = small.registry
    assert trained == [2]
    assert registry.members_of(second.version)[:2] == registry.members_of(first.version)
    assert [registry.version(name).fold for name in registry.members_of(second.version)] == [
        0,
        1,
        2,
        3,
    ]
    assert registry.version(second.version).base == first.version


def test_a_night_after_a_single_network_starts_an_ensemble_from_scratch(small, publish_members, monkeypatch):
    """None of the members is a champion that is a single network."""
    single = small.publish(night=NIGHTS[0])
    monkeypatch.setenv("MNIST_MODEL", "convnet")
    monkeypatch.delenv("MNIST_EPOCHS")
    assert nightly(NIGHTS[0]).version == single
    monkeypatch.setenv("MNIST_MODEL", "ensemble")
    monkeypatch.setenv("MNIST_EPOCHS", EPOCHS)
    publish_members(NIGHTS[1])

    result = nightly(NIGHTS[1])

    assert single not in small.registry.members_of(result.version)
    assert len(small.registry.members_of(result.version)) == 2


def test_members_that_share_no_held_out_row_with_the_champion_are_rejected(
    small, publish_members, monkeypatch
):
    """What cannot be compared does not pass: the champion left out fold 0, tonight's members others."""
    small.publish(night=NIGHTS[0])
    monkeypatch.setenv("MNIST_MODEL", "convnet")
    monkeypatch.delenv("MNIST_EPOCHS")
    nightly(NIGHTS[0])
    monkeypatch.setenv("MNIST_MODEL", "ensemble")
    monkeypatch.setenv("MNIST_EPOCHS", EPOCHS)
    run = RunKey(night=NIGHTS[1], model="ensemble", preset="fast", epochs=int(EPOCHS))
    for fold, key in enumerate(trained_keys(run), start=1):
        small.publish_member(key, fold, seed=fold, errors=10)

    result = nightly(NIGHTS[1])

    assert result.decision == "rejected"
    assert "no row was held out from both" in result.reason


def test_of_two_nights_that_grow_one_champion_the_second_assembles_again(small, publish_members, monkeypatch):
    """Another night took the title between gate and promotion: its members are in the next challenger."""
    publish_members(NIGHTS[0])
    first = nightly(NIGHTS[0])
    for night in NIGHTS[1:3]:
        publish_members(night)
    pass_gate, others = contest.pass_gate, []

    def interrupted(*arguments):
        if not others:
            others.append(None)
            others[0] = nightly(NIGHTS[1])
        return pass_gate(*arguments)

    monkeypatch.setattr(contest, "pass_gate", interrupted)
    last = nightly(NIGHTS[2])

    registry = small.registry
    assert [first.decision, others[0].decision, last.decision] == ["promoted"] * 3
    assert len(registry.members_of(last.version)) == 6
    assert registry.members_of(last.version)[:4] == registry.members_of(others[0].version)
    # These members differ on the held-out rows alone: one content for the three nights.
    assert len(small.server.submissions()) == 1


def test_a_night_run_again_keeps_the_ensemble_it_became_champion_with(small, publish_members):
    """What the night promoted is adopted, whatever the champion is by now; it does not grow on itself."""
    run = publish_members(NIGHTS[0])
    first = nightly(NIGHTS[0])

    again = nightly(NIGHTS[0])

    assert again.version == first.version
    assert assemble.fn(run, first.version) == first.version


@pytest.mark.slow
def test_the_gate_judges_a_full_ensemble_whose_oldest_members_were_replaced(
    small, publish_members, monkeypatch
):
    """No held-out row chooses the members: worse ones replace the oldest, and the night is rejected."""
    monkeypatch.setitem(ensemble.PRESETS, "fast", ensemble.Recipe(5, ("fast", "fast"), 1))
    monkeypatch.setenv("MNIST_MEMBERS", "5")
    publish_members(NIGHTS[0], count=5, errors=10)
    champion = nightly(NIGHTS[0])
    publish_members(NIGHTS[1], count=5, errors=40)

    result = nightly(NIGHTS[1])

    assert result.decision == "rejected"
    assert f"150 errors more than champion {champion.version}" in result.reason
    assert not set(small.registry.members_of(result.version)) & set(
        small.registry.members_of(champion.version)
    )
    assert result.champion.version == champion.version
    assert len(small.server.submissions()) == 1
    publish_members(NIGHTS[2], count=5, errors=10)
    assert nightly(NIGHTS[2]).decision == "promoted"


def test_a_member_that_was_damaged_is_left_out(small, publish_members, caplog):
    """An object of the champion's that is gone or has changed does not end this night and all others."""
    publish_members(NIGHTS[0])
    first = nightly(NIGHTS[0])
    registry = small.registry
    broken, whole = registry.members_of(first.version)
    (registry.store.root / "objects" / registry.version(broken).objects["held_out.npz"]).write_bytes(b"")
    publish_members(NIGHTS[1])

    result = nightly(NIGHTS[1], force=True)

    assert result.decision == "promoted"
    assert registry.members_of(result.version)[0] == whole
    assert broken not in registry.members_of(result.version)
    assert f"member {broken} is left out of the ensemble" in caplog.text


def test_a_member_is_trained_alone_if_it_is_asked_for(small):
    """One member, as its run on the GPU pool trains it; the others and the whole are not made."""
    result = train(NIGHTS[0], member=2)

    run = RunKey(night=NIGHTS[0], model="ensemble", preset="fast", epochs=int(EPOCHS))
    assert [small.registry.version_of(key) for key in trained_keys(run)] == [None, result.version]
    manifest = small.registry.version(result.version)
    assert manifest.number == manifest.fold == 1
    assert manifest.model_extra["sizes"]["upright"]
    assert small.registry.assembled(run) is None
