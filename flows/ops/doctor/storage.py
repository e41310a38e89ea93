"""Checks of the store: write, read, create-only, list and delete, each a permission of its own."""

import uuid
from collections.abc import Callable, Iterator

from flows.ops.doctor.finding import Finding, Findings, State
from flows.settings import Settings
from flows.store.base import Store, StoreError
from flows.store.open import open_store

PREFIX = "doctor/"
OURS, OTHER = b"written by `flows doctor`", b"by a second writer"


def check_store(settings: Settings) -> Findings:
    """Check every operation with an object of our own, which is removed again."""
    store = open_store(settings.store)
    key = f"{PREFIX}{uuid.uuid4().hex}"
    written = _attempt("store: write", lambda: _write(store, key, settings.store))
    yield written
    is_written = written.state is State.OK
    if is_written:
        yield _attempt("store: read", lambda: _read(store, key))
        yield _attempt("store: create-only", lambda: _create_only(store, key))
    yield _attempt("store: list", lambda: _list(store, key if is_written else None))
    yield from _delete(store, key, is_written)
    if is_written and (rule := store.expiry()):
        found = f"{rule} deletes objects by their age: champions and leases would begin again"
        remedy = "let the rule delete noncurrent versions only; `prune` deletes what is not needed"
        yield Finding.failed("store: lifecycle", found, remedy)


def _attempt(name: str, step: Callable[[], Finding]) -> Finding:
    try:
        return step()
    except StoreError as error:
        return Finding.of(name, error)


def _write(store: Store, key: str, where: str) -> Finding:
    if store.put(key, OURS):
        return Finding.ok("store: write", where)
    return Finding.failed("store: write", "a new key is refused as taken", "use another store")


def _read(store: Store, key: str) -> Finding:
    if store.get(key) == OURS:
        return Finding.ok("store: read", "an object comes back as it was written")
    remedy = "check the server behind MNIST_STORE, which answered without an error"
    return Finding.failed("store: read", "an object does not come back as it was written", remedy)


def _create_only(store: Store, key: str) -> Finding:
    if not store.put(key, OTHER):
        return Finding.ok("store: create-only", "a second writer is refused")
    remedy = (
        "use a store that honours `If-None-Match: *` (S3 does): without it two runs could both submit, "
        "and a version could be overwritten"
    )
    return Finding.failed("store: create-only", "a second writer is not refused", remedy)


def _list(store: Store, key: str | None) -> Finding:
    keys = store.keys(PREFIX)
    if key is None or key in keys:
        return Finding.ok("store: list", "keys are listed")
    remedy = "use a store that lists an object as soon as it is written (S3 does)"
    return Finding.failed("store: list", "a new object is not listed", remedy)


def _delete(store: Store, key: str, is_written: bool) -> Iterator[Finding]:
    try:
        store.delete(key)
        store.remove_empty(PREFIX)
    except StoreError as error:
        if is_written:
            found = f"{error.problem}; the object of this check remains"
            remedy = "runs delete nothing: grant s3:DeleteObject to whoever runs `prune`"
            yield Finding.warning("store: delete", found, remedy)
    else:
        if is_written:
            yield Finding.ok("store: delete", "the object of this check is deleted")
