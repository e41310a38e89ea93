"""Which kind of store an address names."""

from collections.abc import Callable
from urllib.parse import urlsplit

from flows.store.base import Store
from flows.store.folder import Folder
from flows.store.s3 import Bucket

OPENERS: dict[str, Callable[[str], Store]] = {"s3": Bucket.open}
"""By scheme of the address; an address without a scheme is a folder."""


def open_store(address: str) -> Store:
    """Return the store of an address: a folder, or `s3://bucket/prefix`."""
    opener = OPENERS.get(urlsplit(address).scheme, Folder.open)
    return opener(address)
