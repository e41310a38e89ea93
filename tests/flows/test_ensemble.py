"""An ensemble that grows night by night: members, folds, the limit, and two nights that grow one champion."""

import numpy as np
import pytest

from flows import nightly as nightly_module
from flows.ensemble import FOLDS, assemble, combine, grow, number_of, parts
from flows.held_out import HeldOut
from flows.nightly import nightly
from flows.records import RunKey
from flows.settings import SettingsError
from flows.train import train
from mnist_core.models import ensemble

EPOCHS = 16
NIGHTS = [f"2026-11-{day}" for day in range(21, 30)]
pytestmark = pytest.mark.usefixtures("prefect_api")


@pytest.fixture
def small(job, monkeypatch):
    """A job whose nights train two members, each of the smallest network."""
    started = job()
    monkeypatch.setenv("MNIST_MODEL", "ensemble")
    monkeypatch.setenv("MNIST_EPOCHS", str(EPOCHS))
    return started


@pytest.fixture
def publish_members(small):
    """Publish the session's bundle as tonight's members, each with its own fold and errors of its own."""

    def publish(night, count=2, errors=10):
        work = RunKey(night=night, model="ensemble", preset="fast", epochs=EPOCHS)
        registry = small.registry
        for number, part in enumerate(parts(work)[:count]):
            fold = number_of(part, registry, 15) % FOLDS
            small.publish_member(part, fold, seed=NIGHTS.index(night) * 10 + number, errors=errors)
        return work

    return publish


def held_out(fold, wrong=(), sure=0.9):
    """What a member says of the 10 rows of its fold, all of them digit 0, with these wrong."""
    probabilities = np.full((10, 10), (1 - sure) / 9, np.float32)
    probabilities[:, 0] = sure
    for row in wrong:
        probabilities[row, [0, 1]] = probabilities[row, [1, 0]]
    return HeldOut(np.arange(10) + 10 * fold, np.zeros(10, np.int64), probabilities)


def test_members_are_trained_published_and_put_together(small):
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
    assert manifest.valid_rows == 600
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
    fit = nightly_module.train.fn.__globals__["fit_and_publish"]

    def counted(data, work, *rest):
        trained.append(work.member)
        return fit(data, work, *rest)

    monkeypatch.setitem(nightly_module.train.fn.__globals__, "fit_and_publish", counted)
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


def test_a_night_on_a_single_networks_title_begins_anew(small, publish_members, monkeypatch):
    """None of the members is a champion that is a single network."""
    single = small.publish(night=NIGHTS[0])
    monkeypatch.setenv("MNIST_MODEL", "convnet")
    monkeypatch.delenv("MNIST_EPOCHS")
    assert nightly(NIGHTS[0]).version == single
    monkeypatch.setenv("MNIST_MODEL", "ensemble")
    monkeypatch.setenv("MNIST_EPOCHS", str(EPOCHS))
    publish_members(NIGHTS[1])

    result = nightly(NIGHTS[1])

    assert single not in small.registry.members_of(result.version)
    assert len(small.registry.members_of(result.version)) == 2


def test_members_that_share_no_held_out_row_with_the_champion_are_rejected(
    small, publish_members, monkeypatch
):
    """What can not be compared does not pass: the champion left out fold 0, tonight's members others."""
    small.publish(night=NIGHTS[0])
    monkeypatch.setenv("MNIST_MODEL", "convnet")
    monkeypatch.delenv("MNIST_EPOCHS")
    nightly(NIGHTS[0])
    monkeypatch.setenv("MNIST_MODEL", "ensemble")
    monkeypatch.setenv("MNIST_EPOCHS", str(EPOCHS))
    work = RunKey(night=NIGHTS[1], model="ensemble", preset="fast", epochs=EPOCHS)
    for fold, part in enumerate(parts(work), start=1):
        small.publish_member(part, fold, seed=fold, errors=10)

    result = nightly(NIGHTS[1])

    assert result.decision == "rejected"
    assert "left out none of the rows" in result.reason


def test_of_two_nights_that_grow_one_champion_the_second_builds_anew(small, publish_members, monkeypatch):
    """Another night took the title between gate and promotion: its members are in the next challenger."""
    publish_members(NIGHTS[0])
    first = nightly(NIGHTS[0])
    for night in NIGHTS[1:3]:
        publish_members(night)
    gate, others = nightly_module.gate, []

    def interrupted(*arguments):
        if not others:
            others.append(None)
            others[0] = nightly(NIGHTS[1])
        return gate(*arguments)

    monkeypatch.setattr(nightly_module, "gate", interrupted)
    last = nightly(NIGHTS[2])

    registry = small.registry
    assert [first.decision, others[0].decision, last.decision] == ["promoted"] * 3
    assert len(registry.members_of(last.version)) == 6
    assert registry.members_of(last.version)[:4] == registry.members_of(others[0].version)
    # These members differ on the held-out rows alone: one content for the three nights.
    assert len(small.server.submissions()) == 1


