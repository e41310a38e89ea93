"""What is kept in a store: content-addressed objects, records, and numbered lists of records.

What changes is a numbered list (`champions/000001.json`, `champions/000002.json`, …): the highest number is
current, two writers cannot both take a number, and the history is free.
"""

import hashlib
import io
import json
import re
import uuid
from pathlib import Path
from typing import TypeVar

from flows.records import Record
from flows.store.base import Store, StoreError, Written

FORMAT = 2
"""Of the records in a store; another format is refused, not misread."""
R = TypeVar("R", bound=Record)


def put_object(store: Store, source: Path | bytes, written: Written | None = None) -> str:
    """Put a content-addressed object; putting it again renews its time.

    Returns:
        Its sha256 in hex, by which `get_object` finds it.
    """
    with source.open("rb") if isinstance(source, Path) else io.BytesIO(source) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        store.upload(f"objects/{digest}", file, written)
    return digest


def get_object(store: Store, digest: str) -> bytes:
    """Return the bytes of a content-addressed object, checked against their digest.

    Raises:
        StoreError: the object is missing or its bytes have changed.
    """
    key = f"objects/{digest}"
    data = store.get(key)
    if data is None:
        raise StoreError(f"{store.location(key)} is missing", "train its version again with --fresh")
    if hashlib.sha256(data).hexdigest() != digest:
        raise StoreError(
            f"{store.location(key)} has changed since it was written (its sha256 differs)",
            "remove it and train its version again with --fresh",
        )
    return data


def put_record(store: Store, key: str, record: Record) -> bool:
    """Put a record as a JSON object with its format and its writer; return False if the key is taken."""
    entry = {**record.to_json(), "format": FORMAT, "writer": uuid.uuid4().hex}
    return store.put(key, (json.dumps(entry, indent=1, sort_keys=True) + "\n").encode())


def get_record(store: Store, key: str, kind: type[R]) -> R | None:
    """Return the record of a kind that an object holds, or None if there is no such object.

    Raises:
        StoreError: the object is not JSON, or of another format.
        RecordError: one of its fields is missing or wrong.
    """
    data = store.get(key)
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
    return kind.from_json(value, where)


def last_number(store: Store, prefix: str) -> int:
    """Return the number that is current in a list, or 0 if the list is empty."""
    names = (key.removeprefix(prefix) for key in store.keys(prefix))
    return max((int(name[:-5]) for name in names if re.fullmatch(r"\d+\.json", name)), default=0)


def latest(store: Store, prefix: str, kind: type[R]) -> tuple[int, R | None]:
    """Return the number and the record that are current in a list, or (0, None) if the list is empty."""
    number = last_number(store, prefix)
    return (number, get_record(store, _key(prefix, number), kind)) if number else (0, None)


def append(store: Store, prefix: str, after: int, record: Record) -> bool:
    """Write the record that follows number `after` of a list; return False if another writer was faster."""
    return put_record(store, _key(prefix, after + 1), record)


def _key(prefix: str, number: int) -> str:
    return f"{prefix}{number:06d}.json"
