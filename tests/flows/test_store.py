"""The store: create-only objects, digests, numbered lists; and what it says when the disk does not."""

import multiprocessing
import os
import resource
import signal
from pathlib import Path

import pytest

from flows.store import StoreError, append, get_json, get_object, latest, open_store, put_json, put_object


@pytest.fixture
def store(tmp_path):
    """An empty store in a folder that does not exist yet."""
    return open_store(str(tmp_path / "store"))


def test_an_object_is_written_once(store):
    """The first writer of a key wins, the second is told, and the bytes stay the first one's."""
    assert store.put("a/b.json", b"first")
    assert not store.put("a/b.json", b"second")
    assert store.get("a/b.json") == b"first"
    assert store.keys("a/") == ["a/b.json"]


def test_what_is_not_there_is_none(store):
    """A missing object or list is no error."""
    assert store.get("nothing") is None
    assert store.keys("nothing/") == []
    assert latest(store, "nothing/") == (0, None)


def test_a_changed_byte_is_found(store):
    """An object whose bytes no longer match its digest is refused, by name."""
    digest = put_object(store, b"weights")
    path = Path(store.location(f"objects/{digest}"))
    path.write_bytes(b"Weights")

    with pytest.raises(StoreError, match=f"{digest}.*changed"):
        get_object(store, digest)
    with pytest.raises(StoreError, match="missing"):
        get_object(store, "0" * 64)


def test_json_of_another_format_is_refused(store):
    """An entry that this code did not write is an error, not a surprise later."""
    store.put("x.json", b'{"format": 2}')
    store.put("y.json", b"no json")

    for key in ("x.json", "y.json"):
        with pytest.raises(StoreError, match="format 1"):
            get_json(store, key)


def test_each_entry_tells_its_writer(store):
    """Two puts of the same value differ by their writer, so that one's own first try can be told."""
    put_json(store, "a.json", {"value": 1})
    put_json(store, "b.json", {"value": 1})

    a, b = get_json(store, "a.json"), get_json(store, "b.json")
    assert a["value"] == b["value"] == 1
    assert a["writer"] != b["writer"]


def _append_twenty(root: str, name: str) -> None:
    store = open_store(root)
    for i in range(20):
        while not append(store, "list/", latest(store, "list/")[0], {"by": name, "i": i}):
            pass


def test_a_numbered_list_has_one_writer_for_each_number(store):
    """Four processes that append at once lose nothing, overwrite nothing and leave no gap."""
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=_append_twenty, args=(str(store.root), f"w{n}")) for n in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)

    assert [writer.exitcode for writer in writers] == [0, 0, 0, 0]
    entries = [get_json(store, key) for key in store.keys("list/")]
    assert len(entries) == 80
    assert latest(store, "list/")[0] == 80
    assert {(e["by"], e["i"]) for e in entries} == {(f"w{n}", i) for n in range(4) for i in range(20)}


def _put_until_killed(root: str) -> None:
    store, i = open_store(root), 0
    while True:
        store.put(f"big/{i}", bytes([i % 256]) * 3_000_000)
        i += 1


def test_a_killed_writer_leaves_no_half_object(store):
    """After kill -9 in the middle of writing, what the store shows is whole."""
    spawn = multiprocessing.get_context("spawn")
    writer = spawn.Process(target=_put_until_killed, args=(str(store.root),))
    writer.start()
    while not store.keys("big/"):
        assert writer.is_alive()
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()

    for key in store.keys("big/"):
        data = store.get(key)
        assert len(data) == 3_000_000
        assert len(set(data)) == 1


def test_a_full_disk_is_one_error_and_nothing_half_written(store):
    """Where no more can be written, the error says so, and the store shows no part of the object."""
    store.put("before", b"x")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(StoreError, match=r"big.*make room"):
            store.put("big", bytes(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)

    assert store.get("big") is None
    assert [path.name for path in store.root.iterdir()] == ["before"]


def test_a_folder_that_can_not_be_made_is_named(tmp_path):
    """A store below a file says which path and which setting."""
    (tmp_path / "file").write_text("")

    with pytest.raises(StoreError, match="MNIST_STORE"):
        open_store(str(tmp_path / "file" / "store")).put("a", b"")
