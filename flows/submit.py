"""The flow that submits: a version, its predictions, the check, one post, the score. Runs on the CPU pool."""

import logging
import time
from datetime import UTC, date, datetime
from pathlib import Path

from prefect import State, flow, task
from prefect.cache_policies import NO_CACHE

from flows import lease
from flows.caps import capped, left_s
from flows.kaggle.address import described
from flows.kaggle.errors import CompetitionError, NotFoundError, QuotaSpentError, SubmissionRefusedError
from flows.kaggle.submissions import submission_token
from flows.lease import Lease, LeaseLostError
from flows.parameters import SubmitParameters, find_version, takes
from flows.policy.lease import has_expired, must_reconcile
from flows.records import (
    LeaseEntry,
    RunResult,
    Score,
    Status,
    Submission,
    SubmissionResult,
    VersionEntry,
)
from flows.report.ending import end_state
from flows.report.progress import progress
from flows.report.result import read_scorecard, summarise
from flows.report.terminal import show
from flows.run import Workspace, is_child, open_workspace, retries, start_flow
from flows.scratch import scratch_folder
from flows.settings import SettingsError
from flows.store.base import StoreError
from mnist_core import submission

log = logging.getLogger("mnist")
POLL_S = 1.0
"""Seconds between two polls while another run has the lease."""
POLL_GROWTH, LONGEST_POLL_S = 1.5, 15.0
LAST_LOOK_S = 120.0
"""Seconds before a cap at which a score is waited for no longer: the last look and the report come after."""


def run_name() -> str:
    """Return the name of a Prefect run, as `submit 2026-11-23-convnet-503b3131`."""
    from prefect.runtime import flow_run

    return f"submit {flow_run.parameters.get('version') or 'the champion'}"


@flow(name="submit", flow_run_name=run_name)
@takes(SubmitParameters)
def submit(parameters: SubmitParameters) -> RunResult | State[RunResult]:
    """Submit a version, unless the competition has these predictions already.

    The format is checked and the same content is submitted once, with `again` once on each UTC date; the gate
    is not asked, and the champion stays.
    """
    settings = start_flow(parameters)
    with capped(settings.submit_cap_s, "the submission", "MNIST_SUBMIT_CAP_S"):
        workspace = open_workspace(settings)
        reconcile(workspace)
        day = datetime.now(UTC).date() if parameters.again else None
        result = _submit(workspace, choose_version(workspace, parameters.version), day)
        return end_state(result, workspace.registry.namespace)


def _submit(workspace: Workspace, entry: VersionEntry, day: date | None) -> RunResult:
    """Predict, post and score a version, and report it unless a run that this one is part of does so."""
    made: Submission | None = None
    with workspace.clocked("predict"):
        predict_version(workspace, entry)
    with workspace.clocked("submit"):
        try:
            made = post_and_score(workspace, entry.version, day)
            reason = "the competition has these predictions already"
            if day is not None:
                reason = (
                    "submitted again on request" if made.posted else "submitted again already on this date"
                )
            elif made.posted:
                reason = "submitted on request"
        except QuotaSpentError as error:
            reason = str(error)
    result = summarise(
        workspace.registry,
        entry,
        reason=reason,
        seconds=workspace.seconds,
        posted=made is not None and made.posted,
        ref=None if made is None else made.ref,
    )
    if not is_child():
        rank, prices = place_on_leaderboard(workspace), workspace.settings.prices
        show(read_scorecard(workspace.registry, result, entry, prices, rank))
    return result


def place_on_leaderboard(workspace: Workspace) -> int | None:
    """Return the team's place on the leaderboard; None if it is not to be had now, or in time."""
    if left_s() < LAST_LOOK_S:
        return None
    try:
        return workspace.competition.rank()
    except CompetitionError as error:
        log.info("the place on the leaderboard is not known: %s", error)
        return None


def choose_version(workspace: Workspace, version: str | None) -> VersionEntry:
    """Return the given version, or the champion.

    Raises:
        SettingsError: there is no such version, or no champion yet.
    """
    registry = workspace.registry
    name = version or registry.champion()[1]
    if name is None:
        raise SettingsError("there is no champion to submit yet", "run `python -m flows nightly` first")
    return find_version(registry, name)


