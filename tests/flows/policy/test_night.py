"""Whether a night is finished and which version it submits, as tables of cases."""

from datetime import UTC, datetime

import pytest

from flows.policy.gate import Rule
from flows.policy.night import (
    Start,
    is_due_again,
    is_finished,
    rejections_after,
    seconds_since_the_last,
    superseded_by,
    version_to_submit,
    why_unbeaten,
)
from flows.records import Decision, NightEntry, RunKey

RUN = RunKey(night="2026-11-23", model="convnet", preset="fast")


@pytest.mark.parametrize(
    ("decision", "alarm", "force", "finished"),
    [
        (Decision.PROMOTED, False, False, True),
        (Decision.PROMOTED, False, True, True),
        (Decision.REJECTED, False, False, True),
        (Decision.REJECTED, False, True, False),
        (Decision.DEFERRED, False, False, False),
        (Decision.DEFERRED, False, True, False),
        (Decision.FAILED, False, False, False),
        (Decision.FAILED, True, False, True),
        (Decision.FAILED, True, True, True),
    ],
)
def test_what_is_finished(decision, alarm, force, finished):
    """Deferred and failed nights are resumed, a rejected one with --force, none after an alarm."""
    entry = NightEntry(run=RUN, version="v", decision=decision, reason="", alarm=alarm)

    assert is_finished(entry, force) is finished


@pytest.mark.parametrize(
    ("passed", "champion", "submitted", "expected"),
    [
        (True, None, False, "tonight's"),
        (True, "champion", False, "tonight's"),
        (True, "champion", True, "tonight's"),
        (False, None, False, None),
        (False, "champion", False, "champion"),
        (False, "champion", True, None),
    ],
)
def test_which_version_is_submitted(passed, champion, submitted, expected):
    """Tonight's if it passed; if it was rejected, a champion that has no submission yet."""
    chosen = version_to_submit("tonight's", passed=passed, champion=champion, champion_is_submitted=submitted)

    assert chosen == expected


OLD, MIDDLE, NEW = (datetime(2026, 11, day, 2, 15, tzinfo=UTC) for day in (24, 25, 26))


@pytest.mark.parametrize(
    ("own", "due", "expected"),
    [
        (Start(OLD), [Start(OLD)], None),
        (Start(OLD), [Start(OLD), Start(MIDDLE), Start(NEW)], NEW),
        (Start(MIDDLE), [Start(NEW), Start(OLD), Start(MIDDLE)], NEW),
        (Start(NEW), [Start(OLD), Start(MIDDLE), Start(NEW)], None),
        (Start(OLD), [Start(NEW, cancelled=True), Start(MIDDLE)], MIDDLE),
        (Start(OLD), [Start(NEW, scheduled=False)], None),
        (Start(OLD), [], None),
    ],
)
def test_a_night_is_skipped_if_a_newer_one_is_due(own, due, expected):
    """Manual runs do not count, nor what somebody cancelled."""
    assert superseded_by(own, due) == expected


def ended(night, rejections):
    """The end of an attempt of a night."""
    run = RUN.model_copy(update={"night": night})
    return NightEntry(run=run, version="v", decision=Decision.REJECTED, reason="", rejections=rejections)


@pytest.mark.parametrize(
    ("before", "decision", "count"),
    [
        ([], Decision.REJECTED, 1),
        ([ended("2026-11-22", 6)], Decision.REJECTED, 7),
        ([ended("2026-11-22", 6)], Decision.PROMOTED, 0),
        ([ended("2026-11-22", 6)], Decision.DEFERRED, 0),
        ([ended("2026-11-22", 6)], Decision.FAILED, 0),
        ([ended("2026-11-22", 0)], Decision.REJECTED, 1),
        ([ended("2026-11-21", 5), ended("2026-11-22", 6)], Decision.REJECTED, 7),
        ([ended("2026-11-22", 6), ended("2026-11-23", 7)], Decision.REJECTED, 7),  # another attempt
        ([ended("2026-11-23", 1), ended("2026-11-23", 1)], Decision.REJECTED, 1),
        ([ended("2026-11-22", 6), ended("2026-11-24", 8)], Decision.REJECTED, 7),  # an old night
    ],
)
def test_rejections_in_a_row(before, decision, count):
    """Nights count, not attempts; whatever replaces the champion, or fails, ends the row."""
    assert rejections_after(before, "2026-11-23", decision) == count


@pytest.mark.parametrize(
    ("rule", "rejections", "words"),
    [
        (Rule.MARGIN, 6, ""),
        (Rule.MARGIN, 7, "7 nights in a row were rejected"),
        (Rule.MARGIN, 8, ""),
        (Rule.MARGIN, 14, "14 nights in a row"),
        (Rule.AGREEMENT, 1, "predicts wrongly"),
        (Rule.AGREEMENT, 0, ""),  # forced
        (Rule.FIRST, 0, ""),
    ],
)
def test_when_a_person_must_look_at_the_champion(rule, rejections, words):
    """After each seventh rejection, and whenever nothing but the agreement was missing."""
    why = why_unbeaten(rule, rejections, 7)

    assert words in why
    assert bool(why) is bool(words)


def test_silence_counts_from_the_night_that_ended_well_last():
    """Whatever their order; failed nights and entries without a time do not count; a slow clock gives 0."""
    nights = [
        NightEntry(run=RUN, version="v", decision=Decision.REJECTED, reason="", at=at and at.isoformat())
        for at in (MIDDLE, OLD, None)
    ]

    assert seconds_since_the_last(nights, NEW) == 86400
    assert seconds_since_the_last(nights, OLD) == 0
    assert seconds_since_the_last(nights[2:], NEW) is None
    failed = nights[0].model_copy(update={"decision": Decision.FAILED})
    assert seconds_since_the_last([failed, nights[1]], NEW) == 2 * 86400
    assert seconds_since_the_last([failed], NEW) == 86400
    assert seconds_since_the_last([], NEW) is None


@pytest.mark.parametrize(
    ("age_days", "repost_days", "due"),
    [(None, 30, False), (29.9, 30, False), (30, 30, True), (400, 30, True), (400, 0, False), (0, 0, False)],
)
def test_when_a_champion_is_submitted_again(age_days, repost_days, due):
    """After the set number of days since it was submitted last; never if that is 0, or the age is unknown."""
    age_s = None if age_days is None else age_days * 86400

    assert is_due_again(age_s, repost_days) is due
