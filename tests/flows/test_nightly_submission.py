"""Nights and the competition's server: quota, refusals, lost answers, late scores, other runs."""

import logging
import os
import threading
import time

import pytest

from flows import lease
from flows.kaggle.errors import SubmissionRefusedError, SubmissionUnknownError
from flows.nightly import nightly
from mnist_core.submission import SubmissionError

NIGHT = "2026-11-23"
pytestmark = pytest.mark.usefixtures("prefect_api")


@pytest.fixture
def look_again_once(monkeypatch):
    """After a lost answer the server's list is asked once again, soon."""
    monkeypatch.setattr("flows.kaggle.competition.Competition.look_again_s", (0.1,))


def test_without_quota_the_night_is_deferred_and_keeps_its_version(any_job):
    """Quota 0 is not an error: nothing is posted, the version is champion, and the same night posts later."""
    started = any_job(daily_limit=0)
    version = started.publish()

    result = nightly(NIGHT)

    assert result.decision == "deferred"
    assert "00:00 UTC" in result.reason
    assert result.submission is None
    assert started.registry.champion() == (1, version)
    assert started.server.submissions() == []

    started.restart_server(daily_limit=1)
    later = nightly(NIGHT)
    assert later.decision == "promoted"
    assert later.submission.posted
    assert started.registry.champion() == (1, version)
    assert len(started.server.submissions()) == 1


def test_a_deferred_champion_is_posted_by_a_night_that_is_rejected(job):
    """Of deferred versions the champion has its turn when tonight's is rejected; older ones have none."""
    started = job(daily_limit=0)
    started.publish()
    older = nightly(NIGHT).version
    champion = started.publish(night="2026-11-24")
    started.change_predictions(champion, older, rows=2)
    assert nightly("2026-11-24").decision == "deferred"
    started.publish(night="2026-11-25", errors=60)
    assert nightly("2026-11-25").decision == "rejected"
    assert started.server.submissions() == []
    started.restart_server(daily_limit=10)
    started.publish(night="2026-11-26", errors=60)

    result = nightly("2026-11-26")

    assert (result.decision, result.submission) == ("rejected", None)
    assert result.reason.endswith(f"champion {champion}, deferred until now, was submitted")
    assert result.champion.version == champion
    assert result.champion.public_score > 0.5
    [listed] = started.server.submissions()
    assert listed["description"].endswith(champion)
    again = nightly("2026-11-26")
    assert (again.decision, again.reason) == (result.decision, result.reason)
    assert len(started.server.submissions()) == 1


def test_a_submission_that_ends_as_error_fails_the_night_and_is_not_repeated(job):
    """The server's description is the night's error; the same night again repeats it and posts nothing."""
    started = job()
    started.publish()
    started.server.fault("score-error")

    for _ in range(2):
        with pytest.raises(SubmissionRefusedError, match=r"ended as ERROR.*not posted again") as caught:
            nightly(NIGHT)
        assert caught.value.submission.status == "ERROR"

    assert len(started.server.submissions()) == 1


def test_a_score_that_is_not_out_is_pending_and_read_by_the_next_run(job, monkeypatch):
    """The night does not wait longer than it may; the next run of any night reads the score."""
    started = job(score_seconds=2.0)
    monkeypatch.setenv("MNIST_SCORE_WAIT_S", "0")
    started.publish()

    first = nightly(NIGHT)
    assert first.decision == "promoted"
    assert (first.submission.status, first.submission.public_score) == ("PENDING", None)

    started.server.scored(first.submission.ref)
    again = nightly(NIGHT)
    assert again.submission.status == "COMPLETE"
    assert again.champion.public_score == again.submission.public_score > 0.5


def test_a_champion_that_nobody_beats_is_submitted_again_after_the_set_days(job, monkeypatch):
    """With MNIST_REPOST_DAYS a rejected night posts the champion once more, and the next one does not."""
    started = job()
    monkeypatch.setenv("MNIST_REPOST_DAYS", "30")
    champion = started.publish()
    assert nightly(NIGHT).submission.posted
    for night in ("2026-11-24", "2026-11-25", "2026-11-26"):
        started.publish(night=night, errors=60)
    assert nightly("2026-11-24").decision == "rejected"
    assert len(started.server.submissions()) == 1
    [record] = started.registry.store.root.glob(f"*/*/*/submissions/{champion}.json")
    os.utime(record, (1, 1))

    result = nightly("2026-11-25")

    assert (result.decision, result.champion.version) == ("rejected", champion)
    assert result.reason.endswith(f"champion {champion} was submitted again")
    assert len(started.server.submissions()) == 2
    assert "again" not in nightly("2026-11-26").reason
    assert len(started.server.submissions()) == 2


