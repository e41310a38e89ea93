"""The flow `submit`: a version without the gate, at most once per content."""

import pytest

from flows.records import Status, Submission
from flows.settings import SettingsError
from flows.submit import submit

pytestmark = pytest.mark.usefixtures("prefect_api")


def test_submit_takes_the_champion_or_a_named_version(job):
    """`submit` posts a version without the gate, leaves the champion, and reuses what is there."""
    started = job()
    with pytest.raises(SettingsError, match="no champion"):
        submit()
    version = started.publish()
    with pytest.raises(SettingsError, match="no such version"):
        submit("2026-01-01-convnet-00000000")

    result = submit(version)

    assert result.submission.posted
    assert result.submission.public_score > 0.5
    assert result.champion is None
    again = submit(version)
    assert not again.submission.posted
    assert again.reason == "the competition has these predictions already"


def test_submit_without_quota_posts_nothing(job):
    """The result says when the quota returns; it is not an error."""
    started = job(daily_limit=0)

    result = submit(started.publish())

    assert result.submission is None
    assert "00:00 UTC" in result.reason
    assert started.server.submissions() == []


def test_predictions_that_the_server_has_forgotten_are_not_an_error(job):
    """A submission that is not listed any more is known from the store, with its score; nothing is posted."""
    started = job()
    version = started.publish()
    first = submit(version)
    started.server.fault("forgotten", count=-1)

    again = submit(version)

    assert again.submission == first.submission.model_copy(update={"posted": False})
    assert again.reason == "the competition has these predictions already"


def test_a_submission_that_is_forgotten_before_its_score_is_known_stays_pending(job, monkeypatch):
    """It is neither found by its number nor listed: that is a warning, and the score stays unknown."""
    started = job()
    monkeypatch.setenv("MNIST_SCORE_WAIT_S", "0.3")
    started.server.fault("forgotten", count=-1, rpc="GetSubmission")

    result = submit(started.publish())

    assert (result.submission.status, result.submission.public_score) == ("PENDING", None)


def test_complete_without_a_score_is_pending_until_the_score_is_there(job, monkeypatch):
    """The first score that is read is kept, so an empty one is not a score: the next run asks again."""
    started = job()
    monkeypatch.setenv("MNIST_SCORE_WAIT_S", "0.3")
    version = started.publish()
    started.server.fault("no-score")

    result = submit(version)

    assert (result.submission.status, result.submission.public_score) == ("PENDING", None)
    assert started.registry.score(version) is None
    assert [made.version for made in started.registry.unscored()] == [version]
    ref = result.submission.ref
    scored = Submission(ref=ref, message="", status=Status.COMPLETE, public_score=0.99)
    monkeypatch.setattr("flows.kaggle.client.Client.submission", lambda _client, _ref: scored)
    assert submit(version).submission.public_score == 0.99


def test_a_description_that_lost_its_token_is_a_warning(job, caplog):
    """The description that the server returns is compared once, when the score is read."""
    started = job()
    started.server.fault("cut-description", length=20)

    assert submit(started.publish()).submission.posted

    assert "changed the description" in caplog.text
