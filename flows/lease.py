"""The right to submit: one run of a namespace holds it at a time, as entries of the numbered list `leases`.

Each step of a lease is the list's next entry, so it fails if another run has taken over in between: then
that run posts.
"""

import logging
import time
import uuid
from datetime import UTC, datetime, timedelta

from flows.policy.lease import may_acquire
from flows.records import LeaseEntry, LeaseState
from flows.registry import Registry
from flows.store.base import StoreError
from flows.store.lists import append, latest
from mnist_core.errors import MnistError

log = logging.getLogger("mnist")
LEASE_S = 180.0
"""Seconds after which a lease expires; longer than any one request to the competition takes."""


class LeaseLostError(MnistError):
    """Another run has acquired the lease, because this run's had expired."""


class Lease:
    """One run's right to submit.

    Attributes:
        sent: whether the request that posts may have left.
    """

    def __init__(self, registry: Registry, entry: LeaseEntry, number: int) -> None:
        self._registry = registry
        self._entry = entry
        self._number = number
        self.sent = False

    def renew(self) -> None:
        """Renew the lease right before the request that posts, and while its answer is looked for.

        Raises:
            LeaseLostError: another run took over; if nothing was sent, acquire it again.
        """
        for _ in range(5):
            began = time.time()
            if not self._write(LeaseState.SENT):
                raise LeaseLostError("another run has acquired the lease to submit", "run this one again")
            if time.time() - began < LEASE_S / 6:  # else too little of it is left for the request
                self.sent = True
                return
        raise StoreError(
            f"each write of {self._registry.location('leases', '…')} takes too long to submit",
            "check the store, then run this again",
            retryable=True,
        )

    def release(self) -> None:
        """Let the next run submit; if that cannot be written, the lease expires by itself."""
        try:
            self._write(LeaseState.CLOSED)
        except StoreError as error:
            log.warning("%s (the next run that submits waits up to %d s)", error, LEASE_S)

    def _write(self, state: LeaseState) -> bool:
        entry = self._entry.model_copy(update={"state": state, "expires": _expiry()})
        if not _append(self._registry, self._number, entry):
            return False
        self._number += 1
        return True


def current(registry: Registry) -> tuple[int, LeaseEntry | None]:
    """Return number and entry of the last lease; (0, None) if there was none."""
    return latest(registry.store, _prefix(registry), LeaseEntry)


def acquire(registry: Registry, version: str, content: str) -> Lease | None:
    """Acquire the lease; None while another run has it, or while what it sent is not reconciled.

    Args:
        registry: of the namespace.
        version: whose predictions are posted.
        content: the token that marks their submission.
    """
    number, last = current(registry)
    if not may_acquire(last, datetime.now(UTC)):
        return None
    entry = LeaseEntry(
        owner=uuid.uuid4().hex, version=version, content=content, state=LeaseState.OPEN, expires=_expiry()
    )
    return Lease(registry, entry, number + 1) if _append(registry, number, entry) else None


def release_reconciled(registry: Registry, number: int, last: LeaseEntry, posted: bool) -> bool:
    """Close another run's lease, after it was found out whether its submission arrived.

    Returns:
        False if its run renewed it meanwhile: read the list again.
    """
    entry = last.model_copy(update={"state": LeaseState.CLOSED, "posted": posted})
    return _append(registry, number, entry)


def _append(registry: Registry, number: int, entry: LeaseEntry) -> bool:
    return append(registry.store, _prefix(registry), number, entry)


def _prefix(registry: Registry) -> str:
    return f"{registry.namespace}/leases/"


def _expiry() -> str:
    return (datetime.now(UTC) + timedelta(seconds=LEASE_S)).isoformat(timespec="milliseconds")
