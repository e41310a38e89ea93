"""Retries and clocks of runs."""

import contextlib
import time

import pytest
from prefect.states import Failed

from flows.caps import OverdueError
from flows.kaggle.errors import CompetitionError, SubmissionUnknownError
from flows.run import clocked, retries
from flows.settings import Settings


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

    assert 0.1 <= seconds["read"] < 30
