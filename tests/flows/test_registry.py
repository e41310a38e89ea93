"""Versions, predictions, champions and attempts of one place: the first writer holds."""

import json
import os
import time

import pytest

from flows import registry as module
from flows.registry import IntentLostError, Registry, Work
from flows.store.lists import get_json, put_object
from flows.store.open import open_store

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


def test_nights_are_told_by_date_and_within_one_as_they_ended(registry):
    """A name or an attempt does not decide the order, nor does the night that was made good for later."""
    works = [Work("2026-11-24", "convnet", "fast"), WORK, Work("2026-11-23", "convnet", "best")]
    for seconds, work in enumerate(works):
        registry.end_night(work, {"decision": "promoted"})
        [end] = (registry.store.root / registry.place / "nights" / work.key).iterdir()
        os.utime(end, (1000 + seconds, 1000 + seconds))

    assert [night["work"] for night in registry.nights()] == [works[n].key for n in (1, 2, 0)]
    assert [night["work"] for night in registry.nights(1)] == [works[0].key]


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


def test_one_run_posts_at_a_time(registry):
    """While one intent is open no other can be opened; closed, the next can, and the history stays."""
    first = registry.open_intent("a", "token-a")

    assert registry.open_intent("b", "token-b") is None
    first.hold()
    assert registry.open_intent("b", "token-b") is None
    first.close()
    second = registry.open_intent("b", "token-b")

    assert second is not None
    assert [entry["state"] for entry in intents(registry)] == ["open", "sent", "closed", "open"]
    assert {entry["version"] for entry in intents(registry)} == {"a", "b"}


def test_an_expired_intent_is_taken_over_and_its_owner_told(registry, monkeypatch):
    """A run that was suspended for too long learns right before it posts that another run has its turn."""
    monkeypatch.setattr(module, "INTENT_S", 0.2)
    suspended = registry.open_intent("a", "token-a")
    time.sleep(0.25)
    monkeypatch.setattr(module, "INTENT_S", 60.0)
    taken = registry.open_intent("b", "token-b")

    with pytest.raises(IntentLostError):
        suspended.hold()

    assert not suspended.sent
    suspended.close()
    taken.hold()
    assert registry.intent()[1]["version"] == "b"


def test_what_was_sent_is_settled_before_anybody_posts(registry, monkeypatch):
    """An expired intent that may have posted is no free turn: first it is found out what became of it."""
    monkeypatch.setattr(module, "INTENT_S", 0.2)
    registry.open_intent("a", "token-a").hold()
    time.sleep(0.25)

    assert registry.open_intent("b", "token-b") is None
    registry.settle_intent(*registry.intent(), posted=False)
    assert registry.open_intent("b", "token-b") is not None


def test_an_intent_whose_write_was_slow_is_renewed_before_anything_is_sent(registry, monkeypatch):
    """Where the store took long too little of its time is left, and the turn may be lost by then."""
    monkeypatch.setattr(module, "INTENT_S", 0.6)
    intent, put = registry.open_intent("a", "token-a"), registry.store.put
    slow = iter([0.3, 0.3, 0.0])

    def put_slowly(key, data):
        done = put(key, data)
        time.sleep(next(slow))
        return done

    monkeypatch.setattr(registry.store, "put", put_slowly)
    intent.hold()
    assert [entry["state"] for entry in intents(registry)] == ["open", "sent", "sent", "sent"]

    def put_and_lose(key, data):
        done = put(key, data)
        time.sleep(0.3)
        put(key.replace("000005", "000006"), data)  # another run's next entry
        return done

    monkeypatch.setattr(registry.store, "put", put_and_lose)
    with pytest.raises(IntentLostError):
        intent.hold()


def test_a_content_has_one_submission_whichever_version_it_was_made_for(registry):
    """The same labels of another version are found by their token, as the list may show them late."""
    assert registry.submission_of("mnist-nightly:0123") is None
    registry.put_submission("a", "mnist-nightly:0123", 7, "a mnist-nightly:0123")
    registry.put_submission("b", "mnist-nightly:0123", 8, "b mnist-nightly:0123")

    assert registry.submission_of("mnist-nightly:0123")["ref"] == 7


def intents(registry):
    """All intents of a place."""
    return [get_json(registry.store, key) for key in registry.store.keys(f"{registry.place}/intents/")]


