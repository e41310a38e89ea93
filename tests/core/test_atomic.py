"""The one atomic write."""

import errno
import os
import stat
import sys
import threading

import pytest

from mnist_core import _atomic
from mnist_core._atomic import atomic_write, what_helps, write_many


def test_a_file_appears_when_it_is_complete(tmp_path):
    """Until the block ends the old content stands under the name, then the new one."""
    file = tmp_path / "file"
    file.write_bytes(b"old")

    with atomic_write(file) as writer:
        writer.write(b"new")
        writer.flush()
        assert file.read_bytes() == b"old"

    assert file.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("end", [ValueError, KeyboardInterrupt, OSError])
def test_a_block_that_raises_changes_nothing(tmp_path, end):
    """The old file stays, and the incomplete one is removed."""
    file = tmp_path / "file"
    file.write_bytes(b"old")

    def stop_half_way():
        with atomic_write(file) as writer:
            writer.write(b"half")
            raise end

    with pytest.raises(end):
        stop_half_way()

    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_create_only_refuses_a_name_that_is_taken(tmp_path):
    """The file that was there first stays."""
    file = tmp_path / "file"
    file.write_bytes(b"first")

    with pytest.raises(FileExistsError) as caught, atomic_write(file, create_only=True) as writer:
        writer.write(b"second")

    assert caught.value.filename == str(file)
    assert file.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [file]


def test_of_several_writers_exactly_one_creates_the_file(tmp_path):
    """Threads that start together do not both take a name."""
    barrier, created = threading.Barrier(8), []

    def create(number):
        barrier.wait()
        try:
            with atomic_write(tmp_path / "file", create_only=True) as writer:
                writer.write(b"%d" % number)
        except FileExistsError:
            return
        created.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (tmp_path / "file").read_bytes() == b"%d" % created[0]
    assert len(created) == 1


def test_sync_puts_content_and_name_on_the_disk(tmp_path, monkeypatch):
    """With sync, the file is synchronised before it gets its name, and the folder after."""
    events = []
    real = _atomic.os.fsync
    monkeypatch.setattr(
        _atomic.os, "fsync", lambda handle: (events.append((tmp_path / "file").exists()), real(handle))
    )

    with atomic_write(tmp_path / "file", sync=True) as writer:
        writer.write(b"content")

    assert events == [False, True]


@pytest.mark.skipif(sys.platform == "win32", reason="permissions are POSIX's")
def test_a_secret_is_never_readable_by_others(tmp_path):
    """The mode holds from the moment the file is opened."""
    file = tmp_path / "key"

    with atomic_write(file, mode=0o600) as writer:
        (part,) = tmp_path.iterdir()
        assert stat.S_IMODE(part.stat().st_mode) == 0o600
        writer.write(b"secret")

    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_errors_name_the_file_and_not_the_incomplete_one(tmp_path):
    """A person knows the path that was asked for."""
    with pytest.raises(FileNotFoundError) as missing, atomic_write(tmp_path / "no" / "file"):
        pass
    (tmp_path / "folder" / "full").mkdir(parents=True)
    with pytest.raises(OSError, match="folder") as taken, atomic_write(tmp_path / "folder"):
        pass

    assert missing.value.filename == str(tmp_path / "no" / "file")
    assert taken.value.filename == str(tmp_path / "folder")
    assert taken.value.errno in (errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST)
    assert ".part" not in str(taken.value)


def test_many_small_files_are_written_through_one_part(tmp_path):
    """Each has its content, none is left over."""
    for number in range(3):
        write_many(f"{tmp_path}/.0.part", f"{tmp_path}/{number}", b"%d" % number * (3 - number))

    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {
        "0": b"000",
        "1": b"11",
        "2": b"2",
    }


def test_another_users_folder_names_the_command_that_gives_it_to_this_one(tmp_path, monkeypatch):
    """Such as root's, after `sudo make nightly`; one's own folder is another matter."""
    (tmp_path / "of root").mkdir()
    refused = PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "of root" / "new" / "file"))

    assert what_helps(refused, "MNIST_HOME") == "check that MNIST_HOME names a folder that you can write to"

    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    assert f"""sudo chown -R "$(id -u)" '{tmp_path}/of root', or set MNIST_HOME""" in what_helps(
        refused, "MNIST_HOME"
    )