@task(name="predict", cache_policy=NO_CACHE, persist_result=False)
def predict_version(workspace: Workspace, version: VersionEntry) -> None:
    """Make a version's predictions for the test file, unless it has them: the first ones are kept."""
    registry, data = workspace.registry, workspace.data
    if registry.predictions(version.version) is not None:
        return
    from mnist_core import open_model, read_test
    from mnist_core.inference import BACKENDS, pick_backend

    digits = read_test(data.test_csv, data.spec, rows=data.spec.test_rows)
    backend = pick_backend(version.files)
    with scratch_folder(workspace.settings.home) as scratch:
        registry.fetch(version.version, scratch, "manifest.json", BACKENDS[backend])
        model = open_model(scratch, backend)
    with progress(f"predict {len(digits):,} digits") as advance:
        probabilities = model.predict(digits.pixels, progress=advance)
    log.info("predicted %s digits of %s with %s", f"{len(digits):,}", version.version, backend)
    predicted = probabilities if data.spec.metric.of_probabilities else probabilities.argmax(1)
    registry.put_predictions(version.version, submission.to_csv(predicted, data.spec, ids=digits.ids))


def post_and_score(workspace: Workspace, version: str, day: date | None = None) -> Submission:
    """Post a version's predictions once, and wait for their score; the registry keeps both.

    Args:
        workspace: of the version's namespace.
        version: the version.
        day: the UTC date, to post what was posted on an earlier day once more.

    Returns:
        The submission, and whether it was posted now, rather than found.

    Raises:
        QuotaSpentError: nothing was posted, today's submissions are used up.
        SubmissionRefusedError: the submission ended as ERROR.
    """
    made = _post.with_options(**retries(workspace.settings))(workspace, version, day)
    wait_s = max(0.0, min(workspace.settings.score_wait_s, left_s() - LAST_LOOK_S))
    scored = _read_score(workspace, version, made.ref, wait_s, made.posted)
    _check_description(made, scored)
    if scored is not None and scored.status is Status.ERROR:
        raise SubmissionRefusedError(
            f"submission {made.ref} of {version} ended as ERROR: {scored.error}; it is not posted again",
            "look at it on the competition's page, then train another version with --fresh",
            submission=SubmissionResult(
                ref=made.ref, status=Status.ERROR, public_score=None, posted=made.posted
            ),
        )
    return made


def _check_description(made: Submission, scored: Submission | None) -> None:
    """Warn if the server did not keep the token by which a submission is found if its answer is lost."""
    token = made.message.partition(" ")[0]
    if made.posted and scored is not None and token not in scored.message:
        log.warning(
            "the competition changed the description of submission %d: if the answer to a submission is "
            "lost, it cannot be found again, and may be posted twice",
            made.ref,
        )


# Posting: one run of a namespace at a time


@task(name="post", cache_policy=NO_CACHE, persist_result=False)
def _post(workspace: Workspace, version: str, day: date | None) -> Submission:
    """Post a version's predictions, unless they are on the server's list or were recorded before."""
    csv = workspace.registry.need_predictions(version)
    submission.read_csv(csv, workspace.data.spec)
    token = submission_token(workspace.competition.name, csv, day)
    with scratch_folder(workspace.settings.home) as scratch:
        path = scratch / "submission.csv"
        path.write_bytes(csv)
        while (made := _post_with_lease(workspace, version, token, path, day)) is None:
            pass
    return made


def _post_with_lease(
    workspace: Workspace, version: str, token: str, csv: Path, day: date | None
) -> Submission | None:
    """Post while holding the lease; None if the lease was lost before anything was sent."""
    acquired = _acquire_lease(workspace, version, token)
    try:
        known = workspace.registry.submission_of(token)  # the server's list may be late
        if known is not None:  # also if the server no longer has it
            made = Submission(ref=known.ref, message=known.message, status=Status.PENDING)
        else:
            made = workspace.competition.submit_once(csv, version, acquired, day)
        log.info(
            "%s submission %d for %s on %s",
            "posted" if made.posted else "found", made.ref, version, described(workspace.competition.server),
        )  # fmt: skip
        _record_submission(workspace, version, token, made, acquired)
    except LeaseLostError:
        if acquired.sent:
            raise
        acquired.release()
        return None
    except BaseException as error:
        # After a request without a clear answer the lease stays: the next run finds out first.
        if not acquired.sent or (isinstance(error, CompetitionError) and error.answered):
            acquired.release()
        raise
    acquired.release()
    return made


def _record_submission(workspace: Workspace, version: str, token: str, made: Submission, held: Lease) -> None:
    """Record a submission, and keep trying while the lease lasts: until then only this run knows of it."""
    wait_s = POLL_S
    while True:
        try:
            workspace.registry.put_submission(version, token, made.ref, made.message)
        except StoreError as error:
            log.warning("submission %d of %s was made, but not recorded: %s", made.ref, version, error)
            if held.left_s < wait_s:
                raise
        else:
            return
        time.sleep(wait_s)
        wait_s = min(wait_s * POLL_GROWTH, LONGEST_POLL_S)


