"""Which kind of store an address names."""

from typing import Protocol

from flows.store.base import Store
from flows.store.folder import Folder
from flows.store.s3 import Bucket


class Kind(Protocol):
    """A kind of store, as the address of a store names it.

    Attributes:
        address: how such an address looks, for people.
    """

    address: str

    def check(self, address: str) -> None:
        """Raise ValueError unless a store of this kind can have an address."""
        ...

    def open(self, address: str) -> Store:
        """Return the store of an address."""
        ...


KINDS: dict[str, Kind] = {"": Folder, "s3": Bucket}
"""By the scheme of an address; a path has none."""
ADDRESSES = " or ".join(kind.address for kind in KINDS.values())
"""How the address of a store looks, for people."""


def check_address(address: str) -> None:
    """Raise ValueError, whose text goes after the name of a setting, unless a store can have this address."""
    scheme = _scheme(address)
    if scheme not in KINDS:
        raise ValueError(f"must be {ADDRESSES}")
    KINDS[scheme].check(address)


def open_store(address: str) -> Store:
    """Return the store of an address that `check_address` accepts; no call is made yet."""
    return KINDS[_scheme(address)].open(address)


def _scheme(address: str) -> str:
    """Return what an address begins with before `:`, or nothing if it is a path."""
    scheme, colon, rest = address.partition(":")
    return scheme if colon and (scheme in KINDS or rest.startswith("//")) else ""
