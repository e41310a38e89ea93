"""A store in a folder."""

import errno
import io
import math
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from flows.store.base import Progress, StoreError

CHUNK_BYTES = 1 << 20
PARTIAL = ".partial"
"""How the name of a file ends that is not whole yet."""


class Folder:
    """A store in a folder.

    Args:
        root: the folder; made when the first object is put.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, key: str, data: bytes) -> bool:
        """Write an object unless its key is taken.

        Returns:
            True: written, whole and on disk; False: the key was taken, and nothing changed.
        """
        target = self.root / key
        with self._explained(key), _partial(target, io.BytesIO(data)) as partial:
            try:
                os.link(partial, target)  # atomic, and refuses a key that is taken
            except FileExistsError:
                return False
            _sync_folder(target.parent)
        return True

    def upload(self, key: str, file: BinaryIO, progress: Progress | None = None) -> None:
        """Write a content-addressed object, from the file's position to its end; again renews its time."""
        target = self.root / key
        with self._explained(key), _partial(target, file, progress) as partial:
            partial.replace(target)  # atomic; where there was one, it had the same bytes
            _sync_folder(target.parent)

    def get(self, key: str) -> bytes | None:
        """An object's bytes; None where there is none."""
        with self._explained(key):
            try:
                return (self.root / key).read_bytes()
            except FileNotFoundError:
                return None

    def keys(self, prefix: str) -> dict[str, float]:
        """The keys below a prefix that ends in `/`, sorted, with the times of writing (s since 1970)."""
        found = {}
        with self._explained(prefix):
            for path in (self.root / prefix).rglob("*"):
                with suppress(FileNotFoundError):  # deleted since it was listed
                    if path.is_file() and path.suffix != PARTIAL:
                        found[path.relative_to(self.root).as_posix()] = path.stat().st_mtime
        return dict(sorted(found.items()))

    def delete(self, key: str, before: float = math.inf) -> bool:
        """Delete an object that was written before a time; False where it was not, or is not there."""
        with self._explained(key):
            try:
                if (self.root / key).stat().st_mtime >= before:
                    return False
                (self.root / key).unlink()
            except FileNotFoundError:
                return False
        return True

    def delete_partials(self, before: float) -> None:
        """Delete what killed writers left half-written before a time; no call shows it."""
        with self._explained(""):
            for path in self.root.rglob(f".*{PARTIAL}"):
                with suppress(FileNotFoundError):
                    if path.stat().st_mtime < before:
                        path.unlink()

    def location(self, key: str) -> str:
        """Where a person finds an object."""
        return str(self.root / key)

    @contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            remedy = "make room there" if full else "check that MNIST_STORE names a folder you can write"
            explained = StoreError(f"{self.root / key}: {error.strerror or error}; {remedy}")
            explained.retryable = True
            raise explained from error


def free_bytes(folder: Path) -> int:
    """Bytes free on the disk that holds `folder`, which need not exist yet."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


@contextmanager
def _partial(target: Path, source: BinaryIO, progress: Progress | None = None) -> Iterator[Path]:
    """A file beside `target` with all that `source` holds, on disk; it is gone afterwards."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.parent / f".{uuid.uuid4().hex}{PARTIAL}"
    try:
        with partial.open("xb") as file:
            while chunk := source.read(CHUNK_BYTES):
                file.write(chunk)
                if progress is not None:
                    progress(len(chunk))
            file.flush()
            os.fsync(file.fileno())
        yield partial
    finally:
        partial.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