def _acquire_lease(workspace: Workspace, version: str, token: str) -> Lease:
    """Return the lease to submit, after what other runs sent is reconciled and their leases are over."""
    waiting = False
    while True:
        _reconcile_last(workspace)
        acquired = lease.acquire(workspace.registry, version, token, workspace.watch)
        if acquired is not None:
            return acquired
        if not waiting:
            log.info("waiting for another run's submission (up to %d min)", lease.LEASE_S // 60)
            waiting = True
        time.sleep(POLL_S)


def reconcile(workspace: Workspace) -> None:
    """Find out what became of a submission whose run ended, or still waits, without a clear answer.

    If the server's list has it, it is recorded. If the list does not have it when the run's lease has
    expired, it counts as not posted.
    """
    if must_reconcile(lease.current(workspace.registry)[1]):
        _reconcile.with_options(**retries(workspace.settings))(workspace)


@task(name="reconcile", cache_policy=NO_CACHE, persist_result=False)
def _reconcile(workspace: Workspace) -> None:
    _reconcile_last(workspace)


def _reconcile_last(workspace: Workspace) -> None:
    registry, wait_s = workspace.registry, POLL_S
    while True:
        seen = workspace.watch.look(registry)
        if seen.entry is None or not must_reconcile(seen.entry):
            return
        expired = has_expired(seen, lease.LEASE_S)  # found out before the list is asked
        posted = _was_posted(workspace, seen.entry)
        if posted or expired:
            if lease.release_reconciled(registry, seen.number, seen.entry, posted):
                log.info("%s: %s", seen.entry.version, "it was posted" if posted else "it was not posted")
            continue
        left_s = lease.LEASE_S - seen.unchanged_s
        if wait_s == POLL_S:
            log.info("%s was sent and is not listed yet: looking for %.0f s", seen.entry.version, left_s)
        time.sleep(min(wait_s, left_s))
        wait_s = min(wait_s * POLL_GROWTH, LONGEST_POLL_S)


def _was_posted(workspace: Workspace, sent: LeaseEntry) -> bool:
    """Return whether this content's submission is recorded or listed; it is recorded then."""
    registry = workspace.registry
    found = registry.submission_of(sent.content) or workspace.competition.find(sent.content, sent.newest)
    if found is None:
        return False
    registry.put_submission(sent.version, sent.content, found.ref, found.message)
    return True


def posted_age(workspace: Workspace, version: str) -> float | None:
    """Return for how many seconds the newest submission of a version is known, by the store's clock."""
    registry = workspace.registry
    token = submission_token(workspace.competition.name, registry.need_predictions(version))
    again = sorted(registry.store.keys(f"{registry.namespace}/contents/{token.rpartition(':')[2]}/"))  # dates
    return registry.store.age(again[-1] if again else f"{registry.namespace}/submissions/{version}.json")


# Scores


def read_scores(workspace: Workspace) -> list[str]:
    """Read the scores that are not known yet; those that are unavailable are read by the next run.

    Returns:
        The versions whose scores were asked for.
    """
    unscored = workspace.registry.unscored()
    for made in unscored:
        try:
            _read_score(workspace, made.version, made.ref, 0.0)
        except CompetitionError as error:
            log.warning("%s", error)
    return [made.version for made in unscored]


def _read_score(
    workspace: Workspace, version: str, ref: int, wait_s: float, posted: bool = False
) -> Submission | None:
    """Return the submission with its score; None if the server cannot say it: the next run asks again."""
    try:
        return _score(workspace, version, ref, wait_s, posted)
    except NotFoundError:
        log.warning("the competition does not list submission %d of %s; its score is not known", ref, version)
    except CompetitionError as error:
        if not error.retryable:
            raise
        log.warning("%s (the next run reads the score)", error)
    return None


@task(name="score", cache_policy=NO_CACHE, persist_result=False)
def _score(workspace: Workspace, version: str, ref: int, wait_s: float, posted: bool) -> Submission:
    """Return the submission; how it ended is recorded once that is known.

    Args:
        workspace: of the version's namespace.
        version: the version.
        ref: of the submission.
        wait_s: how long to wait for the end.
        posted: whether it was posted now: then an end that is known is that of an earlier one.
    """
    known = None if posted else workspace.registry.score(version)
    if known is not None:
        return Submission(ref=ref, message="", **known.model_dump(exclude={"version"}))
    scored = workspace.competition.wait_for_score(ref, wait_s)
    if scored.is_final:
        score = Score(
            version=version, status=scored.status, public_score=scored.public_score, error=scored.error
        )
        workspace.registry.put_score(score)
    return scored
