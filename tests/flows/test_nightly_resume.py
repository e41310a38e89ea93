"""A night that is run again: it resumes, reuses what is finished, and gives the first result."""

import pytest

from flows.nightly import nightly
from flows.prune import prune

NIGHT = "2026-11-23"
pytestmark = pytest.mark.usefixtures("prefect_api")


def test_a_finished_night_run_again_does_nothing_and_returns_the_first_result(any_job):
    """The same night again reuses everything, posts nothing, and gives its first decision."""
    started = any_job()
    started.publish()
    first = nightly(NIGHT)

    again = nightly(NIGHT)

    assert first.submission.posted
    assert not again.submission.posted
    for name in ("decision", "version", "reason", "champion", "seconds"):
        assert getattr(again, name) == getattr(first, name)
    assert again.submission.public_score == first.submission.public_score
    assert len(started.server.submissions()) == 1


def test_a_resumed_old_night_leaves_the_newer_champion(job):
    """A deferred night finished after a newer one posts its predictions, and the newer champion stays."""
    started = job()
    old = started.publish()
    registry = started.registry
    assert registry.promote(old, 0, "deferred: no submission was left")
    new = started.publish(night="2026-11-24")
    assert registry.promote(new, 1, "a later night")

    result = nightly(NIGHT)

    assert result.submission.posted
    assert registry.champion() == (2, new)


def test_a_night_whose_version_was_pruned_still_returns_its_result(job):
    """How a night ended is kept in its own entry, and a finished night is not trained again."""
    started = job()
    started.publish()
    first = nightly(NIGHT)
    other = started.publish(night="2026-11-24")
    started.change_predictions(other, first.version, rows=2)
    nightly("2026-11-24")
    assert prune(started.registry, 1, keep_champions=1, min_age_s=0.0).versions == 1

    again = nightly(NIGHT)

    assert again.champion.version == other
    for name in ("night", "model", "version", "valid_accuracy", "decision", "reason", "seconds"):
        assert getattr(again, name) == getattr(first, name)
    assert again.submission.public_score == first.submission.public_score
