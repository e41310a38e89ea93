"""A version against the champion: judged by the gate, and promoted if it passes."""

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from flows.ensemble import assemble, trained_keys
from flows.events import emit_champion_event
from flows.kaggle.errors import CompetitionError
from flows.kaggle.submissions import MARK
from flows.policy import champions, gate
from flows.policy.gate import Verdict
from flows.records import ChampionEntry, Demotion, VersionEntry
from flows.registry import MissingVersionError
from flows.run import RunContext
from flows.store.base import StoreError
from flows.store.lists import DamagedObjectError
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


def challenge_champion(
    run: RunContext, *, dry_run: bool, force: bool, checked: Sequence[str] = ()
) -> Contest:
    """Judge this run's version against the champion, and promote it if it passes.

    If another run promoted its version meanwhile, this run's contends with that one.

    Args:
        run: the run.
        dry_run: promote nothing.
        force: promote what the gate rejects, unless it was demoted.
        checked: champions whose public score was compared already.
    """
    while True:
        number, champion = run.registry.champion()
        if number == 0:
            warn_of_another_store(run)
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
        if promote(run, contest, number, checked):
            return contest


def warn_of_another_store(run: RunContext) -> None:
    """Warn if the competition has submissions of this job, and its store knows no champion of them.

    A store is named relative to the working directory unless MNIST_STORE says otherwise, and a new one is
    empty. It is not refused: after new data of the competition, or a lost store, nights must go on.
    """
    with contextlib.suppress(CompetitionError):  # the next call says so
        found = run.competition.find(MARK)
        if found is not None:
            log.warning(
                "the competition has submission %d of this job, but there is no champion in %s: if another "
                "store was used before, stop and set MNIST_STORE to it",
                found.ref,
                run.registry.store.location(run.registry.namespace),
            )


def challenger(run: RunContext, champion: str | None) -> VersionEntry:
    """Return the version that this run trained, an ensemble assembled with the champion's members."""
    if trained_keys(run.key) == [run.key]:
        return run.registry.need_version(run.registry.need_version_of(run.key))
    with run.clocked("publish"):
        return run.registry.need_version(assemble(run, champion))


def pass_gate(run: RunContext, version: VersionEntry, champion: str | None) -> Verdict:
    """Return whether a version may become champion; it was predicted before."""
    registry = run.registry
    _, last = registry.champion_entry()
    known = gate.standing(version.version, last, registry.demotion(version.version))
    if known is not None:
        return known
    challenger = _candidate(run, version)
    opponent = None if champion is None else _champion(run, champion)
    reference = None if champion is None else _reference(run, last)
    limits = _limits(run, version, challenger)
    return gate.judge(challenger, opponent, limits, run.data.spec.classes, reference)


def _limits(run: RunContext, version: VersionEntry, challenger: gate.Candidate) -> gate.Limits:
    """Return where the gate draws its lines: as stated, else as rows and classes demand."""
    settings, spec = run.settings, run.data.spec
    floor, share_min = settings.floor_of(version.model), settings.share_min
    if floor is None:
        floor = gate.default_floor(spec.class_count, version.valid_rows)
    if not settings.share_min_is_stated:
        share_min = gate.lowest_share(
            spec.share_floor, challenger.held_out.labels, spec.class_count, len(challenger.labels)
        )
    return gate.Limits(
        floor=floor,
        share_min=share_min,
        margin_errors=settings.margin_errors,
        margin_rows=settings.margin_rows,
        agreement=settings.agreement,
    )


def _champion(run: RunContext, name: str) -> gate.Candidate:
    """Return the champion as the gate sees it; what it predicts is made again if it was pruned.

    Raises:
        StoreError: it cannot be read; another version must become champion.
    """
    try:
        return _candidate(run, run.registry.need_version(name))
    except DamagedObjectError as error:
        raise StoreError(
            f"champion {name} cannot be read: {error.problem}",
            "restore that object from a backup, or run `python -m flows rollback`",
        ) from error


def _reference(run: RunContext, last: ChampionEntry | None) -> gate.Reference | None:
    """Return the champion of many promotions ago, or the next one that can be read; None if there is none."""
    for name in champions.references(last):
        try:
            return gate.Reference(name, run.registry.held_out(name))
        except (MissingVersionError, DamagedObjectError) as error:
            log.warning("no comparison with the earlier champion %s: %s", name, error.problem)
    return None


def _candidate(run: RunContext, version: VersionEntry) -> gate.Candidate:
    csv = run.registry.predictions(version.version)
    if csv is None:
        predict_version(run, version)
        csv = run.registry.need_predictions(version.version)
    return gate.Candidate(
        version=version.version,
        valid_accuracy=version.valid_accuracy,
        labels=submission.read_csv(csv, run.data.spec),
        held_out=run.registry.held_out(version.version),
        members=version.members,
    )


def promote(run: RunContext, contest: Contest, number: int, checked: Sequence[str] = ()) -> bool:
    """Make the challenger champion after the champion of this number.

    Returns:
        False if another run promoted its version meanwhile.

    Raises:
        MissingVersionError: the version was pruned meanwhile; the champion before is champion again.
    """
    registry, version, verdict = run.registry, contest.version.version, contest.verdict
    if not registry.promote(version, number, verdict.reason, chosen=verdict.forced, checked=checked):
        return False
    log.info("champion %d: %s", number + 1, version)
    if registry.version(version) is None:
        pruned = f"{version} was pruned while its night ran"
        registry.promote(contest.champion, number + 1, pruned, demoted=version, cause=Demotion.PRUNED)
        raise MissingVersionError(pruned, "run this again", retryable=True)
    emit_champion_event("promoted", registry.namespace, version, verdict.reason)
    return True
