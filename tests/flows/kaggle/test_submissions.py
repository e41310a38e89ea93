"""Once only: whatever the server answers or fails to answer, a content is submitted at most once."""

import itertools
from types import SimpleNamespace

import pytest

from flows.caps import OverdueError
from flows.kaggle.client import Client
from flows.kaggle.errors import CompetitionError, QuotaSpentError, SubmissionUnknownError
from flows.kaggle.submissions import find, newest_counting, submission_token
from flows.records import Status, Submission
from mnist_core.errors import MnistError


class LeaseLostError(MnistError):
    """Another run has taken the lease."""


class Recorded:
    """A turn that records its calls, and is lost at one of them."""

    def __init__(self, calls, lost_at=None, error=None):
        self.calls = calls
        self.newest = []
        self.lost_at = lost_at
        self.error = error or LeaseLostError("another run has it")

    def __getattr__(self, name):
        def call(*newest):
            self.calls.append(name)
            self.newest.extend(newest)
            if (name, self.calls.count(name)) == self.lost_at:
                raise self.error

        return call


def test_a_submission_is_posted_once(job, write_csv):
    """The same content posted twice is one submission, found again on the server's list."""
    started = job()
    competition = started.competition
    csv = write_csv(competition.spec)

    first = competition.submit_once(csv, "2026-11-23-convnet-0123abcd")
    second = competition.submit_once(csv, "another title")

    assert first.posted
    assert not second.posted
    assert second.ref == first.ref
    assert len(started.server.submissions()) == 1
    scored = competition.wait_for_score(first.ref, 20)
    assert scored.status is Status.COMPLETE
    assert scored.public_score == pytest.approx(0.1, abs=0.05)


def test_an_old_submission_is_found_on_a_later_page(job, write_csv):
    """The whole list is searched: a match behind more than a page of other submissions is found."""
    started = job(daily_limit=1000)
    csv = write_csv(started.competition.spec)
    first = started.competition.submit_once(csv, "first")
    for i in range(105):
        started.server.submit(b"ImageId,Label\n", f"other {i}")

    again = started.competition.submit_once(csv, "again")

    assert again.ref == first.ref
    assert not again.posted


def test_the_token_depends_on_competition_and_content():
    """The same rows are another submission in another competition, and so are other rows in the same one."""
    tokens = {submission_token(name, csv) for name in ("a", "b") for csv in (b"1", b"2")}

    assert len(tokens) == 4
    assert all(token.startswith("mnist-nightly:") and len(token) == 38 for token in tokens)


def test_a_lost_answer_is_reconciled_by_looking_again(job, write_csv):
    """A submission that was stored while its answer was lost is found, not posted a second time."""
    started = job()
    started.server.fault("lost-reply")

    made = started.competition.submit_once(write_csv(started.competition.spec), "lost")

    assert made.posted
    assert [s["ref"] for s in started.server.submissions()] == [made.ref]


def test_a_lost_answer_that_stays_unclear_is_unknown_and_not_repeated(job, write_csv):
    """If the list does not show the submission either, nothing is posted again and the error says so."""
    started = job()
    competition = started.competition
    competition.look_again_s = (0.1, 0.1)
    csv = write_csv(competition.spec)
    started.server.fault("late-list", seconds=60)
    started.server.fault("lost-reply")

    with pytest.raises(SubmissionUnknownError, match="looks for the submission before it posts") as caught:
        competition.submit_once(csv, "late")

    assert caught.value.retryable
    assert caught.value.submission.status is Status.UNKNOWN
    started.server.clear_faults()
    assert not competition.submit_once(csv, "again").posted
    assert len(started.server.submissions()) == 1


@pytest.mark.parametrize("code", [302, 307, 308])
def test_a_redirect_of_the_post_is_not_followed(job, write_csv, code):
    """Following it would send the request again, by rules that repeat it: it is an unclear answer instead."""
    started = job()
    competition = started.competition
    competition.look_again_s = (0.0,)
    started.server.fault("redirect", code=code)

    with pytest.raises(SubmissionUnknownError, match=f"HTTP {code}"):
        competition.submit_once(write_csv(competition.spec), "moved")

    assert started.server.submissions() == []


def test_a_description_that_the_server_cuts_still_has_the_token(job, write_csv):
    """The token stands first, and a submission is found by it wherever it stands in the description."""
    started = job()
    csv = write_csv(started.competition.spec)
    token = submission_token(started.competition.name, csv.read_bytes())
    started.server.fault("cut-description", length=60)

    made = started.competition.submit_once(csv, "a title " * 20)

    [listed] = started.server.submissions()
    assert listed["description"].startswith(token)
    assert len(listed["description"]) == 60
    assert started.competition.submit_once(csv, "again").ref == made.ref
    edited = started.server.submit(b"ImageId,Label\n", f"edited by hand: {token[:-1]}x and more").json()[
        "ref"
    ]
    assert started.competition.find(f"{token[:-1]}x").ref == edited


