"""The one atomic write: a file appears under its name when it is complete, or not at all."""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

PART = ".part"
"""How the name of an incomplete file ends; it begins with a dot. A killed process may leave one behind."""
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
"""What file systems without hard links answer: vfat, exFAT, some network and FUSE file systems."""
_NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.EACCES}
"""What file systems answer on which a folder cannot be synchronised: they order its changes themselves."""
_AT_FDCWD, _RENAME_NOREPLACE = -100, 1


@contextmanager
def atomic_write(
    path: Path, *, sync: bool = False, create_only: bool = False, mode: int = 0o666
) -> Iterator[BinaryIO]:
    """Open a new file beside `path` for writing, and give it that name when the block ends.

    Args:
        path: replaced if it exists. If the block raises, nothing has changed.
        sync: return only when content and name are on the disk, so that they survive a power cut.
        create_only: refuse a path that exists; of two writers exactly one succeeds.
        mode: permissions of the new file, before the umask.

    Raises:
        FileExistsError: with `create_only`, the path exists.
        OSError: the folder is missing or full, or cannot be written to, or with `create_only` its file system
            has neither hard links nor a rename that fails if the name is taken; `filename` is the path.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PART}")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            yield file
            if sync:
                file.flush()
                os.fsync(file.fileno())
        if create_only:
            _create(part, path)
        else:
            part.replace(path)
        if sync:
            _sync_folder(path.parent)
    except OSError as error:
        if error.filename == str(part):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        part.unlink(missing_ok=True)


def write_many(part: str, path: str, content: bytes) -> None:
    """Write one of many small files atomically: `atomic_write` in a third of the time.

    Args:
        part: name of the incomplete file, in the same folder; it may be used again for the next file.
        path: replaced if it exists.
        content: the file's bytes.
    """
    file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        os.write(file, content)
    finally:
        os.close(file)
    os.replace(part, path)  # noqa: PTH105 (pathlib takes longer than the disk)


def _create(part: Path, path: Path) -> None:
    """Give a file its name, which must be free: by a link, which unlike a rename fails if it is taken."""
    try:
        path.hardlink_to(part)
    except FileExistsError:
        if part.stat().st_nlink < 2:  # else it is our own: a file server carried out the request twice
            raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _rename_to_free_name(part, path)


def _rename_to_free_name(part: Path, path: Path) -> None:
    """Rename a file unless the new name is taken; Linux can do so on vfat, exFAT and SMB."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    number = errno.ENOSYS
    if rename is not None:
        if rename(_AT_FDCWD, os.fsencode(part), _AT_FDCWD, os.fsencode(path), _RENAME_NOREPLACE) == 0:
            return
        number = ctypes.get_errno()
    if number == errno.EEXIST:
        raise FileExistsError(number, os.strerror(number), str(path))
    if number in (errno.EINVAL, errno.ENOSYS):
        what = "this file system cannot create a file only if its name is free (no hard links)"
        raise OSError(errno.ENOTSUP, what, str(path))
    raise OSError(number, os.strerror(number), str(path))


def what_helps(error: OSError, setting: str) -> str:
    """Return what a person can do about an error of the disk.

    Args:
        error: of a file or folder.
        setting: the one that names the folder.
    """
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"free disk space there, or set {setting} to a folder on another disk"
    if error.errno in (errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK):
        return f"set {setting} to a folder on a local disk: this file system cannot do what is needed"
    if error.errno in (errno.EACCES, errno.EPERM) and error.filename:
        folder = Path(os.fsdecode(error.filename)).absolute()
        while not os.path.isdir(folder):  # noqa: PTH112 (no error if it is unreadable)
            folder = folder.parent
        if folder != folder.parent and (owner := folder.stat().st_uid) != os.geteuid():
            command = f'sudo chown -R "$(id -u)" {shlex.quote(str(folder))}'
            return f"it belongs to user {owner} (`sudo make`?): {command}, or set {setting} to another folder"
    return f"check that {setting} names a folder that you can write to"


def _sync_folder(folder: Path) -> None:
    try:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
