"""Runs at the same time on one store: they take turns, and each content is submitted once.

`make chaos` sets CHAOS=all and takes more of them.
"""

import itertools

import pytest

from flows.records import Decision
from tests.flows.chaos.trials import STORES, TONIGHT, parameters, wait_for

pytestmark = pytest.mark.usefixtures("prefect_api")
AT_ONCE = list(itertools.product(STORES, [3, 5], [True, False]))


def nights_of(count: int, same: bool) -> list[str]:
    """Return the dates of several runs: all the same, or each another."""
    return [TONIGHT if same else f"2026-11-{23 + i}" for i in range(count)]


@pytest.mark.parametrize(
    ("trials", "count", "same"),
    parameters(AT_ONCE, [("folder", 3, True), ("moto", 3, False)]),
    indirect=["trials"],
)
def test_nights_at_once_take_turns(trials, count, same):
    """Nights that run at once on one store, whichever night they are: each content is submitted once.

    All end well; the list of champions has each night once, and no version is lost.
    """
    nights = nights_of(count, same)
    different = sorted(set(nights))
    trial = trials.new(*different)

    ended = wait_for(trial.start_all(nights), 180)

    assert [(outcome.code, outcome.decision) for outcome in ended] == [(0, Decision.PROMOTED)] * count, ended
    trial.check(*nights)
    assert trial.submitted(*different) == [1] * len(different)
    assert len(trial.registry.champions()) == 1 + len(different)
    assert sum(outcome.result["submission"]["posted"] for outcome in ended) == len(different)


@pytest.mark.parametrize("trials", ["folder"], indirect=True)
@pytest.mark.parametrize("same", parameters([True, False], [False]))
def test_nights_at_once_find_what_a_lost_answer_and_a_late_list_hide(trials, same):
    """Three nights at once, while an answer is lost and the list is late: one submission a content."""
    nights = nights_of(3, same)
    different = sorted(set(nights))
    trial = trials.new(*different)
    trials.job.server.fault("late-list", count=3, seconds=3)
    trials.job.server.fault("lost-reply", count=1)

    ended = wait_for(trial.start_all(nights), 180)

    assert [outcome.code for outcome in ended] == [0] * 3, ended
    trials.job.server.clear_faults()  # the list is late no longer
    trial.check(*nights)
    assert trial.submitted(*different) == [1] * len(different)
    assert len(trials.job.server.submissions()) == 1 + len(different)
