"""A public score far below an earlier champion's: the alarm, whenever the score comes."""

import numpy as np
import pytest

from flows.nightly import AlarmError, nightly
from flows.records import Demotion
from flows.submit import submit
from mnist_core.submission import to_csv

NIGHT = "2026-11-23"
WRONG = 100
"""Of 500 test rows: more than enough for an alarm."""
pytestmark = pytest.mark.usefixtures("prefect_api")


@pytest.fixture(autouse=True)
def lenient_gate(job, monkeypatch):
    """Let versions pass the gate that differ on many rows from the champion."""
    monkeypatch.setenv("MNIST_AGREEMENT", "0.5")
    monkeypatch.setenv("MNIST_SHARE_MIN", "0")


def publish_bad(started, night, like):
    """Publish a night's version whose predictions for the test file are far worse than another one's."""
    version = started.publish(night=night)
    started.change_predictions(version, like, rows=WRONG)
    return version


def test_a_score_far_below_the_champions_demotes_the_version(any_job):
    """The alarm fails the night each time it is run; the old champion is back, and the next night runs."""
    started = any_job()
    started.publish()
    good = nightly(NIGHT)
    bad = publish_bad(started, "2026-11-24", good.version)

    for posted in (True, False):
        with pytest.raises(AlarmError, match=f"alarm: practice score .* of {bad} .*{WRONG} rows") as caught:
            nightly("2026-11-24")
        assert caught.value.result.decision == "failed"
        assert caught.value.result.submission.posted is posted
        assert caught.value.result.champion.version == good.version
        assert not caught.value.retryable

    champions = started.registry.champions()
    assert [entry.version for entry in champions] == [good.version, bad, good.version]
    assert (champions[2].demoted, champions[2].cause) == (bad, Demotion.ALARM)
    assert len(started.server.submissions()) == 2
    started.publish(night="2026-11-25")
    assert nightly("2026-11-25").decision == "promoted"


def test_a_score_that_comes_late_demotes_in_the_next_night(job, monkeypatch):
    """The next night reads the score, demotes the version, and does its own work before it fails."""
    started = job(score_seconds=2.0)
    started.publish()
    good = nightly(NIGHT).version
    bad = publish_bad(started, "2026-11-24", good)
    monkeypatch.setenv("MNIST_SCORE_WAIT_S", "0")
    started.server.scored(nightly("2026-11-24").submission.ref)

    next_one = started.publish(night="2026-11-25")
    with pytest.raises(AlarmError) as caught:
        nightly("2026-11-25")
    assert caught.value.result.decision == "promoted"
    assert nightly("2026-11-25").decision == "promoted"

    assert [entry.version for entry in started.registry.champions()] == [good, bad, good, next_one]
    with pytest.raises(AlarmError):
        nightly("2026-11-24")


def test_a_score_a_little_lower_is_not_an_alarm(job):
    """A champion that lost a few rows of those on which the two differ stays champion."""
    started = job()
    started.publish()
    good = nightly(NIGHT).version
    other = started.publish(night="2026-11-24")
    started.change_predictions(other, good, rows=5)

    assert nightly("2026-11-24").decision == "promoted"
    assert started.registry.champion() == (2, other)


def test_a_deferred_champion_with_a_low_score_is_an_alarm_of_the_night_that_posts_it(job):
    """The champion before is back, the night ends with the alarm, and so does the same night again."""
    started = job()
    started.publish()
    good = nightly(NIGHT).version
    started.restart_server(daily_limit=0)
    bad = publish_bad(started, "2026-11-24", good)
    assert nightly("2026-11-24").decision == "deferred"
    started.restart_server(daily_limit=10)
    started.publish(night="2026-11-25", errors=60)

    for _ in range(2):
        with pytest.raises(AlarmError, match=f"of {bad} is more than"):
            nightly("2026-11-25")

    assert [entry.version for entry in started.registry.champions()] == [good, bad, good]
    assert len(started.server.submissions()) == 2


def test_an_alarm_is_reported_again_with_force_too(job):
    """`--force` bypasses the gate, and does not promote again what the alarm demoted."""
    started = job()
    started.publish()
    good = nightly(NIGHT).version
    publish_bad(started, "2026-11-24", good)

    for force in (False, True):
        with pytest.raises(AlarmError):
            nightly("2026-11-24", force=force)

    assert started.registry.champion()[1] == good


def test_a_low_score_of_an_earlier_champion_is_reported_and_no_rollback_goes_back_to_it(job, monkeypatch):
    """If it comes when a later version is champion, that one stays, and the bad one is passed over."""
    started = job(score_seconds=2.0)
    started.publish()
    good = nightly(NIGHT).version
    bad = publish_bad(started, "2026-11-24", good)
    monkeypatch.setenv("MNIST_SCORE_WAIT_S", "0")
    ref = nightly("2026-11-24").submission.ref
    later = started.publish(night="2026-11-25")
    assert started.registry.promote(later, 2, "while the score was not out")
    started.server.scored(ref)

    with pytest.raises(AlarmError, match=f"of {bad}"):
        nightly("2026-11-25")

    registry = started.registry
    assert registry.champion()[1] == later
    assert registry.demotion(bad).cause is Demotion.ALARM
    assert registry.fallback() == good


def test_a_first_champion_far_below_its_held_out_accuracy_is_demoted(any_job):
    """There is nobody to go back to: the namespace has no champion, and the next night is not locked out."""
    started = any_job()
    bad = started.publish()
    labels = np.arange(started.registry.spec.test_rows) % started.registry.spec.class_count
    started.registry.put_predictions(bad, to_csv(labels, started.registry.spec))

    with pytest.raises(AlarmError, match=f"of {bad} is more than .* held-out rows") as caught:
        nightly(NIGHT)

    assert caught.value.result.decision == "failed"
    assert caught.value.result.champion is None
    assert started.registry.champion() == (2, None)
    good = started.publish(night="2026-11-24")
    assert nightly("2026-11-24").decision == "promoted"
    assert started.registry.champion() == (3, good)
    assert started.registry.fallback() is None


def test_a_score_that_submit_read_is_compared_by_the_next_night_unless_it_is_dry(job):
    """The version is not champion any more; a dry run warns, demotes nothing and ends well."""
    started = job()
    good = started.publish()
    nightly(NIGHT)
    bad, later = publish_bad(started, "2026-11-24", good), started.publish(night="2026-11-25")
    for number, version in enumerate((bad, later), 1):
        assert started.registry.promote(version, number, "while no score was known")
    submit(bad)

    assert nightly("2026-11-25", dry_run=True).decision == "dry-run"
    assert started.registry.champion() == (3, later)
    with pytest.raises(AlarmError, match=f"of {bad}"):
        nightly("2026-11-25")

    assert started.registry.demotion(bad).cause is Demotion.ALARM
    assert started.registry.champion() == (4, later)
