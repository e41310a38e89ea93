"""When a lease may be acquired, and when it has expired: by observation, not by dates."""

from dataclasses import dataclass

from flows.records import LeaseEntry, LeaseState


@dataclass(frozen=True)
class Sight:
    """What a run knows of the last entry of the list of leases.

    Attributes:
        number: the entry's; 0 if the list is empty.
        entry: None if the list is empty.
        unchanged_s: seconds for which this run has seen it as the last one, by its own clock.
        age_s: seconds for which it has existed by the store's clock; not less than `unchanged_s`.
        holder_has_ended: whether its process ran on this machine, and is gone.
    """

    number: int
    entry: LeaseEntry | None
    unchanged_s: float = 0.0
    age_s: float = 0.0
    holder_has_ended: bool = False


def has_expired(sight: Sight, lease_s: float) -> bool:
    """Return whether the time of a lease is over, so that its run sends nothing any more.

    Args:
        sight: of the lease.
        lease_s: how long a lease lasts. The entry does not say so: its writer's clock may have been wrong.
    """
    return sight.unchanged_s >= lease_s


def may_acquire(sight: Sight, lease_s: float) -> bool:
    """Return whether a run may acquire the lease after the list's last entry.

    A closed lease is free. So is an open one whose run is gone or late, even if that is a mistake of the
    store's clock: its run posts nothing before it has written the list's next entry, which then fails. After
    a request that may have arrived, the submission must be reconciled first.
    """
    if sight.entry is None or sight.entry.state is LeaseState.CLOSED:
        return True
    return sight.entry.state is LeaseState.OPEN and (sight.age_s >= lease_s or sight.holder_has_ended)


def must_reconcile(last: LeaseEntry | None) -> bool:
    """Return whether a submission was sent whose answer nobody has recorded yet."""
    return last is not None and last.state is LeaseState.SENT