def test_a_score_that_cannot_be_read_is_pending(job, monkeypatch):
    """A server that fails after the post does not fail the night: the next run reads the score."""
    started = job()
    monkeypatch.setenv("MNIST_SCORE_WAIT_S", "0.1")
    started.publish()
    started.server.fault("web-page", count=-1, rpc="GetSubmission")

    result = nightly(NIGHT)

    assert result.decision == "promoted"
    assert result.submission.status == "PENDING"
    started.server.clear_faults()
    assert nightly(NIGHT).submission.status == "COMPLETE"


def test_a_submission_that_the_server_forgot_does_not_stop_the_nights(job):
    """A pending score that cannot be read is a warning each night, not a failure."""
    started = job()
    version = started.publish()
    started.registry.put_submission("2026-11-01-convnet-00000000", "token", 1, "forgotten")

    assert nightly(NIGHT).decision == "promoted"
    assert [made.version for made in started.registry.unscored()] == ["2026-11-01-convnet-00000000"]
    assert started.registry.score(version).public_score > 0.5


def test_an_answer_that_stays_lost_fails_the_night_and_the_next_run_reconciles(
    any_job, look_again_once, monkeypatch
):
    """A lost reply and a late list end as unknown; run again, the night finds its one submission."""
    started = any_job()
    started.publish()
    started.server.fault("late-list", seconds=60)
    started.server.fault("lost-reply")

    monkeypatch.setenv("MNIST_RETRY_WAITS_S", "[0.1, 0.1]")  # a retried task would post again
    with pytest.raises(SubmissionUnknownError) as caught:
        nightly(NIGHT)
    assert caught.value.submission.status == "UNKNOWN"

    started.server.clear_faults()
    result = nightly(NIGHT)
    assert result.decision == "promoted"
    assert not result.submission.posted
    assert len(started.server.submissions()) == 1


def test_a_night_that_was_not_answered_is_reconciled_by_any_next_night(job, look_again_once):
    """The next night, another one, first finds the lost submission on the list, and reads its score."""
    started = job()
    version = started.publish()
    started.server.fault("late-list", seconds=60)
    started.server.fault("lost-reply")
    with pytest.raises(SubmissionUnknownError):
        nightly(NIGHT)
    registry = started.registry
    assert lease.current(registry)[1].state == "sent"
    assert registry.submission(version) is None
    assert registry.nights()[-1].decision == "failed"
    other = started.publish(night="2026-11-24")
    started.change_predictions(other, version, rows=2)
    started.server.clear_faults()

    assert nightly("2026-11-24").decision == "promoted"

    assert registry.submission(version) is not None
    assert registry.score(version).public_score > 0.5
    assert {entry["description"].split()[-1] for entry in started.server.submissions()} == {version, other}
    assert lease.current(registry)[1].state == "closed"


def test_what_the_list_does_not_have_when_its_lease_has_expired_was_not_posted(
    job, look_again_once, monkeypatch
):
    """A request that never arrived is unknown first; the same night again finds that out, and posts."""
    monkeypatch.setattr("flows.lease.LEASE_S", 2.0)
    started = job()
    started.publish()
    started.server.fault("reset", rpc="CreateSubmission")
    with pytest.raises(SubmissionUnknownError):
        nightly(NIGHT)

    result = nightly(NIGHT)

    assert result.submission.posted
    assert len(started.server.submissions()) == 1


def test_a_night_waits_while_another_run_submits(job, caplog):
    """Another run's lease is not a failure: the night waits until it is released, logs it, and submits."""
    started = job()
    started.publish()
    other = lease.acquire(started.registry, "another", "its token")
    caplog.set_level(logging.INFO, "mnist")

    def release_once_it_waits():
        while "waiting for another run" not in caplog.text:
            time.sleep(0.1)
        posted_before.append(len(started.server.submissions()))
        other.release()

    posted_before: list[int] = []
    threading.Thread(target=release_once_it_waits, daemon=True).start()
    result = nightly(NIGHT)

    assert result.submission.posted
    assert posted_before == [0]


def test_a_rate_limit_on_the_post_is_not_an_unknown_submission(job, monkeypatch):
    """A 429 says that nothing was done: the post is tried again in the same night."""
    started = job()
    started.publish()
    monkeypatch.setenv("MNIST_RETRY_WAITS_S", "[0.1]")
    started.server.fault("rate-limit", rpc="CreateSubmission")

    assert nightly(NIGHT).submission.posted
    assert len(started.server.submissions()) == 1


def test_predictions_that_are_not_a_submission_are_not_posted(job):
    """The format is checked before anything is sent, whoever made the file."""
    started = job()
    version, spec = started.publish(), started.server.spec
    started.registry.put_predictions(version, f"{','.join(spec.submission_header)}\n1,10\n".encode())

    with pytest.raises(SubmissionError, match="line 2, column Label"):
        nightly(NIGHT, force=True)

    assert started.server.submissions() == []
