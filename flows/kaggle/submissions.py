"""Submissions that are posted at most once: the description carries a token of the content.

The server's whole list is searched for the token before posting, and again after an answer that leaves open
whether the submission was stored.
"""

import hashlib
import logging
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Protocol

from flows.caps import OverdueError
from flows.kaggle.client import Client
from flows.kaggle.errors import CompetitionError, NotFoundError, QuotaSpentError, SubmissionUnknownError
from flows.kaggle.session import quota_returns
from flows.records import Status, Submission, SubmissionResult
from mnist_core.errors import MnistError

log = logging.getLogger("mnist")
MARK = "mnist-nightly:"
"""How the token of every submission of this job begins."""
LOOK_AGAIN_S = (1.0, 2.0, 4.0, 8.0, 15.0)
"""Waits before the list of submissions is asked again after an unclear answer."""
LOST_D, WARN_D = 60, 50
"""Days after which Kaggle no longer counts a submission to a competition of this kind, and when to say so."""
MOST_PAGES = 1000
"""After this many pages the list of submissions is taken for one without end."""
POLL_S, POLL_GROWTH, POLL_MAX_S = 0.25, 1.5, 15.0
"""The first wait between two looks at a score, its growth, and the longest."""


class Turn(Protocol):
    """A run's right to submit, as `submit_once` needs it; each call raises an error if another run has it."""

    def keep(self) -> None:
        """Keep the turn while nothing was sent; called between the entries of a long list."""

    def renew(self, newest: int | None = None) -> None:
        """Renew the turn; called right before the request that posts, and while its answer is looked for.

        Args:
            newest: the submission that was listed first before the request; None if there was none.
        """

    def check(self) -> None:
        """Check that the request may still leave; called when its connection is ready."""


class Alone:
    """The turn of a program that nothing else submits beside."""

    def keep(self) -> None:
        """Do nothing."""

    def renew(self, newest: int | None = None) -> None:
        """Do nothing."""

    def check(self) -> None:
        """Do nothing."""


def submission_token(competition: str, csv: bytes, day: date | None = None) -> str:
    """Return what marks a submission's description: 24 hex digits of sha256 over competition and content.

    Args:
        competition: its name.
        csv: the content.
        day: the UTC date of a submission that repeats an earlier one, which is marked by both.
    """
    digest = hashlib.sha256(competition.encode() + b"\0" + csv).hexdigest()[:24]
    return f"{MARK}{digest}" + (f"-{day.isoformat()}" if day else "")


def team_submissions(client: Client, until: int | None = None) -> Iterator[Submission]:
    """Yield the submissions of the team, page by page, newest first: all, or those down to a given one.

    Args:
        client: of the competition.
        until: the ref of a submission: the page that has it is the last one.

    Raises:
        CompetitionError: the list repeats itself or does not end: what is missing so far may still be on it.
    """
    token, tokens, refs = "", {""}, set[int]()
    for _ in range(MOST_PAGES):
        page, token = client.submission_page(token)
        yield from page
        listed = {submission.ref for submission in page}
        if not token or until in listed:
            return
        if token in tokens or (listed and listed <= refs):  # a page may be empty, and not be the last one
            break
        tokens.add(token)
        refs |= listed
    raise CompetitionError(
        f"{client.server}: the list of submissions of {client.competition} repeats itself or does not end, "
        "so that nobody can tell what it does not have",
        "nothing is submitted until the server lists them completely: try again later",
        retryable=True,
    )


def find(client: Client, token: str, until: int | None = None) -> Submission | None:
    """Return the submission whose description carries a token, or None if the server has none.

    Args:
        client: of the competition.
        token: may stand anywhere in the description.
        until: the ref of a submission that is older than the wanted one: the list is read no further.

    Raises:
        CompetitionError: the server fails, or does not give its whole list.
    """
    return next((s for s in team_submissions(client, until) if token in s.message), None)


