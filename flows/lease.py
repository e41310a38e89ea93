"""The right to submit: one run of a namespace holds it at a time, as entries of the numbered list `leases`.

Each step of a lease is the list's next entry, so it fails if another run has taken over in between: then
that run posts. Nothing rests on two machines agreeing on the time: a run waits until it has seen the same
last entry for `LEASE_S` by its own clock, and the run that holds the lease sends nothing later than that.
"""

import logging
import time
import uuid

from flows.policy.lease import Sight, may_acquire
from flows.process import has_ended, this_process
from flows.records import LeaseEntry, LeaseState
from flows.registry import Registry
from flows.store.base import StoreError
from flows.store.lists import append, key_of, latest
from mnist_core.errors import MnistError

log = logging.getLogger("mnist")
LEASE_S = 180.0
"""Seconds after which a lease expires; longer than any one request to the competition takes."""
SLOWEST_WRITE, LATEST_SEND, RENEWAL = 1 / 6, 5 / 9, 1 / 3
"""Shares of a lease: the longest that writing `sent` may take, the latest that the request may leave after
that began, and the age at which a run that has sent nothing yet renews it."""


class LeaseLostError(MnistError):
    """Another run has acquired the lease, or may have, because this run's is over."""


class Lease:
    """One run's right to submit.

    Attributes:
        sent: whether the request that posts may have left.
    """

    def __init__(self, registry: Registry, entry: LeaseEntry, number: int, began: float) -> None:
        self._registry = registry
        self._entry = entry
        self._number = number
        self._began = began  # of the last write, by `clock_that_never_sleeps`
        self.sent = False

    @property
    def left_s(self) -> float:
        """Seconds that remain of it, the sleep of this machine included."""
        return LEASE_S - (clock_that_never_sleeps() - self._began)

    def keep(self) -> None:
        """Renew the lease before anything is sent, if a part of its time is over: a long list takes a while.

        Raises:
            LeaseLostError: another run took over; acquire it again.
        """
        if self.left_s < LEASE_S * (1 - RENEWAL):
            self._write(LeaseState.OPEN)

    def renew(self, newest: int | None = None) -> None:
        """Renew the lease right before the request that posts, and while its answer is looked for.

        Args:
            newest: the submission that was listed first before the request; None if there was none.

        Raises:
            LeaseLostError: another run took over; if nothing was sent, acquire it again.
        """
        self._entry = self._entry.model_copy(update={"newest": newest})
        for _ in range(5):
            self._write(LeaseState.SENT)
            if self.left_s > LEASE_S * (1 - SLOWEST_WRITE):  # else too little of it is left for the request
                self.sent = True
                return
        raise StoreError(
            f"writing to {self._registry.location('leases', '…')} takes so long that the lease to submit "
            "would expire before the request",
            "check the store, then run this again",
            retryable=True,
        )

    def check(self) -> None:
        """Check, when the connection is ready, that the request that posts may still leave.

        Raises:
            LeaseLostError: this process or its machine stood still since `renew`; nothing was sent.
        """
        if self.left_s < LEASE_S * (1 - LATEST_SEND):
            self.sent = False
            raise LeaseLostError(
                "the submission was held up for too long right before it was sent", "run this again"
            )

    def release(self) -> None:
        """Let the next run submit; if that cannot be written, the lease expires by itself."""
        try:
            self._write(LeaseState.CLOSED)
        except LeaseLostError:
            pass
        except StoreError as error:
            log.warning("%s (the next run that submits waits up to %d s)", error, LEASE_S)

    def _write(self, state: LeaseState) -> None:
        began = clock_that_never_sleeps()
        if not _append(self._registry, self._number, self._entry.model_copy(update={"state": state})):
            raise LeaseLostError("another run has acquired the lease to submit", "run this one again")
        self._number += 1
        self._began = began


class Watch:
    """How long this process has seen the same last entry of a list of leases.

    The time for which this machine slept does not count: a run that holds the lease may be on it, and slept.
    """

    def __init__(self) -> None:
        self._number = -1
        self._since = 0.0
        self._age_s = 0.0

    def look(self, registry: Registry) -> Sight:
        """Return what is known now of the list's last entry."""
        number, entry = current(registry)
        if entry is None or entry.state is LeaseState.CLOSED:
            return Sight(number, entry)
        if number != self._number:
            self._number, self._age_s = number, registry.store.age(key_of(_prefix(registry), number)) or 0.0
            self._since = clock_that_sleeps()
        unchanged_s = clock_that_sleeps() - self._since
        return Sight(number, entry, unchanged_s, self._age_s + unchanged_s, has_ended(entry.holder))


def clock_that_sleeps() -> float:
    """Return seconds by a clock that stands still while this machine sleeps."""
    return time.monotonic()


def clock_that_never_sleeps() -> float:
    """Return seconds by a clock that goes on while this machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def current(registry: Registry) -> tuple[int, LeaseEntry | None]:
    """Return number and entry of the last lease; (0, None) if there was none."""
    return latest(registry.store, _prefix(registry), LeaseEntry)


def acquire(registry: Registry, version: str, content: str, watch: Watch | None = None) -> Lease | None:
    """Acquire the lease; None while another run has it, or while what it sent is not reconciled.

    Args:
        registry: of the namespace.
        version: whose predictions are posted.
        content: the token that marks their submission.
        watch: what this run has seen of the list so far.
    """
    seen = (watch or Watch()).look(registry)
    if not may_acquire(seen, LEASE_S):
        return None
    entry = LeaseEntry(
        owner=uuid.uuid4().hex,
        version=version,
        content=content,
        state=LeaseState.OPEN,
        holder=this_process(),
    )
    began = clock_that_never_sleeps()
    return Lease(registry, entry, seen.number + 1, began) if _append(registry, seen.number, entry) else None


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
