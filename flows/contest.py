"""A version against the champion: judged by the gate, and promoted if it passes."""

import logging
from dataclasses import dataclass

from flows.ensemble import assemble, trained_keys
from flows.policy import gate
from flows.policy.gate import Verdict
from flows.records import Demotion, VersionEntry
from flows.registry import MissingVersionError
from flows.report.artifacts import emit_champion_event
from flows.run import RunContext
from flows.submit import predict_version
from mnist_core import submission

log = logging.getLogger("mnist")


@dataclass(frozen=True)
class Contest:
    """How a version did against the champion.

    Attributes:
        version: the challenger.
        verdict: of the gate.
        champion: the champion before this run; None if there was none.
    """

    version: VersionEntry
    verdict: Verdict
    champion: str | None


def challenge_champion(run: RunContext, *, dry_run: bool, force: bool) -> Contest:
    """Judge this run's version against the champion, and promote it if it passes.

    If another run promoted its version meanwhile, this run's contends with that one.
    """
    while True:
        number, champion = run.registry.champion()
        version = challenger(run, champion)
        with run.clocked("predict"):
            predict_version(run, version)
        verdict = pass_gate(run, version, champion)
        if force:
            verdict = verdict.force()
        log.info("gate: %s", verdict.reason)
        contest = Contest(version, verdict, champion)
        if dry_run or not verdict.passed or run.registry.was_champion(version.version):
            return contest
        if promote(run, contest, number):
            return contest


def challenger(run: RunContext, champion: str | None) -> VersionEntry:
    """Return the version that this run trained, an ensemble assembled with the champion's members."""
    if trained_keys(run.key) == [run.key]:
        return run.registry.need_version(run.registry.need_version_of(run.key))
    with run.clocked("publish"):
        return run.registry.need_version(assemble(run, champion))


def pass_gate(run: RunContext, version: VersionEntry, champion: str | None) -> Verdict:
    """Return whether a version may become champion; it was predicted before."""
    known = gate.standing(version.version, run.registry.champions())
    if known is not None:
        return known
    settings = run.settings
    limits = gate.Limits(
        floor=settings.floor_of(version.model),
        share_min=settings.share_min,
        margin_errors=settings.margin_errors,
        margin_rows=settings.margin_rows,
        agreement=settings.agreement,
    )
    opponent = None if champion is None else _candidate(run, run.registry.need_version(champion))
    return gate.judge(_candidate(run, version), opponent, limits, run.data.spec.classes)


def _candidate(run: RunContext, version: VersionEntry) -> gate.Candidate:
    return gate.Candidate(
        version=version.version,
        valid_accuracy=version.valid_accuracy,
        labels=submission.read_csv(run.registry.need_predictions(version.version), run.data.spec),
        held_out=run.registry.held_out(version.version),
        members=version.members,
    )


def promote(run: RunContext, contest: Contest, number: int) -> bool:
    """Make the challenger champion after the champion of this number.

    Returns:
        False if another run promoted its version meanwhile.

    Raises:
        MissingVersionError: the version was pruned meanwhile; the champion before is champion again.
    """
    registry, version, reason = run.registry, contest.version.version, contest.verdict.reason
    if not registry.promote(version, number, reason):
        return False
    log.info("champion %d: %s", number + 1, version)
    if registry.version(version) is None and contest.champion is not None:
        pruned = f"{version} was pruned while its night ran"
        registry.promote(contest.champion, number + 1, pruned, demoted=version, cause=Demotion.PRUNED)
        raise MissingVersionError(pruned, "run this again", retryable=True)
    emit_champion_event("promoted", registry.namespace, version, reason)
    return True
