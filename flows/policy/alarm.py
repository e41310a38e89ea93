"""The alarm: a public score that contradicts the champion before it.

Of d test rows on which two equally good versions differ, the difference of their correct rows has a standard
deviation of at most √d. A champion whose score is more than four of these lower is a bad one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flows.policy.champions import demotions
from flows.records import ChampionEntry, Demotion

DEVIATIONS = 4
"""Standard deviations of the difference between two equally good versions that raise the alarm."""


@dataclass(frozen=True, eq=False)
class Scored:
    """A champion with its public score.

    Attributes:
        public_score: share of the test rows that are right, 0..1.
        labels: int64 (rows of the test file,), its predictions.
    """

    version: str
    public_score: float
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Alarm:
    """A champion that must be demoted.

    Attributes:
        version: the champion with the low score.
        fallback: the champion before it, which is champion again if no later one is; empty if the alarm was
            acted on already.
        reason: for people.
    """

    version: str
    fallback: str
    reason: str


def recorded_alarm(version: str, champions: Sequence[ChampionEntry]) -> Alarm | None:
    """Return the alarm by which a version was demoted already; None if it was not."""
    entry = demotions(champions).get(version)
    if entry is None or entry.cause is not Demotion.ALARM:
        return None
    return Alarm(version, "", entry.reason)


def find_alarm(champion: Scored, before: Scored) -> Alarm | None:
    """Compare a champion's public score with that of an earlier champion; None if it is not too low."""
    rows = len(champion.labels)
    differ = int((champion.labels != before.labels).sum())
    bound = DEVIATIONS * math.sqrt(differ) / rows
    if not champion.public_score < before.public_score - bound:
        return None
    return Alarm(
        champion.version,
        before.version,
        f"public score {champion.public_score:.5f} of {champion.version} is more than {bound:.5f} below "
        f"{before.public_score:.5f} of champion {before.version} (they differ on {differ} rows); "
        f"{champion.version} is no longer champion and is not promoted again",
    )


def champion_after(alarm: Alarm, current: str | None) -> str:
    """Return who is champion after an alarm: a later champion stays, else the one before takes over."""
    return alarm.fallback if current is None or current == alarm.version else current
