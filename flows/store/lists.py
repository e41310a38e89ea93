"""What is kept in a store: content-addressed objects, small JSON objects, and numbered lists of these.

What changes is a numbered list (`champions/000001.json`, `champions/000002.json`, …): the highest number is
current, two writers cannot both take a number, and the history is free.
"""

import hashlib
import io
import json
import uuid
from pathlib import Path
from typing import Any

from flows.store.base import Store, StoreError, Written

FORMAT = 2
"""Of the JSON objects; an object of another format is refused."""


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


def put_json(store: Store, key: str, value: dict[str, Any]) -> bool:
    """Put a small JSON object, with the fields `format` and `writer`; return False if its key is taken."""
    entry = {**value, "format": FORMAT, "writer": uuid.uuid4().hex}
    return store.put(key, (json.dumps(entry, indent=1, sort_keys=True) + "\n").encode())


def get_json(store: Store, key: str) -> dict[str, Any] | None:
    """Return a small JSON object, or None if there is no such object.

    Raises:
        StoreError: it is not a JSON object of this format.
    """
    data = store.get(key)
    if data is None:
        return None
    try:
        value = json.loads(data)
        known = value["format"] == FORMAT
    except (ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise StoreError(
            f"{store.location(key)} is not a JSON object of format {FORMAT}",
            "it was changed from outside, or written by another version of this program: use that version, "
            "or set MNIST_STORE to a new store",
        )
    return dict(value)


def latest(store: Store, prefix: str) -> tuple[int, dict[str, Any] | None]:
    """Return the number and the entry that are current in a list, or (0, None) if the list is empty."""
    numbers = [int(key.removeprefix(prefix).removesuffix(".json")) for key in store.keys(prefix)]
    if not numbers:
        return 0, None
    return max(numbers), get_json(store, f"{prefix}{max(numbers):06d}.json")


def append(store: Store, prefix: str, after: int, entry: dict[str, Any]) -> bool:
    """Write the entry that follows number `after` of a list; return False if another writer was faster."""
    return put_json(store, f"{prefix}{after + 1:06d}.json", entry)
