"""The flow that submits: a version, its predictions, the check, one post, the score. Runs on the CPU pool."""

import logging
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows import lease, report
from flows.kaggle.competition import Competition, connect
from flows.kaggle.download import Data
from flows.kaggle.errors import CompetitionError, QuotaSpentError, SubmissionRefusedError
from flows.kaggle.submissions import submission_token
from flows.lease import LEASE_S, Lease, LeaseLostError
from flows.parameters import SubmitParameters, takes
from flows.policy.lease import has_expired, must_reconcile
from flows.records import LeaseEntry, RunResult, Score, Status, Submission, SubmissionResult
from flows.registry import Registry
from flows.settings import Settings, SettingsError, read_settings
from flows.store.open import open_store
from flows.train import clocked, download, is_child, refuse_an_unset_server, retries
from mnist_core import submission

log = logging.getLogger("mnist")
POLL_S = 1.0
"""Seconds between two polls while another run has the lease."""


@task(name="predict", cache_policy=NO_CACHE, persist_result=False)
def predict_version(version: str, data: Data, registry: Registry) -> None:
    """Make a version's predictions for test.csv, unless it has them: the first ones hold for ever."""
    if registry.predictions(version) is not None:
        return
    from mnist_core import open_model, read_test
    from mnist_core.inference import BACKENDS, pick_backend

    digits = read_test(data.test_csv, rows=data.spec.test_rows)
    backend = pick_backend(registry.need_version(version).files)
    with tempfile.TemporaryDirectory() as scratch:
        registry.fetch(version, Path(scratch), "manifest.json", BACKENDS[backend])
        model = open_model(Path(scratch), backend)
    with report.progress(f"predict {len(digits):,} digits") as progress:
        labels = model.predict(digits.pixels, progress=progress).argmax(1)
    log.info("predicted %s digits of %s by %s", f"{len(digits):,}", version, backend)
    registry.put_predictions(version, submission.to_csv(labels, data.spec))


@task(name="post", cache_policy=NO_CACHE, persist_result=False)
def _post(version: str, competition: Competition, registry: Registry) -> Submission:
    csv = registry.need_predictions(version)
    submission.read_csv(csv, competition.spec)
    token = submission_token(competition.name, csv)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "submission.csv"
        path.write_bytes(csv)
        while True:
            held = _acquire_lease(version, token, competition, registry)
            try:
                known = registry.submission_of(token)  # the server's list may be late
                if known is not None:
                    made = competition.submission(known.ref)
                else:
                    made = competition.submit_once(path, version, held.renew)
                registry.put_submission(version, token, made.ref, made.message)
            except BaseException as error:
                # After a request without a clear answer the lease stays: the next run finds out first.
                if not held.sent or getattr(error, "answered", False):
                    held.release()
                if isinstance(error, LeaseLostError) and not held.sent:
                    continue
                raise
            held.release()
            break
    log.info("%s submission %d for %s", "posted" if made.posted else "found", made.ref, version)
    return made


