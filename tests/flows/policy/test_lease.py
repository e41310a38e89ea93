"""When a lease may be acquired and when it has expired, as tables of cases."""

from datetime import UTC, datetime, timedelta

import pytest

from flows.policy.lease import has_expired, may_acquire, must_reconcile
from flows.records import LeaseEntry, LeaseState

NOW = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)


def lease(state=LeaseState.OPEN, left_s=60.0):
    """A lease that expires in this number of seconds."""
    expires = (NOW + timedelta(seconds=left_s)).isoformat(timespec="milliseconds")
    return LeaseEntry(owner="o", version="v", content="c", state=state, expires=expires)


@pytest.mark.parametrize(("left_s", "expired"), [(60, False), (0.001, False), (0, True), (-1, True)])
def test_a_lease_has_expired_at_its_time(left_s, expired):
    """At the very moment and after it, not a millisecond before."""
    assert has_expired(lease(left_s=left_s), NOW) is expired


@pytest.mark.parametrize(
    ("last", "free", "unclear"),
    [
        (None, True, False),
        (lease(LeaseState.CLOSED), True, False),
        (lease(LeaseState.CLOSED, -1), True, False),
        (lease(LeaseState.OPEN), False, False),
        (lease(LeaseState.OPEN, -1), True, False),
        (lease(LeaseState.SENT), False, True),
        (lease(LeaseState.SENT, -1), False, True),
    ],
)
def test_a_lease_is_acquired_after_a_closed_or_an_expired_open_one(last, free, unclear):
    """What may have been posted is reconciled first, however long ago it was."""
    assert may_acquire(last, NOW) is free
    assert must_reconcile(last) is unclear
