"""The gate's verdicts as tables of cases: each rule, each bound from both sides, ties, NaN."""

from dataclasses import replace

import numpy as np
import pytest

from flows.held_out import HeldOut
from flows.policy.gate import (
    Candidate,
    Limits,
    Reference,
    Rule,
    Verdict,
    default_floor,
    judge,
    lowest_share,
    standing,
)
from flows.records import ChampionEntry, Demotion

CLASSES = tuple("0123456789")
LIMITS = Limits(floor=0.99, share_min=0.05, margin_errors=2.0, margin_rows=8, agreement=0.95)
ROWS = 200


def held_out(wrong=(), first=0):
    """Predictions for 200 rows of class 0, with these rows wrong."""
    probabilities = np.zeros((ROWS, 10), np.float32)
    probabilities[:, 0] = 1
    for row in wrong:
        probabilities[row] = np.eye(10)[1]
    return HeldOut(np.arange(first, first + ROWS), np.zeros(ROWS, np.int64), probabilities)


def candidate(name="challenger", accuracy=0.995, wrong=(), first=0, changed=0, members=()):
    """A version with these held-out rows wrong, and some of its test predictions changed."""
    labels = np.arange(1000) % 10
    labels[:changed] = (labels[:changed] + 1) % 10
    return Candidate(name, accuracy, labels, held_out(wrong, first), members)


@pytest.mark.parametrize(
    ("accuracy", "rule"),
    [
        (0.99, Rule.FIRST),
        (1.0, Rule.FIRST),
        (0.98999, Rule.FLOOR),
        (0.0, Rule.FLOOR),
        (float("nan"), Rule.FLOOR),
    ],
)
def test_the_floor(accuracy, rule):
    """A version passes at its floor and above, not below; an accuracy that is not a number never does."""
    verdict = judge(candidate(accuracy=accuracy), None, LIMITS, CLASSES)

    assert (verdict.passed, verdict.rule) == (rule is Rule.FIRST, rule)


@pytest.mark.parametrize(("sevens", "rule"), [(50, Rule.FIRST), (49, Rule.SHARE), (0, Rule.SHARE)])
def test_the_share_of_each_class(sevens, rule):
    """Each class is at least 5 % of the predictions, also if there is no champion."""
    labels = np.repeat(np.arange(10), 100)
    labels[700 + sevens : 800] = 1

    verdict = judge(replace(candidate(), labels=labels), None, LIMITS, CLASSES)

    assert verdict.rule is rule
    assert ("class 7 of 10 is" in verdict.reason) is (rule is Rule.SHARE)


def test_the_reason_names_the_class_of_the_competition():
    """A competition with other classes has their names in the reason."""
    labels = np.zeros(10, np.int64)

    verdict = judge(replace(candidate(), labels=labels), None, LIMITS, ("cat", "dog"))

    assert "class dog of 2 is 0.0%" in verdict.reason


def test_no_predictions_at_all_are_rejected():
    """An empty test file is not a division by zero."""
    verdict = judge(replace(candidate(), labels=np.zeros(0, np.int64)), None, LIMITS, CLASSES)

    assert verdict.rule is Rule.SHARE


@pytest.mark.parametrize(
    ("mine", "theirs", "limits", "passed"),
    [
        (0, 0, {}, True),  # a tie
        (0, 20, {}, True),  # better
        (8, 0, {}, True),  # at the margin of 8 rows
        (9, 0, {"margin_errors": 0.0}, False),  # one row beyond it
        (9, 0, {"margin_errors": 3.1}, True),  # standard error √9 ≈ 2.93: 3.1 of them are 9.09
        (9, 0, {"margin_errors": 3.0}, False),  # 3.0 of them are 8.80
        (1, 0, {"margin_rows": 0, "margin_errors": 0.0}, False),
        (0, 0, {"margin_rows": 0, "margin_errors": 0.0}, True),
        (60, 0, {}, False),
    ],
)
def test_the_margin(mine, theirs, limits, passed):
    """A challenger passes with as many more errors as the larger of the two margins, not with one more."""
    challenger, champion = candidate(wrong=range(mine)), candidate("champion", wrong=range(100, 100 + theirs))

    verdict = judge(challenger, champion, replace(LIMITS, **limits), CLASSES)

    assert (verdict.passed, verdict.rule) == (passed, Rule.MARGIN)
    errors = f"{abs(mine - theirs)} {'error' if abs(mine - theirs) == 1 else 'errors'}"
    count = f"{errors} {'more' if mine > theirs else 'fewer'} than" if mine != theirs else "as many errors as"
    assert f"{count} champion champion on 200 rows" in verdict.reason


