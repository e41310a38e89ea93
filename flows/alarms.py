"""Read late scores, and demote a champion whose public score is too low."""

import logging
from dataclasses import dataclass

from flows.events import emit_champion_event
from flows.policy import alarm, champions
from flows.policy.alarm import Alarm
from flows.records import ChampionEntry, Demotion
from flows.report.ending import score_name
from flows.run import RunContext
from flows.submit import read_scores
from mnist_core import submission
from mnist_core.metric import Metric

log = logging.getLogger("mnist")


@dataclass(frozen=True)
class Checks:
    """What the scores of earlier nights say.

    Attributes:
        alarms: about versions that were demoted now.
        checked: the versions whose score is known and was compared.
    """

    alarms: tuple[Alarm, ...] = ()
    checked: tuple[str, ...] = ()


def check_scores(run: RunContext) -> Checks:
    """Read the scores that earlier runs did not get, compare all new ones, and demote what is too low.

    A score may have been read by `submit`, or by a run that ended before it acted on it.
    """
    read = read_scores(run)
    _, entry = run.registry.champion_entry()
    alarms, checked = [], []
    for version in dict.fromkeys([*read, *champions.unchecked(entry)]):
        if run.registry.score(version) is None:
            continue
        checked.append(version)
        if (found := check_score(run, version)) is not None:
            alarms.append(found)
    return Checks(tuple(alarms), tuple(checked))


def preview_alarms(run: RunContext) -> None:
    """Log the alarms that the known scores raise, and leave everything as it is."""
    _, entry = run.registry.champion_entry()
    for version in champions.unchecked(entry):
        if (found := _find_alarm(run, entry, version)) is not None:
            log.warning("alarm: %s (a dry run demotes nothing)", found.reason)


def known_alarm(run: RunContext, version: str) -> Alarm | None:
    """Return the alarm by which a version was demoted already; None if it was not."""
    return alarm.recorded_alarm(version, run.registry.demotion(version))


def check_score(run: RunContext, version: str) -> Alarm | None:
    """Demote a champion whose public score is too low; it is not promoted again.

    A later champion stays; of an earlier one, no rollback goes back to it and no score is compared with it.

    Returns:
        The alarm, the same one at each call; None if there is none.
    """
    registry = run.registry
    while (found := known_alarm(run, version)) is None:
        number, entry = registry.champion_entry()
        found = _find_alarm(run, entry, version)
        if entry is None or found is None:
            return None
        log.warning("alarm: %s", found.reason)
        champion = alarm.champion_after(found, entry.version)
        if registry.promote(champion, number, found.reason, demoted=version, cause=Demotion.ALARM):
            emit_champion_event("rolled-back", registry.namespace, champion or "none", found.reason)
            return found
    return found


def _find_alarm(run: RunContext, entry: ChampionEntry | None, version: str) -> Alarm | None:
    """Compare a champion's score with that of the last champion before it that has one.

    If none has, it is compared with the champion's own held-out accuracy. Both rest on counts of right rows:
    of a competition with another metric no score raises an alarm.
    """
    if run.data.spec.metric is not Metric.ACCURACY:
        return None
    if entry is None or version not in champions.recent(entry):
        return None
    scored = _scored(run, version)
    if scored is None:
        return None
    earlier = champions.champions_before(entry, version)
    for name in earlier:
        before = _scored(run, name)
        if before is not None:
            return alarm.find_alarm(scored, before)
    known = run.registry.version(version)
    if known is None:
        return None
    fallback = next((name for name in earlier if run.registry.version(name) is not None), None)
    return alarm.find_held_out_alarm(scored, known.valid_accuracy, known.valid_rows, entry.version, fallback)


def _scored(run: RunContext, version: str) -> alarm.Scored | None:
    """Return a version with its public score; None if it has none, or was pruned."""
    score = run.registry.score(version)
    if score is None or score.public_score is None:
        return None
    csv = run.registry.predictions(version)
    if csv is None:
        return None
    labels = submission.read_csv(csv, run.data.spec)
    called = score_name(run.registry.namespace)
    return alarm.Scored(version, score.public_score, labels, called, run.data.spec.scored_rows)