def test_nothing_is_submitted_beside_a_list_that_repeats_its_pages(job, write_csv):
    """What such a list does not have may be on a page that was not given: the search ends by an error."""
    started = job()
    started.server.submit(b"ImageId,Label\n", "another one")
    started.server.fault("same-page", count=-1)

    for call in (
        lambda: started.competition.submit_once(write_csv(started.competition.spec), "twice"),
        lambda: started.competition.find("mnist-nightly:absent"),
    ):
        with pytest.raises(CompetitionError, match="repeats itself or does not end") as caught:
            call()
        assert caught.value.retryable
    started.server.clear_faults()
    assert len(started.server.submissions()) == 1


@pytest.fixture
def pages():
    """A client whose list has given pages of numbers and tokens: `pages(page, …)`; the last one repeats."""

    def make(*listed):
        rest = itertools.chain(listed, itertools.repeat(listed[-1]))

        def page(_token):
            refs, token = next(rest)
            entries = [
                Submission(ref=ref, message=f"m{ref}", status=Status.COMPLETE, public_score=0.9)
                for ref in refs
            ]
            return entries, token() if callable(token) else token

        return SimpleNamespace(submission_page=page, server="a test", competition="digits")

    return make


@pytest.mark.parametrize("refs", [[1, 2], []])
def test_a_list_whose_page_tokens_never_end_is_an_error(pages, monkeypatch, refs):
    """New tokens with submissions that were listed before, or with none, do not go on without end either."""
    monkeypatch.setattr("flows.kaggle.submissions.MOST_PAGES", 20)
    tokens = itertools.count()
    client = pages((refs, lambda: f"t{next(tokens)}"))

    with pytest.raises(CompetitionError, match="repeats itself or does not end"):
        find(client, "absent")
    if refs:
        assert newest_counting(client).ref == 1


def test_an_empty_page_is_not_the_end_of_the_list(pages):
    """A submission is found behind a page on which nothing stands but the token of the next one."""
    assert find(pages(([], "t1"), ([], "t2"), ([7], "")), "m7").ref == 7


def test_a_status_that_is_not_known_leaves_the_list_readable(job, write_csv):
    """One entry with a status of tomorrow does not hide the others, nor itself."""
    started = job()
    csv = write_csv(started.competition.spec)
    made = started.competition.submit_once(csv, "first")
    started.server.fault("new-status")

    assert started.competition.submit_once(csv, "again").ref == made.ref


def test_a_lost_answer_is_not_looked_for_among_older_submissions(job, write_csv, monkeypatch):
    """What was posted is listed before those that were listed before: each look asks for one page."""
    started = job(daily_limit=1000)
    monkeypatch.setattr("flows.kaggle.client.PAGE_SIZE", 2)
    for i in range(5):
        started.server.submit(b"ImageId,Label\n", f"older {i}")
    competition = started.competition
    competition.look_again_s = (0.0, 0.0)
    started.server.fault("late-list", seconds=60)
    started.server.fault("lost-reply")
    calls = []
    _record(monkeypatch, "submission_page", calls)

    with pytest.raises(SubmissionUnknownError):
        competition.submit_once(write_csv(competition.spec), "late")

    assert len(calls) == 3 + 2  # the whole list before posting, then the first page for each look


def test_an_answer_without_a_number_is_reconciled_too(job, write_csv, monkeypatch):
    """An answer that does not name the submission leaves open whether it exists: the list is asked."""
    started = job()
    competition = started.competition
    create = Client.create_submission

    def unnamed(client, upload, message, check):
        create(client, upload, message, check)
        raise CompetitionError("an answer without a number", retryable=True)

    monkeypatch.setattr(Client, "create_submission", unnamed)

    made = competition.submit_once(write_csv(competition.spec), "unnamed")

    assert [s["ref"] for s in started.server.submissions()] == [made.ref]


def test_a_fault_before_the_post_is_not_an_unknown_submission(job, write_csv):
    """A fault of the upload's start cannot have created anything, and is reported as what it is."""
    started = job()
    csv = write_csv(started.competition.spec)
    started.server.fault("web-page", rpc="StartSubmissionUpload")

    with pytest.raises(CompetitionError, match="cannot start an upload") as caught:
        started.competition.submit_once(csv, "never sent")

    assert not isinstance(caught.value, SubmissionUnknownError)
    assert started.competition.submit_once(csv, "sent").posted


def test_a_refused_post_is_not_looked_for(job, write_csv, monkeypatch):
    """A server that refuses the request has created nothing: the error arrives at once, as a refusal."""
    started = job()
    started.server.fault("rules", rpc="CreateSubmission")
    csv = write_csv(started.competition.spec)

    with monkeypatch.context() as patch:
        patch.setattr("time.sleep", lambda _s: pytest.fail("it waited for the list"))
        with pytest.raises(CompetitionError, match="HTTP 403") as caught:
            started.competition.submit_once(csv, "refused")

    assert caught.value.answered
    assert started.server.submissions() == []


