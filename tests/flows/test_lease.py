"""The right to submit: one run of a namespace at a time, however the runs end."""

import time

import pytest

from flows import lease
from flows.lease import LeaseLostError, acquire, current, release_reconciled
from flows.records import LeaseEntry
from flows.store.base import StoreError
from flows.store.lists import get_record


def states(registry):
    """The states of all entries of the list of leases."""
    keys = registry.store.keys(f"{registry.namespace}/leases/")
    return [get_record(registry.store, key, LeaseEntry).state for key in sorted(keys)]


def test_one_run_submits_at_a_time(registry):
    """While a lease is open no other run acquires it; released, the next one does, and the history stays."""
    first = acquire(registry, "a", "token-a")

    assert acquire(registry, "b", "token-b") is None
    first.renew()
    assert acquire(registry, "b", "token-b") is None
    first.release()
    second = acquire(registry, "b", "token-b")

    assert second is not None
    assert states(registry) == ["open", "sent", "closed", "open"]
    assert current(registry)[1].version == "b"


def test_of_two_runs_that_acquire_at_once_one_gets_the_lease(registry, monkeypatch):
    """Both read the same list; the second one's entry is refused."""
    put = registry.store.put

    def put_after_another(key, data):
        monkeypatch.undo()
        assert acquire(registry, "b", "token-b") is not None
        return put(key, data)

    monkeypatch.setattr(registry.store, "put", put_after_another)

    assert acquire(registry, "a", "token-a") is None


def test_an_expired_lease_is_acquired_by_another_run_and_its_owner_learns_it(registry, monkeypatch):
    """A run that was suspended for too long learns right before it posts that another run has the lease."""
    monkeypatch.setattr(lease, "LEASE_S", 0.2)
    suspended = acquire(registry, "a", "token-a")
    time.sleep(0.25)
    monkeypatch.setattr(lease, "LEASE_S", 60.0)
    taken = acquire(registry, "b", "token-b")

    with pytest.raises(LeaseLostError):
        suspended.renew()

    assert not suspended.sent
    suspended.release()
    taken.renew()
    assert current(registry)[1].version == "b"


def test_what_was_sent_is_reconciled_before_another_run_submits(registry, monkeypatch):
    """An expired lease that may have posted is not free: first it is found out what became of it."""
    monkeypatch.setattr(lease, "LEASE_S", 0.2)
    acquire(registry, "a", "token-a").renew()
    time.sleep(0.25)

    assert acquire(registry, "b", "token-b") is None
    assert release_reconciled(registry, *current(registry), posted=False)
    assert current(registry)[1].posted is False
    assert acquire(registry, "b", "token-b") is not None


def test_a_lease_that_was_renewed_meanwhile_is_not_released_by_another_run(registry):
    """Its owner is alive: the list is read again."""
    held = acquire(registry, "a", "token-a")
    held.renew()
    seen = current(registry)
    held.renew()

    assert not release_reconciled(registry, *seen, posted=False)


def test_a_lease_whose_write_was_slow_is_renewed_before_anything_is_sent(registry, monkeypatch):
    """If the store took long, too little of the lease is left, and it may be lost by then."""
    monkeypatch.setattr(lease, "LEASE_S", 0.6)
    held, put = acquire(registry, "a", "token-a"), registry.store.put
    slow = iter([0.3, 0.3, 0.0])

    def put_slowly(key, data):
        done = put(key, data)
        time.sleep(next(slow))
        return done

    monkeypatch.setattr(registry.store, "put", put_slowly)
    held.renew()
    assert states(registry) == ["open", "sent", "sent", "sent"]

    def put_and_lose(key, data):
        done = put(key, data)
        time.sleep(0.3)
        put(key.replace("000005", "000006"), data)  # another run's next entry
        return done

    monkeypatch.setattr(registry.store, "put", put_and_lose)
    with pytest.raises(LeaseLostError):
        held.renew()


def test_a_store_that_is_always_slow_fails_the_run_and_it_can_be_run_again(registry, monkeypatch):
    """After five slow writes nothing was sent, and the error says that it is worth another run."""
    monkeypatch.setattr(lease, "LEASE_S", 0.05)
    held, put = acquire(registry, "a", "token-a"), registry.store.put

    def put_slowly(key, data):
        done = put(key, data)
        time.sleep(0.02)
        return done

    monkeypatch.setattr(registry.store, "put", put_slowly)
    with pytest.raises(StoreError, match="takes too long") as caught:
        held.renew()

    assert caught.value.retryable
    assert not held.sent


def test_a_lease_that_cannot_be_released_expires_by_itself(registry, monkeypatch, caplog):
    """The run that submitted ends well, and the log says how long the next one waits."""
    held = acquire(registry, "a", "token-a")

    def fail(*_):
        raise StoreError("the store is down")

    monkeypatch.setattr(registry.store, "put", fail)
    held.release()

    assert "waits up to 180 s" in caplog.text
