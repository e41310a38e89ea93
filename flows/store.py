"""Create-only objects and numbered lists: the one primitive that all of the job's memory rests on.

An object is written once and never overwritten. What changes is a numbered list
(`champions/000001.json`, `champions/000002.json`, …): the highest number holds, two writers can not
both take one, and the history is free. Large files are content-addressed under `objects/<sha256>`.
"""

import errno
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mnist_core.errors import MnistError


class StoreError(MnistError):
    """The store can not be read or written, or holds something that is not what was put there."""


class Store:
    """A folder of objects.

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
        with self._explained(key):
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.parent / f".{uuid.uuid4().hex}.partial"
            try:
                with partial.open("xb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                os.link(partial, target)  # atomic, and refuses a key that is taken
            except FileExistsError:
                return False
            finally:
                partial.unlink(missing_ok=True)
            _sync_folder(target.parent)
        return True

    def get(self, key: str) -> bytes | None:
        """An object's bytes; None where there is none."""
        with self._explained(key):
            try:
                return (self.root / key).read_bytes()
            except FileNotFoundError:
                return None

    def keys(self, prefix: str) -> list[str]:
        """The keys below a prefix that ends in `/`, sorted."""
        folder = self.root / prefix
        with self._explained(prefix):
            return sorted(
                path.relative_to(self.root).as_posix()
                for path in folder.rglob("*")
                if path.is_file() and not path.name.endswith(".partial")
            )

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
            explained.again = True
            raise explained from error


def open_store(place: str) -> Store:
    """The store that MNIST_STORE names."""
    return Store(Path(place).absolute())


def put_object(store: Store, data: bytes) -> str:
    """Put a content-addressed object; putting it again is harmless.

    Returns:
        Its sha256 in hex, by which `get_object` finds it.
    """
    digest = hashlib.sha256(data).hexdigest()
    store.put(f"objects/{digest}", data)
    return digest


def get_object(store: Store, digest: str) -> bytes:
    """The bytes of a content-addressed object, checked against their digest.

    Raises:
        StoreError: the object is missing or its bytes have changed.
    """
    key = f"objects/{digest}"
    data = store.get(key)
    if data is None:
        raise StoreError(f"{store.location(key)} is missing; train that version again with --fresh")
    if hashlib.sha256(data).hexdigest() != digest:
        raise StoreError(
            f"{store.location(key)} has changed since it was written (its sha256 differs); "
            "remove that file and train its version again with --fresh"
        )
    return data


def put_json(store: Store, key: str, value: dict[str, Any]) -> bool:
    """`Store.put` for a small JSON object; the keys `format` and `writer` are added."""
    entry = {"format": 1, "writer": uuid.uuid4().hex, **value}
    return store.put(key, (json.dumps(entry, indent=1, sort_keys=True) + "\n").encode())


def get_json(store: Store, key: str) -> dict[str, Any] | None:
    """A small JSON object; None where there is none.

    Raises:
        StoreError: what lies there is no JSON object of this format.
    """
    data = store.get(key)
    if data is None:
        return None
    try:
        value = json.loads(data)
        known = value["format"] == 1
    except (ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise StoreError(f"{store.location(key)} is no JSON object of format 1; it was changed from outside")
    return dict(value)


def latest(store: Store, prefix: str) -> tuple[int, dict[str, Any] | None]:
    """The number and the entry that hold in a numbered list; (0, None) where it is empty."""
    numbers = [int(key.removeprefix(prefix).removesuffix(".json")) for key in store.keys(prefix)]
    if not numbers:
        return 0, None
    return max(numbers), get_json(store, f"{prefix}{max(numbers):06d}.json")


def append(store: Store, prefix: str, after: int, entry: dict[str, Any]) -> bool:
    """Write the entry that follows number `after` of a list; False where another writer came first."""
    return put_json(store, f"{prefix}{after + 1:06d}.json", entry)


def free_bytes(folder: Path) -> int:
    """Bytes free on the disk that holds `folder`, which need not exist yet."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