def test_the_lease_is_renewed_right_before_the_post(job, write_csv, monkeypatch):
    """The lease is renewed after the upload, and nothing is sent between it and the request that creates.

    It is kept while the list is read, and looked at once more when the connection is ready.
    """
    started = job()
    competition = started.competition
    started.server.submit(b"", "another")
    calls = []
    for name in ("upload", "create_submission", "quota", "submission_page"):
        _record(monkeypatch, name, calls)

    competition.submit_once(write_csv(competition.spec), "in order", Recorded(calls))

    assert calls == ["submission_page", "keep", "quota", "upload", "renew", "create_submission", "check"]


@pytest.mark.parametrize("call", ["keep", "renew", "check"])
def test_a_lost_lease_keeps_the_post_from_being_sent(job, write_csv, call):
    """If the lease is lost, another run may post: this one does not, even if its connection is ready."""
    started = job()
    started.server.submit(b"", "another")

    with pytest.raises(LeaseLostError):
        started.competition.submit_once(
            write_csv(started.competition.spec), "too late", Recorded([], (call, 1))
        )

    assert [made["description"] for made in started.server.submissions()] == ["another"]


def test_the_lease_is_renewed_while_a_lost_answer_is_looked_for(job, write_csv):
    """Looking for a lost answer takes a while: the lease is renewed, and losing it then is not an error."""
    started = job()
    older = started.server.submit(b"", "another").json()["ref"]
    started.server.fault("lost-reply")
    calls = []
    turn = Recorded(calls, ("renew", 2))

    made = started.competition.submit_once(write_csv(started.competition.spec), "lost", turn)

    assert made.posted
    assert calls.count("renew") > 1
    assert set(turn.newest) == {older}  # so that whoever looks for it reads the list no further


def test_an_overdue_run_does_not_look_on_for_a_lost_answer(job, write_csv):
    """The end of the run's time is not taken for a lost lease."""
    started = job()
    started.server.fault("lost-reply")
    turn = Recorded([], ("renew", 2), OverdueError("the night took too long"))

    with pytest.raises(OverdueError):
        started.competition.submit_once(write_csv(started.competition.spec), "lost", turn)


def _record(monkeypatch, name, calls):
    call = getattr(Client, name)

    def recorded(*args, **options):
        calls.append(name)
        return call(*args, **options)

    monkeypatch.setattr(Client, name, recorded)


def test_a_failed_upload_is_tried_again_and_creates_nothing_by_itself(job, write_csv):
    """One failed upload is repeated; uploads that keep failing leave the list empty."""
    started = job()
    spec = started.competition.spec
    started.server.fault("failed-upload")
    assert started.competition.submit_once(write_csv(spec), "second try").posted

    started.server.fault("failed-upload", count=-1)
    with pytest.raises(CompetitionError, match="upload failed") as caught:
        started.competition.submit_once(write_csv(spec, label=4), "never")

    assert caught.value.retryable
    assert len(started.server.submissions()) == 1


def test_a_spent_quota_posts_nothing(job, write_csv):
    """With no submission left today nothing is sent, and the error says when the quota returns."""
    started = job(daily_limit=0)

    with pytest.raises(QuotaSpentError, match="00:00 UTC"):
        started.competition.submit_once(write_csv(started.competition.spec), "too many")

    assert started.server.submissions() == []


def test_a_quota_that_another_run_spends_is_recognised(job, write_csv, monkeypatch):
    """If the last submission goes to somebody else after the quota was read, the refusal says so."""
    started = job(daily_limit=0)
    monkeypatch.setattr(Client, "quota", lambda _client: 1)

    with pytest.raises(QuotaSpentError, match="00:00 UTC") as caught:
        started.competition.submit_once(write_csv(started.competition.spec), "one too many")

    assert caught.value.answered


def test_a_submission_that_ends_as_error_says_why(job, write_csv):
    """The server's description of the fault arrives with the status."""
    competition = job().competition
    csv = write_csv(competition.spec)
    csv.write_bytes(b"ImageId,Label\n1,3\n")

    scored = competition.wait_for_score(competition.submit_once(csv, "short").ref, 20)

    assert scored.status is Status.ERROR
    assert str(competition.spec.test_rows) in scored.error.replace(",", "")
    assert scored.public_score is None


def test_a_score_that_takes_too_long_stays_pending(job, write_csv):
    """When the time is up the submission is returned as it is."""
    competition = job(score_seconds=60).competition
    made = competition.submit_once(write_csv(competition.spec), "slow")

    assert competition.wait_for_score(made.ref, 0.5).status is Status.PENDING


def test_a_server_that_is_down_for_a_moment_does_not_lose_the_score(job, write_csv):
    """A fault that may pass is waited for until the time is up."""
    started = job()
    competition = started.competition
    made = competition.submit_once(write_csv(competition.spec), "patient")
    started.server.fault("web-page", count=2, rpc="GetSubmission")

    assert competition.wait_for_score(made.ref, 20).status is Status.COMPLETE