def newest_counting(client: Client) -> Submission | None:
    """Return the team's newest submission that has a score, as the server lists it; None if there is none."""
    return next((submission for submission in team_submissions(client) if submission.counts), None)


def age_of(submission: Submission) -> timedelta | None:
    """Return how long ago a submission was posted, by this machine's clock; None if the server does not say.

    It decides nothing: it is for people.
    """
    if not submission.at:
        return None
    posted = datetime.fromisoformat(submission.at)
    posted = posted if posted.tzinfo else posted.replace(tzinfo=UTC)
    return datetime.now(UTC) - posted


def submit_once(
    client: Client,
    csv: Path,
    title: str,
    turn: Turn | None = None,
    look_again_s: Sequence[float] = LOOK_AGAIN_S,
    day: date | None = None,
) -> Submission:
    """Post a submission, or return the one of the same content that the server already has.

    Args:
        csv: the checked submission.csv.
        title: how the description ends, such as the version's name; the token stands before it, where a
            server that cuts descriptions leaves it.
        turn: the right to submit; once it is lost nothing is sent.
        look_again_s: waits before the list is asked again after an unclear answer.
        day: the UTC date, to post what was posted on an earlier day once more.

    Raises:
        QuotaSpentError: today's submissions are used up.
        SubmissionUnknownError: the answer was lost and the list does not show the submission.
        CompetitionError: it was refused, or the upload failed; nothing was created.
    """
    turn = turn or Alone()
    token = submission_token(client.competition, csv.read_bytes(), day)
    newest: int | None = None  # on the list now: what is posted from here on is listed before it
    for listed in team_submissions(client):
        newest = newest or listed.ref
        if token in listed.message:
            return listed
        turn.keep()
    if client.quota() < 1:
        raise QuotaSpentError("no submission is left today", f"the quota returns at {quota_returns()}")
    message = f"{token} {title}"
    upload = client.upload(csv)
    turn.renew(newest)
    try:
        ref = client.create_submission(upload, message, turn.check)
    except CompetitionError as error:
        if error.answered:
            raise
        return _look_again(client, token, newest, error, turn, look_again_s)
    return Submission(ref=ref, message=message, status=Status.PENDING, posted=True)


def _look_again(
    client: Client,
    token: str,
    newest: int | None,
    cause: CompetitionError,
    turn: Turn,
    waits_s: Sequence[float],
) -> Submission:
    """Return the submission whose answer was lost, once the server's list shows it."""
    for wait_s in waits_s:
        time.sleep(wait_s)
        try:
            turn.renew(newest)
        except OverdueError:
            raise
        except MnistError as lost:  # another run may have found it and closed the lease
            log.info("%s", lost)
        try:
            found = find(client, token, newest)
        except CompetitionError:
            continue
        if found is not None:
            return found.model_copy(update={"posted": True})
    raise SubmissionUnknownError(
        f"a submission was sent, its answer was lost ({cause.problem}), and the server does not list it",
        "run the same command again: it looks for the submission before it posts anything",
        retryable=True,
        submission=SubmissionResult(ref=None, status=Status.UNKNOWN, public_score=None, posted=True),
    ) from cause


def wait_for_score(client: Client, ref: int, timeout_s: float) -> Submission:
    """Return a submission once it is scored or refused, or as it is when the time is up.

    Raises:
        NotFoundError: the server does not have it, also when the time is up.
        CompetitionError: the server refuses, or still does not answer when the time is up.
    """
    deadline = time.monotonic() + timeout_s
    wait_s = POLL_S
    while True:
        try:
            submission = client.submission(ref)
        except CompetitionError as error:
            passes = error.retryable or isinstance(error, NotFoundError)  # one that was posted just now
            if not passes or time.monotonic() >= deadline:
                raise
        else:
            if submission.is_final or time.monotonic() >= deadline:
                return submission
        time.sleep(wait_s)
        wait_s = min(wait_s * POLL_GROWTH, POLL_MAX_S)