def test_versions_of_more_than_ten_classes_are_compared():
    """A class above 9 is a class like any other."""
    letters = tuple("abcdefghijklmnopqrstuvwxyz")
    rows = HeldOut(np.arange(ROWS), np.full(ROWS, 25), np.eye(26, dtype=np.float32)[np.full(ROWS, 25)])
    challenger, champion = (
        Candidate(name, 0.995, np.arange(1000) % 26, rows, ()) for name in ("challenger", "champion")
    )

    verdict = judge(challenger, champion, replace(LIMITS, share_min=0.02), letters)

    assert verdict.passed
    assert "as many errors as champion champion on 200 rows" in verdict.reason


def test_only_rows_held_out_from_both_are_compared():
    """Errors on rows that the champion was trained on do not count."""
    challenger = candidate(wrong=range(100))  # rows 0 to 99 are not among the champion's 100 to 299
    champion = candidate("champion", first=100)

    verdict = judge(challenger, champion, LIMITS, CLASSES)

    assert verdict.passed
    assert "as many errors as champion champion on 100 rows" in verdict.reason


def test_a_version_that_cannot_be_compared_is_rejected():
    """If no row was held out from both, the champion stays."""
    verdict = judge(candidate(), candidate("champion", first=ROWS), LIMITS, CLASSES)

    assert (verdict.passed, verdict.rule) == (False, Rule.NOTHING_IN_COMMON)


@pytest.mark.parametrize(("changed", "passed"), [(0, True), (50, True), (51, False), (1000, False)])
def test_the_agreement_with_the_champion(changed, passed):
    """A challenger passes if it agrees on 95 % of the test rows, not if on one row less."""
    challenger = replace(candidate(changed=changed), held_out=held_out())

    verdict = judge(challenger, candidate("champion"), replace(LIMITS, share_min=0.0), CLASSES)

    assert (verdict.passed, verdict.rule) == (passed, Rule.MARGIN if passed else Rule.AGREEMENT)


@pytest.mark.parametrize(
    ("mine", "theirs", "rule"),
    [
        (("a", "b"), ("a", "b"), Rule.UNCHANGED),
        (("a", "b", "c"), ("a", "b"), Rule.MARGIN),
        (("a",), (), Rule.MARGIN),
        ((), (), Rule.MARGIN),
    ],
)
def test_an_ensemble_of_the_champions_members_is_rejected(mine, theirs, rule):
    """It would be the same version again; two single networks have no members to compare."""
    verdict = judge(candidate(members=mine), candidate("champion", members=theirs), LIMITS, CLASSES)

    assert verdict.rule is rule


def test_the_first_rule_that_fails_is_the_reason():
    """Floor before shares, shares before the champion."""
    bad = replace(candidate(accuracy=0.1, wrong=range(100)), labels=np.zeros(1000, np.int64))

    assert judge(bad, candidate("champion"), LIMITS, CLASSES).rule is Rule.FLOOR
    assert judge(replace(bad, valid_accuracy=1.0), candidate("champion"), LIMITS, CLASSES).rule is Rule.SHARE


