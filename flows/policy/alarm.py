"""The alarm: a public score that contradicts the champion before it, or the version's own held-out accuracy.

Of d test rows on which two equally good versions differ, the difference of their correct rows has a standard
deviation of at most √d. A champion whose score is more than four of these lower is a bad one.

If no earlier champion has a score, the score and the held-out accuracy are two independent estimates of one
share. Four standard errors of their difference, and not less than eight test rows, are allowed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from flows.records import ChampionEntry, Demotion

DEVIATIONS = 4
"""Standard deviations of the difference between two equally good versions that raise the alarm."""
ROWS_MIN = 8
"""Test rows by which a score may always be below the held-out accuracy."""


@dataclass(frozen=True, eq=False)
class Scored:
    """A champion with its public score.

    Attributes:
        public_score: share of the test rows that are right, 0..1.
        labels: int64 (rows of the test file,), its predictions.
        rows: of the test file that the score is about; None: all.
        called: what the score is called: `practice score` if it is not kaggle.com's.
    """

    version: str
    public_score: float
    labels: NDArray[np.int64]
    called: str = "public score"
    rows: int | None = None

    @property
    def scored_rows(self) -> int:
        """Rows behind the score."""
        return len(self.labels) if self.rows is None else self.rows


@dataclass(frozen=True)
class Alarm:
    """A champion that must be demoted.

    Attributes:
        version: the champion with the low score.
        fallback: the champion before it, which is champion again if no later one is; None if there is none.
        reason: for people.
    """

    version: str
    fallback: str | None
    reason: str


def recorded_alarm(version: str, demotion: ChampionEntry | None) -> Alarm | None:
    """Return the alarm by which a version was demoted already; None if it was not.

    Args:
        version: the version.
        demotion: the entry that demoted it; None if it is not demoted.
    """
    if demotion is None or demotion.cause is not Demotion.ALARM:
        return None
    return Alarm(version, demotion.version, demotion.reason)


def find_alarm(champion: Scored, before: Scored) -> Alarm | None:
    """Compare a champion's public score with that of an earlier champion; None if it is not too low."""
    rows = champion.scored_rows
    differ = int((champion.labels != before.labels).sum())
    # Of the rows that differ, as many are expected behind the score as it has of all rows.
    bound = DEVIATIONS * math.sqrt(differ * rows / len(champion.labels)) / rows
    if not champion.public_score < before.public_score - bound:
        return None
    return Alarm(
        champion.version,
        before.version,
        f"{champion.called} {champion.public_score:.5f} of {champion.version} is more than {bound:.5f} below "
        f"{before.public_score:.5f} of champion {before.version} (they differ on {differ} rows); "
        f"{champion.version} is no longer champion and is not promoted again",
    )


def find_held_out_alarm(
    champion: Scored, accuracy: float, rows: int, current: str | None, fallback: str | None = None
) -> Alarm | None:
    """Compare a champion's public score with its own held-out accuracy; None if it is not too low.

    Args:
        champion: one without an earlier champion whose score is known.
        accuracy: on its held-out rows.
        rows: number of its held-out rows.
        current: who is champion now, itself or a later one; None if nobody is.
        fallback: the champion before it; None if it is the first one.
    """
    tested = champion.scored_rows
    error = (round((1 - accuracy) * rows) + 2) / (rows + 4)  # so that no error at all is not taken as certain
    deviation = math.sqrt(error * (1 - error) * (1 / tested + 1 / rows))
    bound = max(DEVIATIONS * deviation, ROWS_MIN / tested)
    if not champion.public_score < accuracy - bound:
        return None
    facts = (
        f"{champion.called} {champion.public_score:.5f} of {champion.version} is more than {bound:.5f} below "
        f"its accuracy {accuracy:.5f} on {rows:,} held-out rows; it is not promoted again"
    )
    found = Alarm(champion.version, fallback, facts)
    after = champion_after(found, current)
    if after is None:
        end = "there is no champion until the next promotion"
    else:
        end = f"{after} stays champion" if after == current else f"{after} is champion again"
    return replace(found, reason=f"{facts}, and {end}")


def champion_after(alarm: Alarm, current: str | None) -> str | None:
    """Return who is champion after an alarm: a later champion stays, else the one before takes over."""
    return alarm.fallback if current == alarm.version else current
