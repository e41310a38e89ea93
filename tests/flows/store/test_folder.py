"""A store in a folder: complete after a kill and on a full disk."""

import multiprocessing
import os
import resource
import signal
import time

import pytest

from flows.store.base import StoreError
from flows.store.folder import Folder, free_bytes


def _put_until_killed(root):
    store, i = Folder(root), 0
    while True:
        store.put(f"big/{i}", bytes([i % 256]) * 3_000_000)
        i += 1


def test_a_killed_writer_leaves_no_half_written_object(folder):
    """After kill -9 in the middle of writing, every object that the store shows is complete."""
    spawn = multiprocessing.get_context("spawn")
    writer = spawn.Process(target=_put_until_killed, args=(folder.root,))
    writer.start()
    while not folder.keys("big/"):
        assert writer.is_alive()
        time.sleep(0.01)
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()

    for key in folder.keys("big/"):
        data = folder.get(key)
        assert len(data) == 3_000_000
        assert len(set(data)) == 1
    folder.delete_partials(time.time() + 60)
    assert len(list((folder.root / "big").iterdir())) == len(folder.keys("big/"))


def test_a_partial_of_a_living_writer_stays(folder):
    """Only what was written before the given time is removed."""
    folder.put("a/x", b"x")
    partial = folder.root / "a" / ".y.0123abcd.part"
    partial.write_bytes(b"half")

    folder.delete_partials(time.time() - 60)
    assert partial.exists()
    assert list(folder.keys("")) == ["a/x"]

    folder.delete_partials(time.time() + 60)
    assert not partial.exists()


def test_a_full_disk_is_one_error_and_nothing_half_written(folder):
    """If no more can be written, the error says so, and the store shows no part of the object."""
    folder.put("before", b"x")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(StoreError, match=r"big: .*free disk space") as caught:
            folder.put("big", bytes(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)

    assert caught.value.retryable
    assert folder.get("big") is None
    assert [path.name for path in folder.root.iterdir()] == ["before"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    """A store below a file says which path and which setting."""
    (tmp_path / "file").write_text("")

    with pytest.raises(StoreError, match=r"file/store/a: .*MNIST_STORE"):
        Folder(tmp_path / "file" / "store").put("a", b"")


def test_a_folder_has_no_console_and_this_machines_clock(folder):
    """There is nothing to open in a browser and no other clock to compare."""
    assert folder.console_url("a") is None
    assert folder.clock_url is None


def test_free_bytes_of_a_folder_that_does_not_exist_yet_are_its_disks(tmp_path):
    """The disk is that of the nearest folder that exists."""
    assert free_bytes(tmp_path / "not" / "yet") == pytest.approx(free_bytes(tmp_path), rel=0.1)
