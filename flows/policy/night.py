"""What a nightly run still has to do, and which version it submits."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from flows.policy.gate import Rule
from flows.records import Decision, NightEntry


@dataclass(frozen=True)
class Start:
    """When a nightly run was due.

    Attributes:
        at: the scheduled start.
        scheduled: whether the schedule made it, rather than a person.
        cancelled: whether it was cancelled, so that it does not run.
    """

    at: datetime
    scheduled: bool = True
    cancelled: bool = False


def superseded_by(own: Start, due: Iterable[Start]) -> datetime | None:
    """Return the start of the newest scheduled run that is due, if it is newer than this one; else None."""
    newer = [other.at for other in due if other.scheduled and not other.cancelled and other.at > own.at]
    return max(newer, default=None)


def seconds_since_the_last(ended: Iterable[NightEntry], now: datetime) -> float | None:
    """Return for how many seconds no night has ended well; None if no entry has a time.

    If all of them failed, it is at least since the first one.
    """
    timed = [(datetime.fromisoformat(entry.at), entry.decision) for entry in ended if entry.at is not None]
    good = [at for at, decision in timed if decision is not Decision.FAILED]
    since = max(good, default=min((at for at, _ in timed), default=None))
    return None if since is None else max((now - since).total_seconds(), 0.0)


def is_finished(ended: NightEntry, force: bool) -> bool:
    """Return whether a run that ended before has nothing left to do.

    Deferred and failed runs are resumed, a rejected one if the gate is to be passed now; after an alarm
    nothing is left to do.
    """
    if ended.decision is Decision.REJECTED:
        return not force
    return ended.decision is Decision.PROMOTED or ended.alarm


def version_to_submit(
    version: str, *, passed: bool, champion: str | None, champion_is_submitted: bool
) -> str | None:
    """Choose the version whose predictions are posted; None if there is none.

    A version that passed the gate is submitted. If it was rejected, a champion that was deferred, because no
    submission was left on its day, has its turn.

    Args:
        version: the one that this run trained.
        passed: whether it passed the gate.
        champion: the champion before this run; None if there was none.
        champion_is_submitted: whether that one has a submission.
    """
    if passed:
        return version
    return None if champion_is_submitted else champion


def rejections_after(ended: Iterable[NightEntry], night: str, decision: Decision) -> int:
    """Return how many nights in a row were rejected, with the one that ends with a decision.

    Another attempt of a night is not one more night.

    Args:
        ended: how the last nights ended, the oldest night first.
        night: the one that ends now.
        decision: its own.
    """
    if decision is not Decision.REJECTED:
        return 0
    earlier = [entry for entry in ended if entry.run.night < night]
    return 1 + (earlier[-1].rejections if earlier else 0)


def why_unbeaten(rule: Rule, rejections: int, limit: int) -> str:
    """Return why a person must look at the champion, which nobody replaces; empty if nobody must.

    Args:
        rule: the one that decided tonight.
        rejections: nights in a row that were rejected, tonight's included.
        limit: a person must look after this many of them, and at each multiple.
    """
    if rejections and rule is Rule.AGREEMENT:
        return (
            "tonight's version is as good on the held-out rows, but predicts too many test rows differently: "
            "it or the champion predicts wrongly"
        )
    if rejections and rejections % limit == 0:
        return f"{rejections} nights in a row were rejected"
    return ""


def is_due_again(age_s: float | None, repost_days: int) -> bool:
    """Return whether a champion that stays is submitted again.

    Args:
        age_s: seconds since it was submitted last, by the store's clock; None if that is unknown.
        repost_days: after how many days it is due; 0: never.
    """
    return repost_days > 0 and age_s is not None and age_s >= repost_days * 86400
