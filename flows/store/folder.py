"""A store in a folder."""

import errno
import math
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from flows.store.base import Page, StoreError, Written
from mnist_core._atomic import PART, atomic_write, what_helps

CHUNK_BYTES = 1 << 20
PARTIAL = re.compile(rf"\..+\.[0-9a-f]{{8}}{re.escape(PART)}")
"""The name of an incomplete file."""


class Folder:
    """A store in a folder.

    Args:
        root: the folder; made when the first object is put.

    Attributes:
        setting: what names the folder, for messages.
    """

    address = "a folder"
    nights_prune = True
    setting = "MNIST_STORE"

    def __init__(self, root: Path) -> None:
        self.root = root
        self.seen: dict[str, int] = {}
        self.records: dict[str, bytes] = {}
        self.objects: dict[str, bytes] = {}

    @classmethod
    def check(cls, address: str) -> None:
        """Raise ValueError if a path is that of a file."""
        if Path(address).is_file():
            raise ValueError("is a file, but must be a folder")

    @classmethod
    def open(cls, address: str) -> "Folder":
        """Return the store in the folder of a path."""
        return cls(Path(address).absolute())

    def prepare(self) -> None:
        """Do nothing: each put shows whether the file system can."""

    def put(self, key: str, data: bytes) -> bool:
        """Write an object unless its key is taken; see `Store.put`."""
        with self._explained(key):
            target = self._ready(key)
            try:
                with atomic_write(target, sync=True, create_only=True) as file:
                    file.write(data)
            except FileExistsError:  # perhaps by us: a file server may have carried out a request twice
                return self.get(key) == data
        return True

    def upload(self, key: str, file: BinaryIO, written: Written | None = None) -> bool:
        """Write a content-addressed object; one that exists is replaced by the same bytes.

        Returns:
            False: this machine's clock may be set, and a prune take any object for old.
        """
        with self._explained(key), atomic_write(self._ready(key), sync=True) as target:
            while chunk := file.read(CHUNK_BYTES):
                target.write(chunk)
                if written is not None:
                    written(len(chunk))
        return False

    def get(self, key: str) -> bytes | None:
        """Return an object's bytes, or None if it does not exist."""
        with self._explained(key):
            try:
                return (self.root / key).read_bytes()
            except FileNotFoundError:
                return None

    def exists(self, key: str) -> bool:
        """Return whether there is such an object."""
        with self._explained(key):
            return (self.root / key).is_file()

    def names(self, prefix: str, after: str = "") -> Page:
        """Return all names in the folder of a prefix that sort after another one."""
        with self._explained(prefix):
            try:
                names = os.listdir(self.root / prefix)  # noqa: PTH208 (iterdir makes a Path of each)
            except FileNotFoundError:
                names = []
        return Page(sorted(name for name in names if name > after and not name.endswith(PART)), more=False)

    def keys(self, prefix: str) -> dict[str, float]:
        """Return the keys below a prefix, sorted, with the times at which they were written."""
        found = {}
        with self._explained(prefix):
            for path in (self.root / prefix).rglob("*"):
                with suppress(FileNotFoundError):  # deleted since it was listed
                    if path.is_file() and path.suffix != PART:
                        found[path.relative_to(self.root).as_posix()] = path.stat().st_mtime
        return dict(sorted(found.items()))

    def age(self, key: str) -> float | None:
        """Return for how many seconds an object has existed, by its time and that of a file made now."""
        path = self.root / key
        try:
            written = path.stat().st_mtime
            return max(0.0, _now(path.parent) - written)
        except OSError:  # also a reader who may not write here: the age is unknown
            return None

    def now(self) -> float:
        """Return the time that the folder's file system gives a file made now."""
        with self._explained(""):
            return _now(self.root)

    def delete(self, key: str, before: float = math.inf) -> bool:
        """Delete an object that was written before a time; return whether it was deleted."""
        with self._explained(key):
            try:
                if (self.root / key).stat().st_mtime >= before:
                    return False
                (self.root / key).unlink()
            except FileNotFoundError:
                return False
        return True

    def delete_partials(self, before: float) -> None:
        """Delete the incomplete files that killed writers left before a time."""
        with self._explained(""):
            for path in self.root.rglob(f".*{PART}"):
                with suppress(FileNotFoundError):
                    if PARTIAL.fullmatch(path.name) and path.stat().st_mtime < before:
                        path.unlink()

    def expiry(self) -> str | None:
        """Return None: nothing deletes files by their age."""
        return None

    def remove_empty(self, prefix: str) -> None:
        """Remove the folder of a prefix if it is empty."""
        with suppress(OSError):
            (self.root / prefix).rmdir()

    def location(self, key: str) -> str:
        """Return an object's path."""
        return str(self.root / key)

    def console_url(self, key: str) -> str | None:
        """Return None: a path is enough."""
        return None

    @property
    def clock_url(self) -> str | None:
        """None: a folder has this machine's clock."""
        return None

    def _ready(self, key: str) -> Path:
        """Return the path of a key, in a folder that exists."""
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    @contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(
                f"{self.root / key}: {error.strerror or error}",
                what_helps(error, self.setting),
                retryable=error.errno != errno.ENOTSUP,
            ) from error


def _now(folder: Path) -> float:
    """Return the time of a file that is made in a folder now: a file server has a clock of its own."""
    probe = folder / f".now.{secrets.token_hex(4)}{PART}"
    try:
        probe.touch(exist_ok=False)
        return probe.stat().st_mtime
    finally:
        with suppress(OSError):
            probe.unlink()


def free_bytes(folder: Path) -> int:
    """Return the bytes free on the disk that holds `folder`, which need not exist yet."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