def test_a_night_run_again_keeps_the_ensemble_it_became_champion_with(small, publish_members, data):
    """What the night promoted is adopted, whatever the champion is by now; it does not grow on itself."""
    work = publish_members(NIGHTS[0])
    first = nightly(NIGHTS[0])

    again = nightly(NIGHTS[0])

    assert again.version == first.version
    assert assemble.fn(work, first.version, data, small.registry, 15) == first.version


def test_members_that_help_nothing_leave_the_champion(small, publish_members, monkeypatch):
    """A full ensemble keeps its members where new ones would make more errors, and the night is rejected."""
    monkeypatch.setitem(ensemble.PRESETS, "fast", ensemble.Recipe(5, ("fast", "fast"), 1))
    monkeypatch.setenv("MNIST_MEMBERS", "5")
    publish_members(NIGHTS[0], count=5, errors=0)
    champion = nightly(NIGHTS[0])
    publish_members(NIGHTS[1], count=5, errors=40)

    result = nightly(NIGHTS[1])

    assert result.decision == "rejected"
    assert "none of tonight's members takes the place" in result.reason
    assert result.champion.version == champion.version
    assert len(small.server.submissions()) == 1


def test_a_member_is_trained_by_itself_where_it_is_asked_for(small):
    """One member, as its run on the GPU pool trains it; the others and the whole are not made."""
    result = train(NIGHTS[0], member=2)

    work = RunKey(night=NIGHTS[0], model="ensemble", preset="fast", epochs=EPOCHS)
    assert [small.registry.version_of(part) for part in parts(work)] == [None, result.version]
    manifest = small.registry.version(result.version)
    assert manifest.number == manifest.fold == 1
    assert manifest.model_extra["sizes"]["upright"]
    assert small.registry.assembled(work) is None


@pytest.mark.parametrize(
    ("model", "member", "words"),
    [("ensemble", 3, "a night of ensemble fast adds 2"), ("convnet", 1, "convnet is a single network")],
)
def test_a_member_that_no_night_adds_is_refused(small, model, member, words):
    """A number beyond the preset's, or a member of a single network, is told before anything is trained."""
    with pytest.raises(SettingsError, match=f"member {member}: {words}"):
        train(NIGHTS[0], model=model, member=member)


def test_a_full_ensemble_takes_a_member_only_where_it_is_no_worse():
    """Beyond the limit a new one replaces one of its own fold, the one whose loss hurts least."""
    out = {
        "a": held_out(0, wrong=[1, 2, 3]), "b": held_out(1), "c": held_out(0, wrong=[1], sure=0.8),
        "better": held_out(0, wrong=[2]), "worse": held_out(0, wrong=[1, 2, 3, 4, 5], sure=0.99),
        "other": held_out(2),
    }  # fmt: skip

    assert grow(["a", "b"], ["better"], out, 5) == ["a", "b", "better"]
    assert grow(["a", "b", "c"], ["better"], out, 3) == ["better", "b", "c"]
    assert grow(["a", "b", "c"], ["worse"], out, 3) == ["a", "b", "c"]
    assert grow(["a", "b", "c"], ["other"], out, 3) == ["a", "b", "c"]


def test_a_row_is_predicted_by_the_members_that_left_it_out():
    """Their mean, and the part of the rows with several members on which these agree."""
    members = [held_out(0), held_out(0, wrong=[4], sure=0.99), held_out(1, wrong=[7])]

    together, agreement = combine(members)

    assert together.rows.tolist() == list(range(20))
    assert np.flatnonzero(together.probabilities.argmax(1) != together.labels).tolist() == [4, 17]
    assert agreement == 0.9
    assert combine(members[1:])[1] is None


def test_every_fold_has_its_turn_in_a_full_ensemble(small, publish_members):
    """Members number on from the champion's; where it is full the night's date does."""
    publish_members(NIGHTS[0])
    nightly(NIGHTS[0])
    registry = small.registry

    def folds(night, limit):
        tonight = parts(RunKey(night=night, model="ensemble", preset="fast"))
        return [number_of(part, registry, limit) % FOLDS for part in tonight]

    assert folds(NIGHTS[1], 15) == [2, 3]
    full = [folds(night, 2) for night in NIGHTS[1:6]]
    assert sorted(fold for night in full for fold in night) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
