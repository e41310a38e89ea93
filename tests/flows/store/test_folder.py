"""A store in a folder: complete after a kill and on a full disk."""

import errno
import multiprocessing
import os
import pathlib
import resource
import signal
import stat
import threading
import time

import pytest

from flows.store.base import StoreError
from flows.store.folder import Folder, free_bytes
from mnist_core import _atomic


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


@pytest.fixture(params=[errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS], ids=errno.errorcode.get)
def no_links(request, monkeypatch):
    """A file system without hard links, on which folders cannot be synchronised: vfat, SMB, FUSE."""

    def link(*_args, **_options):
        raise OSError(request.param, os.strerror(request.param))

    sync = os.fsync

    def fsync(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        sync(handle)

    monkeypatch.setattr(os, "link", link)
    monkeypatch.setattr(os, "fsync", fsync)


@pytest.mark.usefixtures("no_links")
def test_create_only_holds_without_hard_links(folder):
    """Of many writers of a key exactly one succeeds, and nothing else stays in the folder."""
    created, barrier = [], threading.Barrier(8)

    def put(number):
        barrier.wait()
        created.extend((key, number) for key in range(20) if folder.put(f"list/{key}", b"%d" % number))

    writers = [threading.Thread(target=put, args=(number,)) for number in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    assert sorted(key for key, _ in created) == list(range(20))
    assert all(folder.get(f"list/{key}") == b"%d" % number for key, number in created)
    assert len(list((folder.root / "list").iterdir())) == 20


@pytest.mark.usefixtures("no_links")
def test_a_file_system_without_create_only_is_refused(folder, monkeypatch):
    """If there is no exclusive rename either, the error says so, and that trying again will not help."""
    monkeypatch.setattr(_atomic.ctypes, "CDLL", lambda *_args, **_options: None)

    with pytest.raises(StoreError, match="no hard links") as caught:
        folder.put("a", b"x")

    assert caught.value.remedy.startswith("set MNIST_STORE to a folder on a local disk")
    assert not caught.value.retryable
    assert folder.keys("") == {}


@pytest.mark.parametrize("answered", [b"mine", b"another's"])
def test_a_link_that_a_file_server_carried_out_twice_is_our_own(folder, monkeypatch, answered):
    """NFS may answer "exists" to the repetition of a request that succeeded; the file shows whose it is."""
    link = os.link

    def twice(source, target, **options):
        if answered == b"mine":
            link(source, target, **options)
        else:
            pathlib.Path(target).write_bytes(answered)
        link(source, target, **options)

    monkeypatch.setattr(os, "link", twice)

    assert folder.put("a", b"mine") is (answered == b"mine")
    assert folder.get("a") == answered


def test_a_folder_has_no_console_and_this_machines_clock(folder):
    """There is nothing to open in a browser and no other clock to compare."""
    assert folder.console_url("a") is None
    assert folder.clock_url is None


def test_free_bytes_of_a_folder_that_does_not_exist_yet_are_its_disks(tmp_path):
    """The disk is that of the nearest folder that exists."""
    assert free_bytes(tmp_path / "not" / "yet") == pytest.approx(free_bytes(tmp_path), rel=0.1)


def test_a_reader_who_may_not_write_learns_no_age(folder, monkeypatch):
    """`status` of another user works: the age of an object is unknown to it."""
    folder.put("a/x", b"x")
    monkeypatch.setattr("pathlib.Path.touch", lambda *_args, **_options: os.open("/nowhere/x", os.O_RDONLY))

    assert folder.age("a/x") is None