def test_force_passes_what_was_rejected_and_says_so():
    """The rule stays known; a version that passed is not called forced."""
    rejected = judge(candidate(accuracy=0.5), None, LIMITS, CLASSES)
    passed = judge(candidate(), None, LIMITS, CLASSES)

    forced = rejected.force()
    assert (forced.passed, forced.forced, forced.rule) == (True, True, Rule.FLOOR)
    assert forced.reason == f"forced: {rejected.reason}"
    assert passed.force() == passed


def test_force_does_not_pass_what_was_demoted():
    """The alarm or a person knew more of it than the gate; `promote` is the command to undo a rollback."""
    demoted = Verdict(False, Rule.DEMOTED, "rolled back manually")

    assert demoted.force() == demoted


@pytest.mark.parametrize(("wrong", "rule"), [(16, Rule.MARGIN), (17, Rule.DRIFT), (25, Rule.MARGIN)])
def test_small_steps_down_end_at_the_margin_to_an_earlier_champion(wrong, rule):
    """Each step is within the champion's margin; together they may not exceed it either."""
    champion, limits = candidate("champion", wrong=range(16)), replace(LIMITS, margin_errors=0.0)
    reference = Reference("earlier", held_out(range(8)))

    verdict = judge(candidate(wrong=range(wrong)), champion, limits, CLASSES, reference)

    assert (verdict.passed, verdict.rule) == (wrong == 16, rule)
    assert ("than the earlier champion earlier on 200 rows" in verdict.reason) is (rule is Rule.DRIFT)


def test_an_earlier_champion_without_a_common_row_shows_no_drift():
    """It was trained on all the challenger's held-out rows; the champion alone decides."""
    reference = Reference("earlier", held_out(first=ROWS))

    assert judge(candidate(), candidate("champion"), LIMITS, CLASSES, reference).passed


def entry(version, **facts):
    """An entry of the list of champions."""
    return ChampionEntry(version=version, reason=f"why {version}", at="2026-11-23T00:00:00+00:00", **facts)


@pytest.mark.parametrize(
    ("version", "passed", "rule", "reason"),
    [
        ("c", True, Rule.CHAMPION, "it is the champion"),
        ("a", True, Rule.CHAMPION, "it was champion; a later version is champion now"),
        ("b", False, Rule.DEMOTED, "why a"),
    ],
)
def test_a_version_that_was_champion_is_not_judged_again(version, passed, rule, reason):
    """It passes, unless it was demoted; then the reason is the demotion's."""
    demotion = entry("a", demoted="b", cause=Demotion.ALARM)
    last = entry("c", before=("a",), demotions={"b": 3})

    verdict = standing(version, last, demotion if version == "b" else None)

    assert (verdict.passed, verdict.rule, verdict.reason) == (passed, rule, reason)


def test_a_version_that_never_was_champion_is_judged():
    """Nothing is known of it, with champions or without."""
    assert standing("d", entry("a"), None) is None
    assert standing("d", None, None) is None


@pytest.mark.parametrize(
    ("classes", "rows", "floor"),
    [
        (10, 10_000, 0.54),
        (47, 20_000, 0.503),
        (2, 10_000, 0.74),
        (10, 100, 0.45),
        (2, 4, 0.5),  # never below chance
        (10, 0, 0.1),
    ],
)
def test_a_floor_that_nobody_stated(classes, rows, floor):
    """It is half way from chance to no error, and lower on few rows."""
    assert default_floor(classes, rows) == pytest.approx(floor, abs=2e-3)


@pytest.mark.parametrize(
    ("counts", "rows", "share"),
    [
        ([904, 1000, 1096], 28_000, 0.05),  # the digits' shares differ as little
        ([100, 900, 1000], 28_000, 0.03),  # a rare class
        ([10, 990, 1000], 1_000, 0.0),  # which may have no row at all
        ([0, 500, 500], 1_000, 0.0),
    ],
)
def test_a_lowest_share_that_nobody_stated(counts, rows, share):
    """A rare class does not reject every night, nor does a class that few test rows have by chance."""
    labels = np.repeat(np.arange(3), counts)

    assert lowest_share(0.05, labels, 3, rows) == pytest.approx(share, abs=1e-3)
