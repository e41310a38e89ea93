"""The nightly run: train → predict → gate → promote → submit → report. Only `train` may run elsewhere."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from prefect import State, flow

from flows.alarms import Checks, check_score, check_scores, known_alarm, preview_alarms
from flows.caps import capped
from flows.contest import Contest, challenge_champion
from flows.events import emit_champion_event, emit_night_event
from flows.kaggle.errors import SubmissionRefusedError, SubmissionUnknownError
from flows.nights import NIGHTS
from flows.ops.schedule import name_next_nights, newer_night, skipped
from flows.parameters import NightlyParameters, takes
from flows.policy.alarm import Alarm
from flows.policy.gate import Rule
from flows.policy.night import (
    is_due_again,
    is_finished,
    rejections_after,
    version_to_submit,
    why_unbeaten,
)
from flows.prune import prune_after_night
from flows.records import Decision, NightEntry, RunResult, VersionEntry
from flows.report import folder
from flows.report.artifacts import put_history, put_scorecard, tag_with
from flows.report.ending import call_flow, describe, end_state
from flows.report.result import read_history, read_scorecard, summarise, summarise_pruned
from flows.report.scorecard import PICTURES, Scorecard
from flows.report.terminal import show
from flows.run import RunContext, is_scheduled, open_run, run_key, run_name, start_flow
from flows.site.build import write_after_night
from flows.submit import place_on_leaderboard, posted_age, reconcile, submit
from flows.train import train_missing
from mnist_core.errors import MnistError

log = logging.getLogger("mnist")


class AlarmError(MnistError):
    """A submission scored far below an earlier champion's; the champion was demoted.

    Attributes:
        result: of the run that raised it.
    """

    def __init__(self, found: Alarm, result: RunResult) -> None:
        super().__init__(f"alarm: {found.reason}", "check that version, then train another one with --fresh")
        self.result = result


@flow(name="nightly", flow_run_name=run_name)
@takes(NightlyParameters)
def nightly(parameters: NightlyParameters) -> RunResult | State[RunResult]:
    """Train a version and, if it passes the gate, make it champion and submit it once.

    Returns:
        The result that `--json` prints; docs/quickstart.md describes it.
    """
    settings = start_flow(parameters)
    name_next_nights()
    if (newer := newer_night()) is not None:
        return skipped(newer)
    with capped(settings.night_cap_s, "the night", "MNIST_NIGHT_CAP_S"):
        run = open_run(settings, run_key(settings, parameters), fresh=parameters.fresh)
        checks = Checks()
        if parameters.dry_run:
            preview_alarms(run)
        else:
            reconcile(run)  # a submission whose answer was lost
            checks = check_scores(run)  # of earlier nights
        ended = run.registry.night(run.key)
        if ended is not None and is_finished(ended, parameters.force):
            return end(run, report_again(run, ended, checks.alarms, dry_run=parameters.dry_run))
        train_missing(run, parameters)  # here, or on the GPU pool
        contest = challenge_champion(
            run, dry_run=parameters.dry_run, force=parameters.force, checked=checks.checked
        )
        if parameters.dry_run:
            outcome = Outcome(
                contest.version, Decision.DRY_RUN, contest.verdict.reason, rank=place_on_leaderboard(run)
            )
            return end(run, report(run, outcome))
        outcome = replace(submit_winner(run, contest), rank=place_on_leaderboard(run))
        record(run, outcome, contest.verdict.rule)
        result = report(run, outcome, checks.alarms)
        prune_after_night(run.registry, settings.keep_versions)
        return end(run, result)


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        version: the one that it trained.
        decision, reason: what was decided about it, and why, for people.
        submitted: the version whose predictions were posted, or would have been.
        posted: whether this run posted its own version.
        alarm: about the version that was submitted.
        rank: the team's place on the leaderboard after that; None if it is not known.
    """

    version: VersionEntry
    decision: Decision
    reason: str
    submitted: str | None = None
    posted: bool = False
    alarm: Alarm | None = None
    rank: int | None = None


def submit_winner(run: RunContext, contest: Contest) -> Outcome:
    """Submit the challenger if it passed, or else a champion that was deferred, and check the score.

    Raises:
        SubmissionUnknownError, SubmissionRefusedError: it did not end well; that is recorded.
    """
    passed, reason = contest.verdict.passed, contest.verdict.reason
    outcome = Outcome(contest.version, Decision.PROMOTED if passed else Decision.REJECTED, reason)
    chosen = version_to_submit(
        contest.version.version,
        passed=passed,
        champion=contest.champion,
        champion_is_submitted=contest.champion is not None
        and run.registry.submission(contest.champion) is not None,
    )
    again = chosen is None and _is_due_again(run, contest.champion)
    chosen = contest.champion if again else chosen
    if chosen is None:
        return outcome
    try:
        with run.clocked("submit"):
            made: RunResult = call_flow(submit, chosen, again=again)
    except (SubmissionUnknownError, SubmissionRefusedError) as error:
        failed = replace(outcome, decision=Decision.FAILED, reason=str(error), submitted=chosen)
        record(run, failed, contest.verdict.rule)
        raise
    outcome = _after_submission(outcome, chosen, made, again=again)
    if outcome.submitted is None:
        return outcome
    found = check_score(run, outcome.submitted)
    if found is None:
        return outcome
    return replace(outcome, decision=Decision.FAILED, reason=found.reason, alarm=found)


def _is_due_again(run: RunContext, champion: str | None) -> bool:
    """Return whether a champion that stays is submitted once more, because the competition may forget it."""
    if champion is None or not run.settings.repost_days:
        return False
    return is_due_again(posted_age(run, champion), run.settings.repost_days)


