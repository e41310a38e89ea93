"""Read late scores, and demote a champion whose public score is too low."""

import logging
from collections.abc import Iterable

from flows.policy import alarm
from flows.policy.alarm import Alarm
from flows.policy.champions import champions_before
from flows.records import Demotion
from flows.report.artifacts import emit_champion_event
from flows.run import RunContext
from flows.submit import read_scores
from mnist_core import submission

log = logging.getLogger("mnist")


def check_new_scores(run: RunContext) -> list[Alarm]:
    """Read the scores that earlier runs did not get, and return the alarms that they raise."""
    return _check(run, read_scores(run))


def check_champion(run: RunContext) -> list[Alarm]:
    """Return the alarm about the champion, if a run ended between reading its score and demoting it."""
    _, champion = run.registry.champion()
    return _check(run, [] if champion is None else [champion])


def _check(run: RunContext, versions: Iterable[str]) -> list[Alarm]:
    return [found for version in versions if (found := check_score(run, version)) is not None]


def check_score(run: RunContext, version: str) -> Alarm | None:
    """Demote a champion whose public score is too low; it is not promoted again.

    A later champion stays; of an earlier one, no rollback goes back to it and no score is compared with it.

    Returns:
        The alarm, the same one at each call; None if there is none.
    """
    recorded = alarm.recorded_alarm(version, run.registry.champions())
    if recorded is not None:
        return recorded
    found = _compare_score(run, version)
    if found is None:
        return None
    log.warning("alarm: %s", found.reason)
    while version not in run.registry.demotions():
        number, current = run.registry.champion()
        champion = alarm.champion_after(found, current)
        if run.registry.promote(champion, number, found.reason, demoted=version, cause=Demotion.ALARM):
            emit_champion_event("rolled-back", run.registry.namespace, champion, found.reason)
    return found


def _compare_score(run: RunContext, version: str) -> Alarm | None:
    """Compare a champion's score with that of the last champion before it that has one."""
    scored = _scored(run, version)
    if scored is None:
        return None
    for earlier in champions_before(run.registry.champions(), version):
        before = _scored(run, earlier)
        if before is not None:
            return alarm.find_alarm(scored, before)
    return None


def _scored(run: RunContext, version: str) -> alarm.Scored | None:
    """Return a version with its public score; None if it has none, or was pruned."""
    score = run.registry.score(version)
    if score is None or score.public_score is None:
        return None
    csv = run.registry.predictions(version)
    if csv is None:
        return None
    return alarm.Scored(version, score.public_score, submission.read_csv(csv, run.data.spec))