def _acquire_lease(version: str, token: str, competition: Competition, registry: Registry) -> Lease:
    """Return the lease to submit, after what other runs sent is reconciled and their leases are over."""
    waiting = False
    while True:
        reconcile(competition, registry)
        acquired = lease.acquire(registry, version, token)
        if acquired is not None:
            return acquired
        if not waiting:
            log.info("waiting for another run's submission (up to %d min)", LEASE_S // 60)
            waiting = True
        time.sleep(POLL_S)


def reconcile(competition: Competition, registry: Registry) -> None:
    """Find out what became of a submission whose run ended, or still waits, without a clear answer.

    If the server's list has it, it is recorded. If the list does not have it when the run's lease has
    expired, it counts as not posted.
    """
    wait = POLL_S
    while True:
        number, last = lease.current(registry)
        if last is None or not must_reconcile(last):
            return
        expired = has_expired(last, datetime.now(UTC))  # read before the list is
        posted = _was_posted(last, competition, registry)
        if posted or expired:
            if lease.release_reconciled(registry, number, last, posted):
                log.info("%s: %s", last.version, "it was posted" if posted else "it was not posted")
            continue
        if wait == POLL_S:
            log.info("%s was sent and is not listed yet: looking until %s", last.version, last.expires)
        time.sleep(wait)
        wait = min(wait * 1.5, 15.0)


def _was_posted(sent: LeaseEntry, competition: Competition, registry: Registry) -> bool:
    """Return whether a submission is recorded or listed; a listed one is recorded."""
    if registry.submission(sent.version) is not None:
        return True
    found = competition.find(sent.content)
    if found is None:
        return False
    registry.put_submission(sent.version, sent.content, found.ref, found.message)
    return True


@task(name="score", cache_policy=NO_CACHE, persist_result=False)
def _score(version: str, ref: int, competition: Competition, registry: Registry, wait_s: float) -> Submission:
    scored = competition.wait_for_score(ref, wait_s)
    if scored.status != "PENDING":
        registry.put_score(
            Score(
                version=version,
                status=scored.status,
                public_score=scored.public_score,
                error=scored.error,
            )
        )
    return scored


def _read_score(
    version: str, ref: int, competition: Competition, registry: Registry, wait_s: float
) -> Submission | None:
    """The submission with its score; None where the server does not say: the next run reads it."""
    try:
        return _score(version, ref, competition, registry, wait_s)
    except CompetitionError as error:
        if not error.retryable:
            raise
        log.warning("%s (the next run reads the score)", error)
        return None


def read_scores(competition: Competition, registry: Registry) -> list[str]:
    """Read the scores that are not known yet; those that are unavailable are read by the next run.

    Returns:
        The versions whose scores were asked for.
    """
    unscored = registry.unscored()
    for entry in unscored:
        try:
            _read_score(entry.version, entry.ref, competition, registry, 0.0)
        except CompetitionError as error:
            log.warning("%s", error)
    return [entry.version for entry in unscored]


def post_and_score(version: str, competition: Competition, registry: Registry, settings: Settings) -> bool:
    """Post a version's predictions once, and wait for their score; the registry keeps both.

    Returns:
        Whether they were posted now, rather than found on the server's list.

    Raises:
        QuotaSpentError: nothing was posted, today's submissions are used up.
        SubmissionRefusedError: the submission ended as ERROR.
    """
    made = _post.with_options(**retries(settings))(version, competition, registry)
    scored = _read_score(version, made.ref, competition, registry, settings.score_wait_s)
    if scored is not None and scored.status == "ERROR":
        raise SubmissionRefusedError(
            f"submission {made.ref} of {version} ended as ERROR: {scored.error}; it is not posted again. "
            "Look at it on the competition's page, then train another version with --fresh",
            submission=SubmissionResult(
                ref=made.ref, status=Status.ERROR, public_score=None, posted=made.posted
            ),
        )
    return made.posted


def run_name() -> str:
    """What a run is called, as `submit 2026-11-23-convnet-503b3131`."""
    from prefect.runtime import flow_run

    return f"submit {flow_run.parameters.get('version') or 'the champion'}"


@flow(name="submit", flow_run_name=run_name)
@takes(SubmitParameters)
def submit(parameters: SubmitParameters) -> RunResult:
    """Submit a version, unless the competition has these predictions already.

    The format check and the once-only rule hold; the gate is not asked and the champion stays.
    """
    report.log_to_prefect()
    settings = read_settings()
    refuse_an_unset_server(settings)
    seconds: dict[str, float] = {}
    with clocked(seconds, "download"):
        competition = connect(settings)
        data = download(competition, settings)
    registry = Registry(open_store(settings.store), competition.namespace(data))
    reconcile(competition, registry)
    name = parameters.version or registry.champion()[1]
    if name is None:
        raise SettingsError("there is no champion to submit yet; run `python -m flows nightly` first")
    if registry.version(name) is None:
        raise SettingsError(
            f"--version {name}: there is no such version under {registry.location('versions', name)}"
        )
    with clocked(seconds, "predict"):
        predict_version(name, data, registry)
    with clocked(seconds, "submit"):
        try:
            posted = post_and_score(name, competition, registry, settings)
            reason = "submitted on request" if posted else "the competition has these predictions already"
        except QuotaSpentError as error:
            posted, reason = False, str(error)
    result = report.summarise(
        registry, registry.need_version(name).night, name, None, reason, seconds, posted
    )
    if not is_child():
        report.show(registry, result)
    return result
