"""The contract of a store: what every kind of store does in the same way."""

import inspect
import io
import os
import time

import pytest

from flows.store.base import PROBE, Store
from flows.store.open import KINDS

CALLS = sorted(name for name in vars(Store) if not name.startswith("_"))


@pytest.mark.parametrize("kind", KINDS.values())
@pytest.mark.parametrize("name", CALLS)
def test_every_kind_of_store_has_every_call(kind, name):
    """A store's calls take the protocol's parameters, so that callers need not ask for its kind."""
    promised, kept = getattr(Store, name), getattr(kind, name)

    if isinstance(promised, property):
        assert isinstance(kept, property)
    else:
        assert inspect.signature(kept) == inspect.signature(promised)


def test_an_object_is_written_once(store):
    """The first writer of a key wins, the second learns it, and the bytes stay the first one's."""
    assert store.put("a/b.json", b"first")
    assert not store.put("a/b.json", b"second")
    assert store.get("a/b.json") == b"first"
    assert list(store.keys("a/")) == ["a/b.json"]


def test_a_large_object_arrives_complete_with_progress(store):
    """An object of more parts than one comes back complete; the bytes reported add up."""
    data = os.urandom(20_000_000)
    reported = []

    store.upload("objects/x", io.BytesIO(data), reported.append)

    assert sum(reported) == len(data)
    assert len(reported) > 2
    assert store.get("objects/x") == data


def test_an_upload_starts_at_the_files_position(store):
    """What was read of a file before is not uploaded."""
    file = io.BytesIO(b"head and body")
    file.seek(9)

    store.upload("objects/x", file)

    assert store.get("objects/x") == b"body"


def test_an_upload_renews_the_time_of_an_existing_object(store):
    """An object that was uploaded again is as young as a new one."""
    store.upload("objects/x", io.BytesIO(b"weights"))
    before = store.keys("objects/")["objects/x"]
    time.sleep(1.1)  # S3 gives whole seconds
    store.upload("objects/x", io.BytesIO(b"weights"))

    assert store.keys("objects/")["objects/x"] > before


def test_what_does_not_exist_is_not_an_error(store):
    """A missing object is None, a missing prefix is empty, and neither can be deleted."""
    assert store.get("nothing") is None
    assert store.keys("nothing/") == {}
    assert not store.delete("nothing")


def test_keys_are_sorted_and_of_the_prefix_alone(store):
    """The keys below a prefix, at any depth, in their order; the empty prefix lists all."""
    for key in ("list/b", "list/a", "list/deep/c", "lists/x", "other"):
        store.put(key, b"")

    assert list(store.keys("list/")) == ["list/a", "list/b", "list/deep/c"]
    everything = [key for key in store.keys("") if key != PROBE]
    assert everything == ["list/a", "list/b", "list/deep/c", "lists/x", "other"]


def test_delete_removes_only_what_is_old_enough(store):
    """An object written at or after the given time stays."""
    store.put("a/x", b"x")
    written = store.keys("a/")["a/x"]

    assert not store.delete("a/x", before=written)
    assert store.delete("a/x", before=written + 1)
    assert not store.delete("a/x", before=written + 1)
    assert store.get("a/x") is None


def test_an_empty_prefix_leaves_nothing_behind(store):
    """Removing what remains of a prefix never removes an object, and never fails."""
    store.remove_empty("gone/")
    store.put("gone/x", b"x")

    store.remove_empty("gone/")
    assert store.get("gone/x") == b"x"

    store.delete("gone/x")
    store.remove_empty("gone/")
    assert store.keys("gone/") == {}
    assert store.put("gone/x", b"again")


def test_an_object_has_an_age_by_the_stores_clock(store):
    """Its age grows by the second; an object that does not exist has none, and asking leaves nothing."""
    store.put("a/x", b"x")

    assert 0 <= store.age("a/x") < 60
    time.sleep(1.1)  # S3 gives whole seconds
    assert 1 <= store.age("a/x") < 60
    assert store.age("a/y") is None
    assert store.age("b/y") is None
    assert store.keys("").keys() <= {"a/x", PROBE}


def test_a_store_says_the_time_of_its_own_clock(store):
    """It agrees with the times of its objects, and asking leaves nothing."""
    store.put("a/x", b"x")

    assert 0 <= store.now() - store.keys("a/")["a/x"] < 60
    assert store.keys("").keys() <= {"a/x", PROBE}


def test_deleting_incomplete_objects_keeps_the_complete_ones(store):
    """No call shows what a killed writer left, and deleting it harms nothing else."""
    store.put("a/x", b"x")

    store.delete_partials(time.time() + 60)

    assert list(store.keys("a/")) == ["a/x"]
