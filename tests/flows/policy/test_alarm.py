"""The alarm as tables of cases: the bound from both sides, ties, NaN, and who is champion after it."""

import numpy as np
import pytest

from flows.policy.alarm import Alarm, Scored, champion_after, find_alarm, recorded_alarm
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
    champions = [entry("a"), entry("b"), entry("a", demoted="b", cause=cause)]

    found = recorded_alarm("b", champions)

    assert (found is not None) is recorded
    assert recorded_alarm("a", champions) is None
    assert recorded_alarm("a", []) is None


@pytest.mark.parametrize(
    ("current", "champion"), [("bad", "before"), ("later", "later"), ("before", "before"), (None, "before")]
)
def test_a_later_champion_stays_after_an_alarm(current, champion):
    """If the bad version is champion, the one before it takes over."""
    assert champion_after(Alarm("bad", "before", ""), current) == champion