def _after_submission(outcome: Outcome, submitted: str, made: RunResult, *, again: bool) -> Outcome:
    """Return the outcome after a version was submitted, or was not because no submission is left today."""
    if again and made.submission is not None:
        words = "submitted again" if made.submission.posted else f"not submitted again: {made.reason}"
        return replace(
            outcome, submitted=submitted, reason=f"{outcome.reason}; champion {submitted} was {words}"
        )
    own = outcome.decision is Decision.PROMOTED
    if made.submission is None:
        if own:
            return replace(outcome, decision=Decision.DEFERRED, reason=made.reason)
        log.info("champion %s is not submitted yet: %s", submitted, made.reason)
        return outcome
    if own:
        return replace(outcome, submitted=submitted, posted=made.submission.posted)
    reason = f"{outcome.reason}; champion {submitted}, deferred until now, was submitted"
    return replace(outcome, submitted=submitted, reason=reason)


def record(run: RunContext, outcome: Outcome, rule: Rule) -> None:
    """Record how this run ended, so that the same command gives the same result, and emit its events.

    Args:
        run: the run.
        outcome: how it ended.
        rule: the one by which the gate decided.
    """
    registry, version = run.registry, outcome.version
    ended = NightEntry(
        run=run.key,
        version=version.version,
        model=version.model,
        valid_accuracy=version.valid_accuracy,
        valid_interval=version.valid_interval,
        decision=outcome.decision,
        reason=outcome.reason,
        submitted=outcome.submitted,
        alarm=outcome.alarm is not None,
        seconds=run.seconds,
        at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        rank=outcome.rank,
        rejections=rejections_after(registry.nights(NIGHTS), run.key.night, outcome.decision),
    )
    registry.end_night(ended)
    write_after_night(registry, run.settings)
    _emit_end(run, ended)
    why = why_unbeaten(rule, ended.rejections, run.settings.rejections)
    if why:
        log.warning("the champion stays: %s", why)
        _, champion = registry.champion()
        emit_champion_event("unbeaten", registry.namespace, champion or "none", f"{why}: {outcome.reason}")


def _emit_end(run: RunContext, ended: NightEntry) -> None:
    scored = run.registry.score(ended.version)
    emit_night_event(run.registry.namespace, ended, None if scored is None else scored.public_score)


def report(run: RunContext, outcome: Outcome, alarms: Sequence[Alarm] = ()) -> RunResult:
    """Show the result, leave it as files and artifacts, and return it.

    Args:
        run: the run.
        outcome: how it ended.
        alarms: of earlier nights, which this run found.

    Raises:
        AlarmError: there is an alarm, of this run or of an earlier night; the error has the result.
    """
    result = summarise(
        run.registry,
        outcome.version,
        night=run.key.night,
        decision=outcome.decision,
        reason=outcome.reason,
        seconds=run.seconds,
        posted=outcome.posted,
    )
    card = read_scorecard(run.registry, result, outcome.version, run.settings.prices, rank=outcome.rank)
    written = _write_report(run, card)
    pictures = {name: run.registry.file(outcome.version, name) for name in PICTURES}
    put_history(read_history(run.registry, prices=run.settings.prices), run.registry.namespace)
    page = put_scorecard(card, {name: content for name, content in pictures.items() if content is not None})
    show(card, written)
    if page is not None:
        log.info("%s; scorecard: %s", describe(result, run.registry.namespace), page)
    found = outcome.alarm or next(iter(alarms), None)
    if found is not None:
        raise AlarmError(found, result)
    return result


def end(run: RunContext, result: RunResult) -> State[RunResult]:
    """Return the state that shows in Prefect how the run ended, and tag the run with its decision."""
    if result.decision is not None:
        tag_with(result.decision)
    return end_state(result, run.registry.namespace)


def _write_report(run: RunContext, card: Scorecard) -> Path | None:
    """Write the report's folder; None if there is no room: what was done stays done without its report."""
    try:
        written = folder.write(run.registry, run.key, card, run.settings.home)
        folder.delete_old(run.settings.home, run.settings.keep_reports)
    except OSError as error:
        log.warning("no report: %s: %s; free disk space there", error.filename, error.strerror)
        return None
    return written


def report_again(
    run: RunContext, ended: NightEntry, alarms: Sequence[Alarm] = (), *, dry_run: bool = False
) -> RunResult:
    """Return the result of a run that was finished before, with what is known of its score now.

    Args:
        run: the run.
        ended: how it ended.
        alarms: of other nights, which this run found.
        dry_run: demote nothing.

    Raises:
        AlarmError: its submission raised an alarm, or an earlier night's did.
    """
    log.info("night %s is finished already: %s", run.key.key, ended.decision)
    check = known_alarm if dry_run else check_score
    found = None if ended.submitted is None else check(run, ended.submitted)
    decision = ended.decision if found is None else Decision.FAILED
    reason = ended.reason if found is None else found.reason
    if dry_run:
        reason += " (decided before: this dry run changed nothing)"
    if is_scheduled() and not dry_run:  # a person ran it before; the next one is due a day from now
        _emit_end(run, ended.model_copy(update={"decision": decision, "reason": reason}))
    version = run.registry.version(ended.version)
    if version is not None:
        again = replace(run, seconds=dict(ended.seconds))
        return report(again, Outcome(version, decision, reason, alarm=found, rank=ended.rank), alarms)
    log.info("%s was pruned; its night's own entry is reported", ended.version)
    result = summarise_pruned(run.registry, ended, decision=decision, reason=reason)
    found = found or next(iter(alarms), None)
    if found is not None:
        raise AlarmError(found, result)
    return result
