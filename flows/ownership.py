"""Whose files are in a store or a home: nothing is deleted where others keep theirs.

A store or home is marked while it holds nothing but ours; what another program adds later is left alone.
"""

import logging
import re
from pathlib import Path

from flows.store.base import Store, StoreError

log = logging.getLogger("mnist")
MARKER = "mnist-nightly.json"
TEXT = b'{"format": 2, "purpose": "mnist-nightly may delete its old files here"}\n'
OURS = re.compile(
    rf"{re.escape(MARKER)}|objects/[0-9a-f]{{64}}|(doctor|probe)/[0-9a-z-]+"
    r"|[^/]+/[^/]+/[0-9a-f]{16}/[a-z]+/.+\.json"
)
"""A key that this program gives to an object."""
OF_THE_SYSTEM = re.compile(r"(.*/)?(\.DS_Store|Thumbs\.db|desktop\.ini|\.localized)|lost\+found(/.*)?|(.*/)?")
"""A name that an operating system, or S3's console, adds to any folder."""
IN_A_HOME = {"data", "practice", "prefect", "reports", "scratch", "store", "templates", MARKER}
"""What this program keeps in a home."""


def claim_store(store: Store) -> None:
    """Mark a store as ours, unless it is marked.

    Raises:
        StoreError: it is not marked, and holds files of others.
    """
    if store.exists(MARKER):
        return
    others = [key for key in store.keys("") if not (OURS.fullmatch(key) or OF_THE_SYSTEM.fullmatch(key))]
    if others:
        raise StoreError(
            f"nothing is deleted: {store.location('')} holds files that this program did not write, such as "
            f"{others[0]}",
            f"check MNIST_STORE; if it is right, move them away, or create an empty {store.location(MARKER)}",
        )
    store.put(MARKER, TEXT)


def claim_home(home: Path) -> bool:
    """Mark a home as ours, unless it is marked; return False, with a warning, if it holds files of others."""
    if (home / MARKER).exists():
        return True
    others = sorted(
        path.name
        for path in home.iterdir()
        if path.name not in IN_A_HOME and not path.name.startswith(".write-")
        if not OF_THE_SYSTEM.fullmatch(path.name)
    )
    if others:
        log.warning(
            "old reports stay: %s holds files that this program did not write, such as %s; set MNIST_HOME to "
            "a folder of its own, or create an empty %s",
            home, others[0], home / MARKER,
        )  # fmt: skip
        return False
    (home / MARKER).write_bytes(TEXT)
    return True
