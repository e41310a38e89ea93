"""Versions, predictions, champions and attempts of one place: the first writer holds."""

import json

import pytest

from flows.registry import Registry, Work
from flows.store import open_store

WORK = Work("2026-11-23", "convnet", "fast")


@pytest.fixture
def registry(tmp_path):
    """An empty registry."""
    return Registry(open_store(str(tmp_path / "store")), "practice/digit-recognizer/0123456789abcdef")


@pytest.fixture
def folder(tmp_path):
    """Something that looks like an exported bundle."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "weights.safetensors").write_bytes(b"weights")
    (folder / "manifest.json").write_text(json.dumps({"model": "convnet"}))
    return folder


def test_work_is_told_apart_by_everything_that_was_asked_for():
    """Another model, preset, seed, epochs, night or attempt is other work."""
    others = [
        Work("2026-11-24", "convnet", "fast"),
        Work("2026-11-23", "resnet18", "fast"),
        Work("2026-11-23", "convnet", "best"),
        Work("2026-11-23", "convnet", "fast", epochs=1),
        Work("2026-11-23", "convnet", "fast", seed=0),
        Work("2026-11-23", "convnet", "fast", attempt=2),
    ]

    assert len({work.key for work in [WORK, *others]}) == 7


def test_an_attempt_is_kept_until_a_fresh_one_is_asked_for(registry):
    """The same command stays in its attempt; `fresh` opens the next, which then is the one that holds."""
    assert [registry.open_attempt(WORK, fresh).attempt for fresh in (False, False, True, False)] == [
        1,
        1,
        2,
        2,
    ]


def test_a_version_is_found_by_its_work_and_published_once(registry, folder):
    """Publishing the same weights again is the same version, and the first manifest holds."""
    name = registry.publish(WORK, {"created": "first"}, folder)
    again = registry.publish(WORK, {"created": "second"}, folder)

    assert name == again
    assert name.startswith("2026-11-23-convnet-")
    assert registry.version(name)["created"] == "first"
    assert registry.version_of(WORK) == name
    assert registry.version_of(Work("2026-11-23", "convnet", "best")) is None
    assert registry.versions() == [name]


def test_the_same_weights_of_another_attempt_are_found_by_it(registry, folder):
    """A fresh attempt that comes to the same weights is the same version, and is not trained again."""
    fresh = Work("2026-11-23", "convnet", "fast", attempt=2)
    name = registry.publish(WORK, {}, folder)

    assert registry.publish(fresh, {}, folder) == name
    assert registry.version_of(fresh) == name


def test_how_a_night_ended_can_be_followed_by_another_end(registry):
    """The last end holds: a rejected night that was forced later is a promoted one."""
    assert registry.night(WORK) is None
    registry.end_night(WORK, {"decision": "rejected"})
    registry.end_night(WORK, {"decision": "promoted"})

    assert registry.night(WORK)["decision"] == "promoted"


def test_a_version_exists_only_once_its_manifest_is_there(registry, folder, monkeypatch):
    """A publisher that dies before the manifest leaves no version behind."""
    monkeypatch.setattr(registry, "_put_first", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        registry.publish(WORK, {}, folder)

    assert registry.versions() == []
    assert registry.version_of(WORK) is None


def test_fetched_files_are_the_published_ones(registry, folder, tmp_path):
    """What comes out of the registry is what went in, all of it or the named files."""
    name = registry.publish(WORK, {}, folder)
    target = tmp_path / "fetched"
    target.mkdir()

    registry.fetch(name, target, "weights.safetensors")
    assert [path.name for path in target.iterdir()] == ["weights.safetensors"]
    registry.fetch(name, target)
    assert (target / "manifest.json").read_bytes() == (folder / "manifest.json").read_bytes()


def test_the_first_predictions_hold(registry):
    """Whoever comes second posts the first one's labels."""
    assert registry.predictions("v") is None
    assert registry.put_predictions("v", b"first") == b"first"
    assert registry.put_predictions("v", b"second") == b"first"
    assert registry.predictions("v") == b"first"


def test_of_two_promotions_one_is_told_that_it_came_second(registry):
    """Both saw champion 0; one becomes champion 1, the other decides anew."""
    assert registry.champion() == (0, None)
    assert registry.promote("a", 0, "first")
    assert not registry.promote("b", 0, "second")
    assert registry.champion() == (1, "a")
    assert registry.promote("b", 1, "after another look")
    assert registry.champion() == (2, "b")


def test_places_do_not_mix(registry):
    """What one place knows, another does not."""
    registry.promote("a", 0, "first")

    assert Registry(registry.store, "kaggle/digit-recognizer/0123456789abcdef").champion() == (0, None)
