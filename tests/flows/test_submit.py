"""The flow `submit`: a version without the gate, at most once per content."""

from datetime import datetime

import pytest

from flows import lease
from flows.kaggle.client import Client
from flows.kaggle.errors import SubmissionUnknownError
from flows.kaggle.submissions import submission_token
from flows.records import Status, Submission
from flows.run import Workspace
from flows.settings import SettingsError
from flows.store.base import StoreError
from flows.store.folder import Folder
from flows.submit import reconcile, submit

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


def test_a_score_is_waited_for_no_longer_than_the_cap_allows(job, monkeypatch):
    """A wait longer than the run may take does not end a good submission as overdue: it is pending."""
    started = job()
    for name, value in (("SCORE_WAIT_S", "7200"), ("SUBMIT_CAP_S", "60")):
        monkeypatch.setenv(f"MNIST_{name}", value)
    monkeypatch.setattr("flows.submit.LAST_LOOK_S", 59.5)
    started.server.fault("score-never")

    result = submit(started.publish())

    assert (result.submission.status, result.submission.posted) == ("PENDING", True)


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


@pytest.fixture
def fail_to_record(monkeypatch):
    """Let the store fail to record the next submissions: `fail_to_record(times)`."""
    put, left = Folder.put, [0]

    def put_or_fail(store, key, data):
        if "/contents/" in key and left[0]:
            left[0] -= 1
            raise StoreError(f"{key}: the store is down", retryable=True)
        return put(store, key, data)

    monkeypatch.setattr(Folder, "put", put_or_fail)
    monkeypatch.setattr("flows.submit.POLL_S", 0.01)
    return lambda times: left.__setitem__(0, times)


def test_a_submission_is_recorded_though_the_store_fails_for_a_while(job, fail_to_record, caplog):
    """Its number was answered once, and the list may be late: it is kept, and logged at once."""
    started = job()
    version = started.publish()
    started.server.fault("late-list", seconds=60)
    fail_to_record(5)

    result = submit(version)

    assert result.submission.posted
    assert started.registry.submission(version).ref == result.submission.ref
    assert f"submission {result.submission.ref} of {version} was made, but not recorded" in caplog.text
    assert lease.current(started.registry)[1].state == "closed"


def test_a_submission_that_cannot_be_recorded_is_found_on_the_list_by_the_next_run(
    job, fail_to_record, monkeypatch
):
    """When the lease is over the run fails, and the lease stays `sent`: nothing is posted again."""
    monkeypatch.setattr("flows.lease.LEASE_S", 1.5)
    started = job()
    version = started.publish()
    fail_to_record(10_000)
    with pytest.raises(StoreError, match="the store is down"):
        submit(version)
    assert lease.current(started.registry)[1].state == "sent"
    fail_to_record(0)

    assert not submit(version).submission.posted
    assert len(started.server.submissions()) == 1


def test_another_content_of_the_same_version_does_not_settle_a_lost_answer(job, monkeypatch):
    """A version may have been predicted again: what counts is the content that was sent."""
    monkeypatch.setattr("flows.lease.LEASE_S", 1.0)
    started = job()
    version, registry = started.publish(), started.registry
    registry.put_submission(version, "mnist-nightly:old", 1, "of the version's earlier predictions")
    lease.acquire(registry, version, "mnist-nightly:new").renew()
    competition = started.competition
    workspace = Workspace(
        settings=started.settings, competition=competition, data=competition.download(), registry=registry
    )

    reconcile(workspace)

    closed = lease.current(registry)[1]
    assert (closed.state, closed.posted) == ("closed", False)


def test_another_run_looks_for_a_lost_answer_no_further_than_its_lease_says(job, monkeypatch):
    """The lease keeps what was newest before the request: each look asks for one page of a long list."""
    monkeypatch.setattr("flows.lease.LEASE_S", 1.0)
    started = job(daily_limit=1000)
    refs = [started.server.submit(b"", f"older {i}").json()["ref"] for i in range(7)]
    lease.acquire(started.registry, "a version", "mnist-nightly:lost").renew(refs[-1])
    competition = started.competition
    workspace = Workspace(
        settings=started.settings,
        competition=competition,
        data=competition.download(),
        registry=started.registry,
    )
    monkeypatch.setattr("flows.kaggle.client.PAGE_SIZE", 2)
    asked, page = [], Client.submission_page
    monkeypatch.setattr(
        Client, "submission_page", lambda client, token: asked.append(token) or page(client, token)
    )

    reconcile(workspace)

    assert set(asked) == {""}


def test_the_list_is_asked_again_when_it_fails_while_a_lost_answer_is_looked_for(job, monkeypatch):
    """The first call of a run waits and tries again like every other one."""
    monkeypatch.setattr("flows.lease.LEASE_S", 1.0)
    started = job()
    monkeypatch.setenv("MNIST_RETRY_WAITS_S", "[0.1]")
    version = started.publish()
    lease.acquire(started.registry, version, "mnist-nightly:lost").renew()
    started.server.fault("web-page", rpc="ListSubmissions")

    assert submit(version).submission.posted


def test_again_posts_the_same_predictions_once_on_each_date(job, monkeypatch):
    """The token has the date: the same day finds it, a later one posts, and the first one stays recorded."""
    started = job()
    version = started.publish()
    first = submit(version)
    days = iter([1, 1, 2])

    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime(2026, 12, next(days), 12, tzinfo=tz)

    monkeypatch.setattr("flows.submit.datetime", Clock)
    results = [submit(version, again=True) for _ in range(3)]

    assert [result.submission.posted for result in results] == [True, False, True]
    assert results[0].reason == "submitted again on request"
    assert results[1].reason == "submitted again already on this date"
    assert results[0].submission.ref == results[1].submission.ref != first.submission.ref
    assert results[2].submission.public_score == first.submission.public_score
    assert started.registry.submission(version).ref == first.submission.ref
    tokens = [entry["description"].split()[0] for entry in started.server.submissions()]
    base = submission_token(started.competition.name, started.registry.predictions(version))
    assert tokens == [f"{base}-2026-12-02", f"{base}-2026-12-01", base]
    assert not submit(version).submission.posted


def test_a_lost_answer_to_a_repeated_submission_is_reconciled(job, monkeypatch):
    """It is found by its own token, not taken for the first submission of the same predictions."""
    started = job()
    version = started.publish()
    submit(version)
    monkeypatch.setattr("flows.kaggle.competition.Competition.look_again_s", (0.1,))
    started.server.fault("late-list", seconds=60)
    started.server.fault("lost-reply")
    with pytest.raises(SubmissionUnknownError):
        submit(version, again=True)
    started.server.clear_faults()

    assert not submit(version, again=True).submission.posted
    assert len(started.server.submissions()) == 2
