"""`status`: how the job stands, read from a real store."""

import os
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from flows import lease
from flows.ops.status import PendingSubmission, newest_counting, status
from flows.ops.versions import prune, rollback, versions
from flows.records import Decision, Submission
from flows.settings import SettingsError
from mnist_core.submission import to_csv

SECOND = "2026-11-24"


def test_before_the_first_night_each_command_names_the_one_to_run_first(history):
    """An empty store is an error with a remedy, of every command alike."""
    for ask in (status, versions, rollback, lambda settings: prune(settings, 1)):
        with pytest.raises(SettingsError, match="flows nightly"):
            ask(history.settings)


def test_status_has_champion_nights_scores_and_pending_submissions(history):
    """The latest night is first; a submission without a score is pending."""
    first = history.promote(ref=1, score=0.99)
    second = history.promote(SECOND, ref=2)

    found = status(history.settings)

    assert found.champion.version == second
    assert found.champion.public_score is None
    assert found.champion.since.startswith("20")
    assert [(night.night, night.decision) for night in found.nights] == [
        (SECOND, Decision.PROMOTED),
        ("2026-11-23", Decision.PROMOTED),
    ]
    assert (found.nights[1].version, found.nights[1].public_score) == (first, 0.99)
    assert found.pending == [PendingSubmission(version=second, ref=2)]
    assert (found.unknown, found.submitting) == (None, None)


def test_status_tells_a_submission_that_is_under_way_from_one_that_is_unknown(history, monkeypatch):
    """While the lease lasts a run submits; once it has expired after `sent`, nobody knows what arrived."""
    history.promote()
    held = lease.acquire(history.registry, "2026-11-24-convnet-ffffffff", "token")

    assert status(history.settings).submitting == "2026-11-24-convnet-ffffffff"

    held.renew()
    assert status(history.settings).submitting == "2026-11-24-convnet-ffffffff"
    monkeypatch.setattr("flows.lease.LEASE_S", 0.0)
    found = status(history.settings)
    assert (found.unknown, found.submitting) == ("2026-11-24-convnet-ffffffff", None)


def test_status_works_while_the_competition_is_down(history):
    """Everything but the quota is in the store; the error of the quota is shown in its place."""
    history.promote()

    found = status(history.settings)

    assert found.quota is None
    assert "the server is up" in found.quota_error


def test_status_has_the_quota(job):
    """The competition is asked how many submissions are left today."""
    started = job(daily_limit=7, competition="digits-mini")
    started.publish()

    found = status(started.settings)

    assert (found.quota, found.quota_error) == (7, None)


def test_the_namespace_is_the_one_written_to_last(history):
    """If the competition's data changed, the commands are about the namespace of the latest run."""
    history.promote()
    registry = history.registry
    other = f"{registry.namespace.rpartition('/')[0]}/0000000000000000"
    registry.store.put(f"{other}/champions/000001.json", b"{}")
    os.utime(registry.store.root / other / "champions" / "000001.json", (1, 1))
    registry.store.put(f"{registry.namespace.rpartition('/')[0]}/.DS_Store", b"another program's")

    assert versions(history.settings).namespace == registry.namespace


@pytest.mark.parametrize(("days", "warns"), [(0, False), (49, False), (50, True), (70, True)])
def test_a_submission_that_kaggle_will_forget_is_a_warning(days, warns):
    """From 50 days on the remedy says how to submit again; Kaggle counts two months."""
    posted = (datetime.now(UTC) - timedelta(days=days, hours=1)).replace(tzinfo=None)
    newest = Submission(ref=7, message="", status="COMPLETE", public_score=0.99, at=posted.isoformat())

    found = newest_counting(SimpleNamespace(newest_counting=lambda: newest))

    assert (found.ref, found.public_score, found.days) == (7, 0.99, days)
    assert bool(found.remedy) is warns
    assert not warns or "submit --again" in found.remedy


def test_status_has_the_newest_submission_that_counts(job):
    """One without a score, or refused, does not count."""
    started = job()
    started.publish()
    good = started.server.submit(to_csv([3] * started.server.spec.test_rows, started.server.spec))
    started.server.scored(good.json()["ref"])
    started.server.scored(started.server.submit(b"ImageId,Label\n").json()["ref"])

    found = status(started.settings).counting

    assert (found.ref, found.days, found.remedy) == (good.json()["ref"], 0, None)
