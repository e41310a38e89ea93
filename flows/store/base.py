"""What a store is: create-only objects, the one primitive that all of the job's memory rests on.

An object is written once and never overwritten. What changes is a numbered list (`lists.py`). Large files are
content-addressed under `objects/<sha256>`; `upload` is for them alone: it may write the same bytes again.

A new kind of store is one file beside this one and one entry of `KINDS` in `open.py`.
"""

import math
from collections.abc import Callable
from typing import BinaryIO, NamedTuple, Protocol

from mnist_core.errors import MnistError

Written = Callable[[int], None]
"""Called with the bytes that were written since the last call."""

PROBE = "probe/create-only"
"""An object that is there permanently: a store must refuse to write it again."""
PROBE_TEXT = b'{"format": 2, "purpose": "each run tries to write this again, and must be refused"}\n'


class StoreError(MnistError):
    """The store cannot be read or written, or does not hold what was put there."""


class Page(NamedTuple):
    """Some of the names below a prefix, sorted, and whether there are more of them."""

    names: list[str]
    more: bool


class Store(Protocol):
    """Where objects are kept, by keys such as `champions/000001.json`. Each call may raise `StoreError`.

    Attributes:
        nights_prune: whether a night deletes old versions when it ends; in S3 their role need not permit it.
        seen: the highest number of each numbered list that was met, by the list's prefix.
        records: the records that were read or written, by key: they never change.
        objects: small objects that were read or written, by digest.
    """

    nights_prune: bool
    seen: dict[str, int]
    records: dict[str, bytes]
    objects: dict[str, bytes]

    def prepare(self) -> None:
        """Refuse a store that does not honour create-only; the first write does so at the latest."""
        ...

    def put(self, key: str, data: bytes) -> bool:
        """Write an object unless its key is taken.

        Returns:
            True: the object has these bytes, complete and durable; False: it has others, and nothing changed.
        """
        ...

    def upload(self, key: str, file: BinaryIO, written: Written | None = None) -> bool:
        """Write a content-addressed object, from the file's position to its end.

        If the object exists, its time is renewed.

        Returns:
            Whether it is new by a clock that is never set, so that no prune takes it for old.
        """
        ...

    def get(self, key: str) -> bytes | None:
        """Return an object's bytes, or None if it does not exist."""
        ...

    def exists(self, key: str) -> bool:
        """Return whether there is such an object."""
        ...

    def names(self, prefix: str, after: str = "") -> Page:
        """Return a page of the names below a prefix that sort after another one, by their bytes.

        Args:
            prefix: ends in `/`.
            after: a name; need not exist.
        """
        ...

    def keys(self, prefix: str) -> dict[str, float]:
        """Return the keys below a prefix, sorted, with the times at which they were written.

        Args:
            prefix: ends in `/`, or is empty for all keys.

        Returns:
            Seconds since 1970 by the store's clock. Incomplete objects are not among them.
        """
        ...

    def age(self, key: str) -> float | None:
        """Return for how many seconds an object has existed, or None if that is unknown or it does not exist.

        Both moments are read from the store's own clock, so no other clock matters.
        """
        ...

    def now(self) -> float:
        """Return the time by the store's own clock, as `keys` gives it; other clocks may be wrong."""
        ...

    def delete(self, key: str, before: float = math.inf) -> bool:
        """Delete an object that was written before a time; return whether it was deleted."""
        ...

    def delete_partials(self, before: float) -> None:
        """Delete what killed writers left incomplete before a time; no other call shows it."""
        ...

    def expiry(self) -> str | None:
        """Return what deletes objects by their age, for people; None if nothing is known to."""
        ...

    def remove_empty(self, prefix: str) -> None:
        """Remove what remains of a prefix whose objects were all deleted; do nothing if there are some."""
        ...

    def location(self, key: str) -> str:
        """Return where a person finds an object."""
        ...

    def console_url(self, key: str) -> str | None:
        """Return the address at which a browser shows an object, or None if there is none."""
        ...

    @property
    def clock_url(self) -> str | None:
        """The server whose clock must agree with this machine's, or None if it is this machine's own."""
        ...
