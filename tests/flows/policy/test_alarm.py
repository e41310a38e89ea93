"""The alarm as tables of cases: the bound from both sides, ties, NaN, and who is champion after it."""

from dataclasses import replace

import numpy as np
import pytest

from flows.policy.alarm import (
    Alarm,
    Scored,
    champion_after,
    find_alarm,
    find_held_out_alarm,
    recorded_alarm,
)
from flows.records import ChampionEntry, Demotion

ROWS = 10_000


def scored(version, score, differing=0):
    """A champion with a score, whose predictions differ from the plain ones in some rows."""
    labels = np.zeros(ROWS, np.int64)
    labels[:differing] = 1
    return Scored(version, score, labels)


@pytest.mark.parametrize(
    ("score", "before", "differing", "alarm"),
    [
        (0.99, 0.99, 100, False),  # a tie
        (0.99, 0.98, 100, False),  # better
        (0.9861, 0.99, 100, False),  # the bound is 4 · √100 / 10,000 = 0.004
        (0.9859, 0.99, 100, True),
        (0.9859, 0.99, 400, False),  # they differ on more rows: the bound is 0.008
        (0.9819, 0.99, 400, True),
        (0.99, 0.99, 0, False),  # the same predictions
        (0.0, 1.0, ROWS, True),
        (float("nan"), 0.99, 100, False),
        (0.5, float("nan"), 100, False),
    ],
)
def test_a_score_is_too_low_beyond_four_standard_deviations(score, before, differing, alarm):
    """The bound grows with the rows on which the two differ; a score that is not a number raises no alarm."""
    found = find_alarm(scored("new", score, differing), scored("old", before))

    assert (found is not None) is alarm
    if found is not None:
        assert (found.version, found.fallback) == ("new", "old")
        assert f"differ on {differing} rows" in found.reason


def entry(version, **facts):
    """An entry of the list of champions."""
    return ChampionEntry(version=version, reason=f"why {version}", at="2026-11-23T00:00:00+00:00", **facts)


@pytest.mark.parametrize(
    ("cause", "recorded"), [(Demotion.ALARM, True), (Demotion.ROLLBACK, False), (Demotion.PRUNED, False)]
)
def test_an_alarm_is_recorded_with_its_cause(cause, recorded):
    """A version that a person demoted raised no alarm."""
    found = recorded_alarm("b", entry("a", demoted="b", cause=cause))

    assert (found is not None) is recorded
    assert recorded_alarm("a", None) is None


@pytest.mark.parametrize(
    ("score", "accuracy", "rows", "alarm"),
    [
        (0.99, 0.99, 8_400, False),  # a tie
        (1.0, 0.99, 8_400, False),  # better
        # p = (84 + 2) / 8,404: 4 · √(p(1 − p)(1/10,000 + 1/8,400)) = 0.00596
        (0.9841, 0.99, 8_400, False),
        (0.9840, 0.99, 8_400, True),
        # no error at all: p = 2 / 8,404, and the bound is 4 · 0.00023 = 0.00091, more than 8 rows
        (0.9991, 1.0, 8_400, False),
        (0.9990, 1.0, 8_400, True),
        # p = 2 / 10,000,004 ≈ 0: 8 of 10,000 rows are allowed
        (0.99921, 1.0, 10_000_000, False),
        (0.99919, 1.0, 10_000_000, True),
        (0.844, 0.960, 300, True),
        (float("nan"), 0.99, 8_400, False),
    ],
)
def test_a_score_contradicts_the_held_out_accuracy(score, accuracy, rows, alarm):
    """Beyond four standard errors of the difference, and beyond eight test rows."""
    found = find_held_out_alarm(scored("first", score), accuracy, rows, current="first")

    assert (found is not None) is alarm
    if found is not None:
        assert (found.version, found.fallback) == ("first", None)
        assert f"on {rows:,} held-out rows" in found.reason
        assert "no champion until the next promotion" in found.reason


@pytest.mark.parametrize(
    ("current", "fallback", "words"),
    [
        ("first", None, "there is no champion until the next promotion"),
        (None, None, "there is no champion until the next promotion"),
        ("first", "before", "before is champion again"),
        ("later", None, "later stays champion"),
        ("later", "before", "later stays champion"),
    ],
)
def test_an_alarm_says_who_is_champion_after_it(current, fallback, words):
    """A late score may come when a later version is champion already, which stays."""
    found = find_held_out_alarm(scored("first", 0.5), 0.99, 8_400, current, fallback)

    assert found.reason.endswith(f"it is not promoted again, and {words}")


@pytest.mark.parametrize(
    ("current", "champion"), [("bad", "before"), ("later", "later"), ("before", "before"), (None, None)]
)
def test_a_later_champion_stays_after_an_alarm(current, champion):
    """If the bad version is champion, the one before it takes over; a list without a champion stays so."""
    assert champion_after(Alarm("bad", "before", ""), current) == champion


@pytest.mark.parametrize(("rows", "alarm"), [(None, True), (2_500, False), (100, False)])
def test_a_score_of_a_part_of_the_test_rows_has_wider_bounds(rows, alarm):
    """With fewer rows behind the public score chance does more: the same difference is no alarm."""
    bad, good = scored("bad", 0.985, differing=100), scored("good", 0.99)

    assert (find_alarm(replace(bad, rows=rows), replace(good, rows=rows)) is not None) is alarm


@pytest.mark.parametrize(("rows", "alarm"), [(None, True), (500, False)])
def test_a_held_out_accuracy_is_compared_with_the_rows_that_were_scored(rows, alarm):
    """The rows behind the public score count, not all of the test file."""
    found = find_held_out_alarm(replace(scored("bad", 0.980), rows=rows), 0.99, 8_400, "bad")

    assert (found is not None) is alarm
