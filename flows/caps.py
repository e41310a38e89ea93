"""Caps: what takes too long is ended by a signal, wherever it is."""

import math
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from mnist_core.errors import MnistError

RING_AGAIN_S = 5.0
"""Seconds until what is overdue is ended again, if something swallowed the first `OverdueError`."""
CLEAN_UP_S = 60.0
"""Seconds that handlers of an `OverdueError`, such as the one that cancels child runs, may take."""


class OverdueError(MnistError):
    """Something took longer than its cap; a new run may succeed, and the same run does not try again."""

    retryable = True


@contextmanager
def capped(seconds: float, what: str, setting: str) -> Iterator[None]:
    """End what takes longer than its cap, by a signal; an outer cap that ends earlier applies.

    The signal comes again every few seconds until the block is left: third-party code may swallow an
    exception. While `OverdueError` is handled it does not, so that children are cancelled.

    Outside the main thread, where no signal arrives, there is no cap.

    Raises:
        OverdueError: it took longer.
    """
    left = False

    def ring(_number: int, _frame: FrameType | None) -> None:
        cleaning_up = _handles_overdue() and time.monotonic() - started < seconds + CLEAN_UP_S
        if not left and not cleaning_up:
            raise OverdueError(
                f"{what} took longer than {seconds:.0f} s ({setting})", "look for what was slow in its log"
            )

    outer = signal.getitimer(signal.ITIMER_REAL)[0]
    if threading.current_thread() is not threading.main_thread() or 0 < outer < seconds:
        yield
        return
    started, handler = time.monotonic(), signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, RING_AGAIN_S)
    try:
        try:
            yield
        finally:
            left = True  # if a ring comes right before this, the outer `finally` is still reached
    finally:
        if signal.getsignal(signal.SIGALRM) is ring:  # else Ctrl-C has set an alarm of its own
            remaining = max(outer - (time.monotonic() - started), 0.001) if outer else 0.0
            signal.signal(signal.SIGALRM, handler)
            signal.setitimer(signal.ITIMER_REAL, remaining, RING_AGAIN_S if outer else 0.0)


def left_s() -> float:
    """Return how many seconds are left until the cap that ends first; infinity if there is none."""
    return signal.getitimer(signal.ITIMER_REAL)[0] or math.inf


def _handles_overdue() -> bool:
    """Return whether the interrupted code is a handler of an `OverdueError`, or called by one."""
    error = sys.exception()
    while error is not None and not isinstance(error, OverdueError):
        error = error.__context__
    return error is not None
