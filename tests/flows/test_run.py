"""Caps and clocks of runs."""

import contextlib
import signal
import time

import pytest
from prefect.states import Failed

from flows.kaggle.errors import CompetitionError, SubmissionUnknownError
from flows.run import OverdueError, capped, clocked, retries
from flows.settings import Settings
from mnist_core.errors import MnistError


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


def test_what_swallows_the_end_of_its_time_is_ended_again(monkeypatch):
    """Third-party code may catch every exception; the cap ends the block all the same."""
    monkeypatch.setattr("flows.run.RING_AGAIN_S", 0.1)
    swallowed = []

    @capped(0.1, "the night", "X")
    def night():
        for number in range(3):
            with contextlib.suppress(MnistError):
                time.sleep(5)
            swallowed.append(number)
        time.sleep(5)

    with pytest.raises(OverdueError):
        night()

    assert swallowed == [0, 1, 2]
    time.sleep(0.2)  # after the block no alarm comes


def test_what_cleans_up_after_its_time_is_not_ended(monkeypatch):
    """A handler that cancels child runs may take its time, in calls with exceptions of their own too."""
    monkeypatch.setattr("flows.run.RING_AGAIN_S", 0.1)
    cleaned = []

    def clean_up():
        for child in range(3):
            try:
                {}["missing"]
            except KeyError:
                time.sleep(0.15)
                cleaned.append(child)

    @capped(0.1, "the night", "X")
    def night():
        try:
            time.sleep(5)
        except BaseException:
            clean_up()
            raise

    with pytest.raises(OverdueError):
        night()

    assert cleaned == [0, 1, 2]


def test_a_clean_up_that_hangs_is_ended(monkeypatch):
    """What cleans up has a limit of its own."""
    monkeypatch.setattr("flows.run.RING_AGAIN_S", 0.1)
    monkeypatch.setattr("flows.run.CLEAN_UP_S", 0.3)
    started = time.monotonic()

    @capped(0.1, "the night", "X")
    def night():
        try:
            time.sleep(5)
        finally:
            time.sleep(5)

    with pytest.raises(OverdueError):
        night()

    assert 0.4 < time.monotonic() - started < 2


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (CompetitionError("down", retryable=True), True),
        (CompetitionError("refused"), False),
        (SubmissionUnknownError("sent", retryable=True), False),
        (OverdueError("the night took too long"), False),
        (ValueError("a bug"), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_which_errors_a_task_tries_again(error, again):
    """Those that pass, but not an unclear answer, and not what has spent its cap."""
    is_retryable = retries(Settings())["retry_condition_fn"]

    assert is_retryable(None, None, Failed(data=error)) is again


def test_the_seconds_of_a_step_add_up_even_if_it_fails():
    """A step that is repeated, or ends with an error, counts with all that it took."""
    seconds: dict[str, float] = {}

    with clocked(seconds, "read"):
        time.sleep(0.05)
    with contextlib.suppress(ValueError), clocked(seconds, "read"):
        time.sleep(0.05)
        raise ValueError

    assert 0.1 <= seconds["read"] < 1
