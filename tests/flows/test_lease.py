"""The right to submit: one run of a namespace at a time, however the runs end and whatever the time is."""

import os
import time

import pytest

from flows import lease
from flows.lease import LEASE_S, LeaseLostError, Watch, acquire, current, release_reconciled
from flows.policy.lease import has_expired
from flows.records import LeaseEntry
from flows.store.base import StoreError
from flows.store.lists import get_record

TEN_YEARS_S = 10 * 365 * 86400


class Clocks:
    """Both clocks of a process, which a test moves on."""

    def __init__(self):
        self.awake_s = self.asleep_s = 1000.0

    def move(self, seconds):
        """Let time pass."""
        self.awake_s += seconds
        self.asleep_s += seconds


@pytest.fixture
def clocks(monkeypatch):
    """The clocks by which leases are measured; nothing reads the time of day."""
    made = Clocks()
    monkeypatch.setattr(lease, "clock_that_sleeps", lambda: made.awake_s)
    monkeypatch.setattr(lease, "clock_that_never_sleeps", lambda: made.asleep_s)
    monkeypatch.setattr(time, "time", lambda: pytest.fail("the time of day was read"))
    return made


def states(registry):
    """The states of all entries of the list of leases."""
    keys = registry.store.keys(f"{registry.namespace}/leases/")
    return [get_record(registry.store, key, LeaseEntry).state for key in sorted(keys)]


def date_last_entry(registry, seconds):
    """Give the last entry the time that a machine wrote whose clock was off by these seconds."""
    number, _ = current(registry)
    path = registry.store.root / registry.namespace / "leases" / f"{number:06d}.json"
    written = path.stat().st_mtime + seconds
    os.utime(path, (written, written))


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


def test_an_expired_lease_is_acquired_by_another_run_and_its_owner_learns_it(registry, clocks):
    """A run that was suspended for too long learns right before it posts that another run has the lease."""
    suspended, watch = acquire(registry, "a", "token-a"), Watch()
    assert acquire(registry, "b", "token-b", watch) is None
    clocks.move(LEASE_S - 1)
    assert acquire(registry, "b", "token-b", watch) is None
    clocks.move(1)
    taken = acquire(registry, "b", "token-b", watch)

    with pytest.raises(LeaseLostError):
        suspended.renew()

    assert not suspended.sent
    suspended.release()
    taken.renew()
    assert current(registry)[1].version == "b"


def test_a_run_that_has_just_begun_waits_for_no_open_lease_that_is_old(registry, clocks):
    """The store's clock says how old the entry is: its run had all the time that it could have."""
    assert acquire(registry, "a", "token-a")
    date_last_entry(registry, -LEASE_S - 1)

    assert acquire(registry, "b", "token-b") is not None


@pytest.mark.parametrize("off_s", [TEN_YEARS_S, -TEN_YEARS_S, 180.0, -180.0])
def test_a_dead_run_whose_clock_was_wrong_delays_the_next_one_by_a_lease_and_no_more(registry, clocks, off_s):
    """However its machine's clock stood, what it may have sent is waited for, and not longer than a lease."""
    acquire(registry, "a", "token-a").renew()
    date_last_entry(registry, off_s)
    watch = Watch()

    assert not has_expired(watch.look(registry), LEASE_S)
    clocks.move(LEASE_S - 1)
    assert not has_expired(watch.look(registry), LEASE_S)
    clocks.move(1)
    assert has_expired(watch.look(registry), LEASE_S)
    assert release_reconciled(registry, *current(registry), posted=False)
    assert acquire(registry, "b", "token-b", watch) is not None


def test_a_run_that_waits_for_an_open_lease_from_the_future_waits_a_lease_long(registry, clocks):
    """A time stamp ten years ahead does not keep the next run for ten years."""
    assert acquire(registry, "a", "token-a")
    date_last_entry(registry, TEN_YEARS_S)
    watch = Watch()

    assert acquire(registry, "b", "token-b", watch) is None
    clocks.move(LEASE_S)
    assert acquire(registry, "b", "token-b", watch) is not None


def test_the_lease_of_a_process_that_is_gone_is_free(registry, clocks, monkeypatch):
    """On the same machine the next run need not wait for a dead one that posted nothing."""
    dead = acquire(registry, "a", "token-a")
    monkeypatch.setattr(lease, "has_ended", lambda process: process.pid == os.getpid())

    assert acquire(registry, "b", "token-b") is not None
    with pytest.raises(LeaseLostError):
        dead.renew()


def test_the_lease_of_a_process_that_is_gone_after_it_sent_is_not_free(registry, clocks, monkeypatch):
    """Its submission may have arrived: that is found out before another run posts."""
    acquire(registry, "a", "token-a").renew()
    monkeypatch.setattr(lease, "has_ended", lambda process: process.pid == os.getpid())

    assert acquire(registry, "b", "token-b") is None
    assert release_reconciled(registry, *current(registry), posted=False)
    assert acquire(registry, "b", "token-b") is not None


