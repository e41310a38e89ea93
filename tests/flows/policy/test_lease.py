"""When a lease may be acquired and when it has expired, as tables of cases."""

import pytest

from flows.policy.lease import Sight, has_expired, may_acquire, must_reconcile
from flows.records import LeaseEntry, LeaseState

LEASE_S = 180.0


def seen(state=LeaseState.OPEN, **facts):
    """What a run knows of a lease in a state."""
    return Sight(7, LeaseEntry(owner="o", version="v", content="c", state=state), **facts)


@pytest.mark.parametrize(
    ("sight", "expired"),
    [
        (seen(), False),
        (seen(unchanged_s=179.9, age_s=1e9, holder_has_ended=True), False),
        (seen(unchanged_s=180.0, age_s=180.0), True),
    ],
)
def test_a_lease_has_expired_when_it_was_seen_unchanged_for_its_time(sight, expired):
    """Neither the store's clock nor the end of its process makes it expire: a request may be on its way."""
    assert has_expired(sight, LEASE_S) is expired


@pytest.mark.parametrize(
    ("sight", "free", "unclear"),
    [
        (Sight(0, None), True, False),
        (seen(LeaseState.CLOSED), True, False),
        (seen(), False, False),
        (seen(age_s=179.9), False, False),
        (seen(age_s=180.0), True, False),
        (seen(unchanged_s=180.0, age_s=180.0), True, False),
        (seen(holder_has_ended=True), True, False),
        (seen(LeaseState.SENT), False, True),
        (seen(LeaseState.SENT, unchanged_s=1e9, age_s=1e9, holder_has_ended=True), False, True),
    ],
)
def test_a_lease_is_acquired_after_a_closed_one_or_an_open_one_whose_run_is_late_or_gone(
    sight, free, unclear
):
    """What may have been posted is reconciled first, however long ago it was."""
    assert may_acquire(sight, LEASE_S) is free
    assert must_reconcile(sight.entry) is unclear