def publish(registry, tmp_path, day, age_days=2.0, **facts):
    """A version of its own for a day of November, with predictions, written so many days ago."""
    folder = tmp_path / f"bundle-{day}"
    folder.mkdir()
    (folder / "weights.safetensors").write_bytes(f"weights {day}".encode())
    work = Work(f"2026-11-{day:02d}", "convnet", "fast")
    name = registry.publish(registry.open_attempt(work, False), {"model": "convnet", **facts}, folder)
    registry.put_predictions(name, f"labels {day}".encode())
    for path in registry.store.root.rglob("*"):
        if path.is_file() and path.stat().st_mtime > time.time() - 3600:
            os.utime(path, (time.time() - age_days * 86400 + day,) * 2)
    return name


def test_prune_keeps_what_is_needed(registry, tmp_path, monkeypatch):
    """Champions, the last versions, their members and what is young stay; the rest and its objects go."""
    monkeypatch.setattr(module, "KEEP_CHAMPIONS", 1)
    member = publish(registry, tmp_path, 1)
    old_champion, champion = publish(registry, tmp_path, 2), publish(registry, tmp_path, 3)
    old, ensemble, last = (
        publish(registry, tmp_path, 4),
        publish(registry, tmp_path, 5, members=[member]),
        publish(registry, tmp_path, 6),
    )
    registry.promote(old_champion, 0, "")
    registry.promote(champion, 1, "")
    young = publish(registry, tmp_path, 7, age_days=0.5)
    stray, fresh_stray = (
        put_object(registry.store, b"a killed night's"),
        put_object(registry.store, b"a running one's"),
    )
    os.utime(registry.store.root / "objects" / stray, (1, 1))

    assert registry.prune(3) == {"versions": 2, "objects": 5}

    assert registry.versions() == sorted([member, champion, ensemble, last, young])
    assert registry.version_of(Work("2026-11-04", "convnet", "fast")) is None
    assert registry.predictions(old) is None
    assert [entry["version"] for entry in registry.champions()] == [old_champion, champion]
    assert registry.store.get(f"objects/{fresh_stray}") is not None
    for name in registry.versions():
        registry.fetch(name, tmp_path)
        assert registry.predictions(name) is not None
    assert registry.prune(3) == {"versions": 0, "objects": 0}


def test_an_object_that_was_put_again_is_not_pruned(registry, tmp_path):
    """Uploading an old object again renews its time: the night that did so may not have its manifest yet."""
    digest = put_object(registry.store, b"weights")
    os.utime(registry.store.root / "objects" / digest, (1, 1))
    put_object(registry.store, b"weights")

    assert registry.prune(1)["objects"] == 0


def test_prune_leaves_what_another_place_names(registry, tmp_path):
    """Objects are shared by all places of a store, so a version of any of them keeps its own."""
    other = Registry(registry.store, "kaggle/digit-recognizer/0123456789abcdef")
    name = publish(other, tmp_path, 1)

    assert registry.prune(1) == {"versions": 0, "objects": 0}
    assert other.predictions(name) == b"labels 1"


def test_prune_removes_what_a_killed_writer_left(registry):
    """A file that never became an object is deleted when it is a day old, and not while it may be written."""
    folder = registry.store.root / "objects"
    folder.mkdir(parents=True)
    for name, age_s in (("old", 2 * 86400), ("new", 60)):
        (folder / f".{name}.partial").write_bytes(b"half")
        os.utime(folder / f".{name}.partial", (time.time() - age_s,) * 2)

    registry.prune(1)

    assert [path.name for path in folder.iterdir()] == [".new.partial"]


def test_a_version_promoted_while_prune_runs_stays(registry, tmp_path, monkeypatch):
    """Prune looks at the champions again before it deletes a version."""
    old = publish(registry, tmp_path, 1)
    for day in (2, 3):
        publish(registry, tmp_path, day)
    version = registry.version

    def promote_meanwhile(name):
        if not registry.champions():
            registry.promote(old, 0, "")
        return version(name)

    monkeypatch.setattr(registry, "version", promote_meanwhile)

    assert registry.prune(1)["versions"] == 1
    assert old in registry.versions()


def test_the_champion_before_is_none_that_was_taken_back(registry):
    """Back from c goes to a: b was taken back already. From a there is nothing to go back to."""
    assert registry.before_champion() is None
    for name in "abc":
        registry._put_first("versions", name, {})
    registry.promote("a", 0, "")
    registry.promote("b", 1, "")
    assert registry.before_champion() == "a"
    registry.promote("a", 2, "", alarm="b")
    assert registry.before_champion() is None
    registry.promote("c", 3, "")
    assert registry.before_champion() == "a"
    registry.store.delete(f"{registry.place}/versions/a.json")
    assert registry.before_champion() is None
