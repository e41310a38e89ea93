"""When a lease may be acquired, and when it has expired."""

from datetime import datetime

from flows.records import LeaseEntry, LeaseState


def has_expired(entry: LeaseEntry, now: datetime) -> bool:
    """Return whether the time of a lease is over."""
    return datetime.fromisoformat(entry.expires) <= now


def may_acquire(last: LeaseEntry | None, now: datetime) -> bool:
    """Return whether a run may acquire the lease after the list's last entry.

    A closed lease is free, and so is an open one that has expired: its run has posted nothing. After a
    request that may have arrived, the submission must be reconciled first.
    """
    if last is None or last.state is LeaseState.CLOSED:
        return True
    return last.state is LeaseState.OPEN and has_expired(last, now)


def must_reconcile(last: LeaseEntry | None) -> bool:
    """Return whether a submission was sent whose answer nobody has recorded yet."""
    return last is not None and last.state is LeaseState.SENT
