"""Caps and clocks of runs."""

import contextlib
import signal
import time

import pytest

from flows.run import OverdueError, capped, clocked


def test_what_takes_too_long_is_ended():
    """A cap ends what it holds, in time, and says what and which setting; an outer cap goes on after it."""
    started = time.monotonic()

    @capped(1.0, "the night", "MNIST_NIGHT_CAP_S")
    def night():
        with pytest.raises(OverdueError, match="training took longer than 0 s"), capped(0.3, "training", "X"):
            time.sleep(5)
        time.sleep(5)

    with pytest.raises(OverdueError, match=r"the night.*MNIST_NIGHT_CAP_S"):
        night()

    assert 0.9 < time.monotonic() - started < 2


def test_a_cap_that_was_kept_leaves_nothing_behind():
    """After its end no alarm comes any more, and the handler of before is in place."""
    before = signal.getsignal(signal.SIGALRM)
    with capped(0.3, "training", "X"):
        pass

    time.sleep(0.5)

    assert signal.getsignal(signal.SIGALRM) is before


def test_the_seconds_of_a_step_add_up_even_if_it_fails():
    """A step that is repeated, or ends with an error, counts with all that it took."""
    seconds: dict[str, float] = {}

    with clocked(seconds, "read"):
        time.sleep(0.05)
    with contextlib.suppress(ValueError), clocked(seconds, "read"):
        time.sleep(0.05)
        raise ValueError

    assert 0.1 <= seconds["read"] < 1
