"""Create-only objects and numbered lists: the one primitive that all of the job's memory rests on.

An object is written once and never overwritten. What changes is a numbered list
(`champions/000001.json`, `champions/000002.json`, …): the highest number holds, two writers can not
both take one, and the history is free. Large files are content-addressed under `objects/<sha256>`.

A store is a folder or an S3 bucket. Both have the same calls: `put`, `upload`, `get`, `keys`, `delete`,
`location`. `upload` and `delete` are for content-addressed objects and for `prune` alone.
"""

import math
from collections.abc import Callable
from typing import BinaryIO, Protocol

from mnist_core.errors import MnistError

Progress = Callable[[int], None]
"""Called with the bytes that were written since the last call."""


class StoreError(MnistError):
    """The store can not be read or written, or holds something that is not what was put there."""


class Store(Protocol):
    """Where objects are kept. A new kind of store is a file beside this one and an entry in `open.py`."""

    def put(self, key: str, data: bytes) -> bool:
        """Write an object unless its key is taken; return whether it was written."""
        ...

    def upload(self, key: str, file: BinaryIO, progress: Progress | None = None) -> None:
        """Write a content-addressed object, from the file's position to its end; again renews its time."""
        ...

    def get(self, key: str) -> bytes | None:
        """Return an object's bytes, or None if there is none."""
        ...

    def keys(self, prefix: str) -> dict[str, float]:
        """Return the keys below a prefix ending in `/`, sorted, with the times of writing (s since 1970)."""
        ...

    def delete(self, key: str, before: float = math.inf) -> bool:
        """Delete an object written before a time; return False if it was not, or does not exist."""
        ...

    def delete_partials(self, before: float) -> None:
        """Delete what killed writers left half-written before a time."""
        ...

    def location(self, key: str) -> str:
        """Return where a person finds an object."""
        ...
