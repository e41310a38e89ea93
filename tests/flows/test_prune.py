"""Prune on a real store: what is needed stays, the rest and its objects go."""

import os
import time

import pytest

from flows.ownership import MARKER
from flows.prune import preview, prune, prune_after_night
from flows.records import PruneResult, RunKey
from flows.registry import Registry
from flows.store.base import StoreError
from flows.store.lists import put_object
from flows.store.open import open_store
from mnist_core._atomic import PART


@pytest.fixture
def publish(registry, tmp_path, manifest):
    """Publish a version of its own for a day of November, with predictions, written days ago."""

    def publish(day, age_days=2.0, registry=registry, **facts):
        folder = tmp_path / f"bundle-{day}"
        folder.mkdir()
        (folder / "weights.safetensors").write_bytes(f"weights {day}".encode())
        run = RunKey(night=f"2026-11-{day:02d}", model="convnet", preset="fast")
        name = registry.publish(registry.open_attempt(run, False), manifest(**facts), folder)
        registry.put_predictions(name, f"labels {day}".encode())
        for path in registry.store.root.rglob("*"):
            if path.is_file() and path.stat().st_mtime > time.time() - 3600:
                os.utime(path, (time.time() - age_days * 86400 + day,) * 2)
        return name

    return publish


def test_prune_keeps_what_is_needed(registry, publish, tmp_path):
    """Champions, the last versions, their members and what is young stay; the rest and its objects go."""
    member = publish(1)
    old_champion, champion = publish(2), publish(3)
    old, ensemble, last = publish(4), publish(5, members=[member]), publish(6)
    registry.promote(old_champion, 0, "")
    registry.promote(champion, 1, "")
    young = publish(7, age_days=0.5)
    stray = put_object(registry.store, b"a killed run's")
    fresh_stray = put_object(registry.store, b"a run's that is under way")
    os.utime(registry.store.root / "objects" / stray, (1, 1))

    assert preview(registry, 3, keep_champions=1) == ([old_champion, old], 5)
    assert prune(registry, 3, keep_champions=1) == PruneResult(versions=2, objects=5)

    assert registry.versions() == sorted([member, champion, ensemble, last, young])
    assert registry.version_of(RunKey(night="2026-11-04", model="convnet", preset="fast")) is None
    assert registry.predictions(old) is None
    assert [entry.version for entry in registry.champions()] == [old_champion, champion]
    assert registry.store.get(f"objects/{fresh_stray}") is not None
    for name in registry.versions():
        registry.fetch(name, tmp_path)
        assert registry.predictions(name) is not None
    assert prune(registry, 3, keep_champions=1) == PruneResult(versions=0, objects=0)


def test_an_object_that_was_put_again_is_not_pruned(registry):
    """Uploading an old object again renews its time: the run that did so may have no version yet."""
    digest = put_object(registry.store, b"weights")
    os.utime(registry.store.root / "objects" / digest, (1, 1))
    put_object(registry.store, b"weights")

    assert prune(registry, 1).objects == 0


def test_prune_leaves_what_another_namespace_names(registry, publish):
    """Objects are shared by all namespaces of a store, so a version of any of them keeps its own."""
    other = Registry(registry.store, "kaggle/digit-recognizer/0123456789abcdef")
    name = publish(1, registry=other)

    assert prune(registry, 1) == PruneResult(versions=0, objects=0)
    assert other.predictions(name) == b"labels 1"


def test_prune_removes_what_a_killed_writer_left(registry):
    """A file that never became an object is deleted when it is a day old, and not while it may be written."""
    folder = registry.store.root / "objects"
    folder.mkdir(parents=True)
    for name, age_s in (("old", 2 * 86400), ("new", 60)):
        (folder / f".{name}.01234567{PART}").write_bytes(b"half")
        os.utime(folder / f".{name}.01234567{PART}", (time.time() - age_s,) * 2)

    prune(registry, 1)

    assert [path.name for path in folder.iterdir()] == [f".new.01234567{PART}"]


def test_a_version_that_another_process_promotes_while_prune_runs_stays(registry, publish, monkeypatch):
    """What was read of the champions a moment ago does not count when a version is deleted."""
    first, second, _ = publish(1), publish(2), publish(3)
    other = Registry(open_store(str(registry.store.root)), registry.namespace)
    delete = registry.delete_version

    def promote_meanwhile(name):
        other.promote(second, 0, "")
        delete(name)

    monkeypatch.setattr(registry, "delete_version", promote_meanwhile)

    assert prune(registry, 1).versions == 1
    assert first not in registry.versions()
    assert second in registry.versions()


def test_a_machine_whose_clock_is_ahead_prunes_nothing_young(registry, publish, monkeypatch):
    """How old something is, the store's own clock says: a file server has another one than this machine."""
    young = [publish(day, age_days=0.0) for day in (1, 2)]
    digest = put_object(registry.store, b"a run's that is under way")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 2 * 86400)

    assert prune(registry, 1) == PruneResult(versions=0, objects=0)
    assert registry.versions() == young
    assert registry.store.exists(f"objects/{digest}")


def test_nothing_is_deleted_from_a_store_that_others_use(registry):
    """A bare git repository that somebody named as the store keeps its objects, as old as they may be."""
    root = registry.store.root
    for name in ("objects/ab/" + "0" * 38, "objects/pack/pack-1.idx", "HEAD", "objects/" + "0" * 64):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
        os.utime(root / name, (1, 1))

    with pytest.raises(StoreError, match=r"nothing is deleted: .* such as HEAD") as caught:
        prune(registry, 1)

    assert MARKER in caught.value.remedy
    assert len(registry.store.keys("")) == 4


def test_files_that_come_later_do_not_stop_prune(registry, publish):
    """A store that was marked is ours; what another program leaves in it is not deleted."""
    assert prune(registry, 1).versions == 0
    publish(1), publish(2)
    other = registry.store.root / "objects" / "notes.txt"
    other.write_text("")
    os.utime(other, (1, 1))

    assert prune(registry, 1) == PruneResult(versions=1, objects=2)
    assert other.exists()


def test_a_night_prunes_a_folder_when_it_ends(registry, publish):
    """A store is bounded without anybody's care: all but the last versions go, unless all are to stay."""
    names = [publish(day) for day in range(1, 6)]

    prune_after_night(registry, 0)
    assert registry.versions() == names
    prune_after_night(registry, 2)
    assert registry.versions() == names[-2:]


def test_a_night_does_not_fail_because_it_cannot_prune(registry, publish, caplog):
    """Files of others, or an error of the store, are a warning: the night has ended well."""
    publish(1), publish(2)
    (registry.store.root / "thesis.tex").write_text("")

    prune_after_night(registry, 1)

    assert len(registry.versions()) == 2
    assert "old versions stay: nothing is deleted" in caplog.text


def test_a_night_deletes_nothing_from_a_bucket(s3, registry):
    """There it may have no right to, and one that reads all keys would cost it many requests."""
    store = open_store(f"s3://{s3.bucket}/store")

    prune_after_night(Registry(store, registry.namespace), 1)

    assert s3.requests == []
