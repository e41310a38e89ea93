"""What is kept in a store: content-addressed objects, records, and numbered lists of records.

What changes is a numbered list (`champions/000001.json`, `champions/000002.json`, …): the highest number is
current, two writers cannot both take a number, and the history is free.
"""

import hashlib
import io
import json
import logging
import re
import uuid
from collections.abc import Set
from pathlib import Path
from typing import TypeVar

from flows.records import Record
from flows.store.base import Store, StoreError, Written

FORMAT = 2
"""Of the records in a store; another format is refused, not misread."""
SMALL_BYTES, SMALL_OBJECTS = 1 << 20, 16
DIGITS = 6
NAME = re.compile(rf"\d{{{DIGITS}}}\.json")
"""Of an entry of a numbered list."""
R = TypeVar("R", bound=Record)
log = logging.getLogger("mnist")


class DamagedObjectError(StoreError):
    """A content-addressed object is missing, or its bytes have changed."""


def put_object(store: Store, source: Path | bytes, written: Written | None = None) -> str:
    """Put a content-addressed object; putting it again renews its time.

    Returns:
        Its sha256 in hex, by which `get_object` finds it.
    """
    return place_object(store, source, written)[0]


def place_object(store: Store, source: Path | bytes, written: Written | None = None) -> tuple[str, bool]:
    """Put a content-addressed object; return its sha256 in hex, and what `Store.upload` says."""
    with source.open("rb") if isinstance(source, Path) else io.BytesIO(source) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        is_new = store.upload(f"objects/{digest}", file, written)
    if isinstance(source, bytes):
        _remember(store, digest, source)
    return digest, is_new


def get_object(store: Store, digest: str) -> bytes:
    """Return the bytes of a content-addressed object, checked against their digest.

    Raises:
        DamagedObjectError: the object is missing or its bytes have changed.
    """
    if digest in store.objects:
        return store.objects[digest]
    key = f"objects/{digest}"
    data = store.get(key)
    remedy = "restore it from a backup; without one, train another version with --fresh"
    if data is None:
        raise DamagedObjectError(f"{store.location(key)} is missing", remedy)
    if hashlib.sha256(data).hexdigest() != digest:
        raise DamagedObjectError(
            f"{store.location(key)} has changed since it was written (its sha256 differs)", remedy
        )
    _remember(store, digest, data)
    return data


def _remember(store: Store, digest: str, data: bytes) -> None:
    """Keep the last small objects at hand: a run reads predictions and pictures several times."""
    if len(data) <= SMALL_BYTES:
        store.objects[digest] = data
        while len(store.objects) > SMALL_OBJECTS:
            del store.objects[next(iter(store.objects))]


def put_record(store: Store, key: str, record: Record) -> bool:
    """Put a record as a JSON object with its format and its writer; return False if the key is taken."""
    entry = {**record.to_json(), "format": FORMAT, "writer": uuid.uuid4().hex}
    data = (json.dumps(entry, indent=1, sort_keys=True) + "\n").encode()
    written = store.put(key, data)
    if written:
        store.records[key] = data
    return written


def get_record(store: Store, key: str, kind: type[R]) -> R | None:
    """Return the record of a kind that an object holds, or None if it does not exist.

    Raises:
        StoreError: the object is not JSON, or of another format.
        RecordError: one of its fields is missing or wrong.
    """
    data = store.records.get(key) or store.get(key)
    if data is None:
        return None
    where = store.location(key)
    try:
        value = json.loads(data)
        known = value["format"] == FORMAT
    except (ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise StoreError(
            f"{where} is not a JSON object of format {FORMAT}",
            "it was changed from outside, or written by another version of this program: use that version, "
            "or set MNIST_STORE to a new store",
        )
    record = kind.from_json(value, where)
    store.records[key] = data
    return record


def last_number(store: Store, prefix: str) -> int:
    """Return the number that is current in a list, or 0 if the list is empty.

    A list only grows: what was met of it before is skipped. The rest is searched by doubling steps, so that a
    list of 10,000 entries takes a few requests. If what was met is gone, as in a store that was restored from
    a backup, the list is searched from its beginning.
    """
    known = max(0, store.seen.get(prefix, 0) - 1)  # one less: the first page shows whether it is still there
    low, more = _highest(store, prefix, known)
    if known and low == known:
        known = 0
        low, more = _highest(store, prefix, known)
    high, size = None, max(1, low - known)  # the last number is at most `high`; a page has about `size`
    step = 2 * size
    while more:
        middle = low + step if high is None else low if high - low <= size else (low + high) // 2
        found, further = _highest(store, prefix, middle)
        if found > middle:
            low, more, step = found, further, 4 * step
        elif middle == low:
            break
        else:
            high = middle
    store.seen[prefix] = low
    return low


def _highest(store: Store, prefix: str, after: int) -> tuple[int, bool]:
    """Return the highest number on the page of names after one, or that one, and whether there are more."""
    page = store.names(prefix, _name(after) if after else "")
    while True:
        numbers = [int(name[:DIGITS]) for name in page.names if NAME.fullmatch(name)]
        if len(numbers) < len(page.names):
            _warn_of_others(store.location(prefix), set(page.names) - {_name(number) for number in numbers})
        more = page.more and page.names[-1] < _name(10**DIGITS - 1)
        if numbers or not more:
            return max(numbers, default=after), more
        page = store.names(prefix, page.names[-1])


def latest(store: Store, prefix: str, kind: type[R]) -> tuple[int, R | None]:
    """Return the number and the record that are current in a list, or (0, None) if the list is empty."""
    number = last_number(store, prefix)
    return (number, get_record(store, key_of(prefix, number), kind)) if number else (0, None)


def append(store: Store, prefix: str, after: int, record: Record) -> bool:
    """Write the record that follows number `after` of a list; return False if another writer was faster."""
    if after + 1 == 10**DIGITS:
        raise StoreError(f"{store.location(prefix)} is full", "set MNIST_STORE to a new store")
    written = put_record(store, key_of(prefix, after + 1), record)
    if written:
        store.seen[prefix] = after + 1
    return written


def delete_record(store: Store, key: str) -> bool:
    """Delete a record; return whether there was one."""
    store.records.pop(key, None)
    return store.delete(key)


def delete_old(store: Store, prefix: str, keep: int) -> None:
    """Delete all but the last entries of a list of which only the last one is read."""
    for name in list(names_of(store, prefix, NAME))[:-keep]:
        delete_record(store, prefix + name)


def names_of(store: Store, prefix: str, pattern: re.Pattern[str]) -> dict[str, float]:
    """Return what a prefix holds that this program has named, with the times at which it was written.

    Returns:
        By the part of the key after the prefix, sorted. Files of other programs are left out, with a warning.
    """
    found = {key.removeprefix(prefix): at for key, at in store.keys(prefix).items()}
    known = {name: at for name, at in found.items() if pattern.fullmatch(name)}
    if len(known) < len(found):
        _warn_of_others(store.location(prefix), found.keys() - known.keys())
    return known


def key_of(prefix: str, number: int) -> str:
    """Return the key of the record with a number in a list."""
    return prefix + _name(number)


def _name(number: int) -> str:
    return f"{number:0{DIGITS}d}.json"


_warned: set[str] = set()


def _warn_of_others(where: str, names: Set[str]) -> None:
    """Log, once for each place, that files which this program did not name so are ignored."""
    if where not in _warned:
        _warned.add(where)
        shown = ", ".join(name or "a folder marker" for name in sorted(names)[:3])
        log.warning("%s: ignoring %s, which this program did not write", where, shown)