def test_a_renewed_lease_is_seen_anew(registry, clocks):
    """Each entry of the list is waited for from when it was seen first."""
    held, watch = acquire(registry, "a", "token-a"), Watch()
    held.renew()
    watch.look(registry)
    clocks.move(LEASE_S - 1)
    held.renew()

    assert watch.look(registry).unchanged_s == 0
    clocks.move(LEASE_S - 1)
    assert not has_expired(watch.look(registry), LEASE_S)


def test_a_long_look_at_the_list_keeps_the_lease(registry, clocks):
    """Two runs that need longer than a lease before they post do not take it from each other endlessly."""
    held, watch = acquire(registry, "a", "token-a"), Watch()

    for _ in range(10):
        clocks.move(LEASE_S / 2)
        held.keep()
        held.keep()  # at once again: nothing to do
        assert acquire(registry, "b", "token-b", watch) is None

    held.renew()
    assert states(registry) == ["open"] * 11 + ["sent"]


def test_a_lease_that_was_lost_while_the_list_was_read_is_not_kept(registry, clocks):
    """The run learns it at the next page, and acquires it again."""
    held = acquire(registry, "a", "token-a")
    date_last_entry(registry, -LEASE_S)
    assert acquire(registry, "b", "token-b") is not None
    clocks.move(LEASE_S)

    with pytest.raises(LeaseLostError):
        held.keep()


@pytest.mark.parametrize(("late_s", "sends"), [(0.0, True), (95.0, True), (105.0, False)])
def test_a_request_that_would_leave_too_late_is_not_sent(registry, clocks, late_s, sends):
    """A process or a machine that stood still since the last write sends nothing after another may have."""
    held = acquire(registry, "a", "token-a")
    held.renew()
    clocks.asleep_s += late_s  # the machine slept

    if sends:
        held.check()
    else:
        with pytest.raises(LeaseLostError, match="held up"):
            held.check()

    assert held.sent is sends


def test_the_sleep_of_a_machine_does_not_make_a_lease_expire(registry, clocks):
    """A run on the same machine may hold it: its request could leave when both wake up."""
    acquire(registry, "a", "token-a").renew()
    watch = Watch()
    watch.look(registry)
    clocks.asleep_s += 10 * LEASE_S

    assert not has_expired(watch.look(registry), LEASE_S)


def test_what_was_sent_is_reconciled_before_another_run_submits(registry, clocks):
    """An expired lease that may have posted is not free: first it is found out what became of it."""
    acquire(registry, "a", "token-a").renew()
    watch = Watch()
    watch.look(registry)
    clocks.move(LEASE_S)

    assert acquire(registry, "b", "token-b", watch) is None
    assert release_reconciled(registry, *current(registry), posted=False)
    assert current(registry)[1].posted is False
    assert acquire(registry, "b", "token-b", watch) is not None


def test_a_lease_that_was_renewed_meanwhile_is_not_released_by_another_run(registry):
    """Its owner is alive: the list is read again."""
    held = acquire(registry, "a", "token-a")
    held.renew()
    seen = current(registry)
    held.renew()

    assert not release_reconciled(registry, *seen, posted=False)


def test_a_lease_whose_write_was_slow_is_renewed_before_anything_is_sent(registry, clocks, monkeypatch):
    """If the store took long, too little of the lease is left, and it may be lost by then."""
    held, put = acquire(registry, "a", "token-a"), registry.store.put
    slow = iter([31.0, 31.0, 1.0])

    def put_slowly(key, data):
        done = put(key, data)
        clocks.move(next(slow))
        return done

    monkeypatch.setattr(registry.store, "put", put_slowly)
    held.renew()
    assert states(registry) == ["open", "sent", "sent", "sent"]

    def put_and_lose(key, data):
        done = put(key, data)
        clocks.move(31)
        put(key.replace("000005", "000006"), data)  # another run's next entry
        return done

    monkeypatch.setattr(registry.store, "put", put_and_lose)
    with pytest.raises(LeaseLostError):
        held.renew()


def test_a_store_that_is_always_slow_fails_the_run_and_it_can_be_run_again(registry, clocks, monkeypatch):
    """After five slow writes nothing was sent, and the error says that it is worth another run."""
    held, put = acquire(registry, "a", "token-a"), registry.store.put

    def put_slowly(key, data):
        done = put(key, data)
        clocks.move(60)
        return done

    monkeypatch.setattr(registry.store, "put", put_slowly)
    with pytest.raises(StoreError, match="takes so long") as caught:
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


def test_a_system_without_a_clock_of_the_boot_has_another(monkeypatch):
    """Such as macOS, whose monotonic clock goes on while the machine sleeps."""
    monkeypatch.delattr(time, "CLOCK_BOOTTIME", raising=False)

    earlier = lease.clock_that_never_sleeps()

    assert 0 <= lease.clock_that_never_sleeps() - earlier < 60
