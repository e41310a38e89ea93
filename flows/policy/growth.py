"""How an ensemble grows: which members it has after a night, and what they predict together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from flows.held_out import HeldOut


@dataclass(frozen=True)
class Growth:
    """The members of an ensemble after a night.

    Attributes:
        members: versions, in order.
        notes: for each of the night's members that found no free place, what became of it, for people.
    """

    members: tuple[str, ...]
    notes: tuple[str, ...] = ()


def member_number(member: int, night: str, *, size: int, limit: int, per_night: int) -> int:
    """Return which member of an ensemble one of the night's members is, counted from 0.

    The number decides the fold that is held out (its remainder by the number of folds) and the recipe.
    Members are numbered on from the champion's. A full ensemble does not grow, so there the night's date
    counts on: each fold has its turn to be replaced.

    Args:
        member: of the night, from 1.
        night: UTC date as `2026-11-23`.
        size: members of the champion.
        limit: most members of an ensemble.
        per_night: members that a night trains.
    """
    before = size if size < limit else date.fromisoformat(night).toordinal() * per_night
    return before + member - 1


def grow(
    before: Sequence[str], tonight: Sequence[str], folds: Mapping[str, int | None], limit: int
) -> Growth:
    """Choose the members of tonight's ensemble: the champion's, then tonight's, up to the limit.

    Beyond the limit a new member replaces the oldest one of its own fold, whichever of them is better: the
    held-out rows judge the whole, so they must not choose its parts.

    Args:
        before: the champion's members.
        tonight: the members that this night trained.
        folds: the fold that each of them holds out, by version.
        limit: most members.
    """
    members, notes = list(before), []
    for name in tonight:
        if name in members:
            continue
        if len(members) < limit:
            members.append(name)
            continue
        fold = [old for old in members if folds[old] == folds[name] and old not in tonight]
        if not fold:
            notes.append(f"{name} is not used: no earlier member of the full ensemble holds out its fold")
            continue
        oldest = min(fold)  # a name begins with its night; of one night the first by name
        members[members.index(oldest)] = name
        notes.append(f"{name} replaces {oldest}, the oldest member of its fold")
    return Growth(tuple(members), tuple(notes))


def combine(members: Sequence[HeldOut]) -> tuple[HeldOut, float | None]:
    """Return what an ensemble predicts for each row: the mean of the members that held the row out.

    Returns:
        The predictions for all rows that at least one member held out, in order; and, of the rows that
        several held out, the share on which these agree; None if there are no such rows.
    """
    size = max(int(member.rows.max()) for member in members) + 1
    classes = members[0].probabilities.shape[1]
    sums, counts = np.zeros((size, classes)), np.zeros(size, np.int64)
    labels, votes = np.zeros(size, np.int64), np.zeros((size, classes), np.int64)
    for member in members:
        sums[member.rows] += member.probabilities
        counts[member.rows] += 1
        labels[member.rows] = member.labels
        votes[member.rows, member.predicted] += 1
    rows = np.flatnonzero(counts)
    several = counts > 1
    agreement = float((votes.max(1) == counts)[several].mean()) if several.any() else None
    probabilities = (sums[rows] / counts[rows, None]).astype(np.float32)
    return HeldOut(rows, labels[rows], probabilities), agreement
