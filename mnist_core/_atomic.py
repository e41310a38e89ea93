"""The one atomic write: a file appears under its name when it is complete, or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

PART = ".part"
"""How the name of an incomplete file ends; it begins with a dot. A killed process may leave one behind."""


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
        OSError: the folder is missing or full, or cannot be written to; `filename` is the path.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PART}")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            yield file
            if sync:
                file.flush()
                os.fsync(file.fileno())
        if create_only:
            path.hardlink_to(part)  # unlike a rename, a link fails if the name is taken
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


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
