"""The gate: whether a version may become champion.

It keeps bad versions out; a few thousand held-out rows cannot tell which of two good ones is better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from flows.held_out import HeldOut
from flows.policy.champions import demotions, was_champion
from flows.records import ChampionEntry

if TYPE_CHECKING:
    from mnist_core import Comparison


class Rule(StrEnum):
    """The rule that decided."""

    DEMOTED = "demoted"
    """It lost champion status permanently."""
    CHAMPION = "champion"
    """It is champion, or was."""
    FLOOR = "floor"
    SHARE = "share"
    """A class is missing among its predictions."""
    FIRST = "first"
    """There is no champion to compare it with."""
    UNCHANGED = "unchanged"
    """Its members are the champion's."""
    NOTHING_IN_COMMON = "nothing in common"
    """No row was held out from both."""
    MARGIN = "margin"
    """How its errors compare with the champion's decided."""
    AGREEMENT = "agreement"
    """Its predictions differ too much from the champion's."""


@dataclass(frozen=True)
class Limits:
    """Where the gate draws its lines.

    Attributes:
        floor: lowest held-out accuracy.
        share_min: lowest share of each class among the predictions for the test file.
        margin_errors, margin_rows: a challenger may have as many more errors than the champion as the larger
            of these: standard errors of the difference, and rows.
        agreement: lowest share of test rows on which challenger and champion agree.
    """

    floor: float
    share_min: float
    margin_errors: float
    margin_rows: int
    agreement: float


@dataclass(frozen=True, eq=False)
class Candidate:
    """A version as the gate sees it.

    Attributes:
        valid_accuracy: on its held-out rows.
        labels: int64 (rows of the test file,), its predictions, each the number of a class.
        held_out: its predictions for the rows that it was not trained on.
        members: the versions that an ensemble is made of; empty for a single network.
    """

    version: str
    valid_accuracy: float
    labels: NDArray[np.int64]
    held_out: HeldOut
    members: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """What the gate decided.

    Attributes:
        passed: whether the version may become champion.
        rule: the rule that decided.
        reason: for people.
        forced: whether it passes although the rule says otherwise.
    """

    passed: bool
    rule: Rule
    reason: str
    forced: bool = False

    def force(self) -> Verdict:
        """Return the verdict of a person who lets the version pass whatever the rule says."""
        if self.passed:
            return self
        return Verdict(True, self.rule, f"forced: {self.reason}", forced=True)


def standing(version: str, champions: Sequence[ChampionEntry]) -> Verdict | None:
    """Decide about a version that was champion already; None if it never was.

    Args:
        version: the one to judge.
        champions: all champions, the first one first.
    """
    if (demotion := demotions(champions).get(version)) is not None:
        return Verdict(False, Rule.DEMOTED, demotion.reason)
    if champions and champions[-1].version == version:
        return Verdict(True, Rule.CHAMPION, "it is the champion")
    if was_champion(champions, version):
        return Verdict(True, Rule.CHAMPION, "it was champion; a later version is champion now")
    return None


def judge(
    challenger: Candidate, champion: Candidate | None, limits: Limits, classes: Sequence[str]
) -> Verdict:
    """Decide whether a challenger may become champion.

    It must reach its floor, predict every class, have no more errors than the champion on the rows held out
    from both, within a margin, and agree with the champion on most test rows.

    Args:
        challenger: the version to judge.
        champion: the champion; None if there is none.
        limits: where the lines are.
        classes: names of the competition's classes, in the order of their numbers.
    """
    verdict = _judge_alone(challenger, limits, classes)
    if verdict is not None:
        return verdict
    if champion is None:
        return Verdict(
            True,
            Rule.FIRST,
            f"validation accuracy {challenger.valid_accuracy:.4f} reaches the floor {limits.floor:.4f}, "
            "and there is no champion",
        )
    return _judge_against(challenger, champion, limits)


def _judge_alone(challenger: Candidate, limits: Limits, classes: Sequence[str]) -> Verdict | None:
    """Reject what is bad whatever the champion is; None if it is not."""
    accuracy = challenger.valid_accuracy
    if not accuracy >= limits.floor:  # so that NaN is rejected
        return Verdict(
            False, Rule.FLOOR, f"validation accuracy {accuracy:.4f} is below the floor {limits.floor:.4f}"
        )
    shares = np.bincount(challenger.labels, minlength=len(classes)) / max(len(challenger.labels), 1)
    if shares.min() < limits.share_min:
        return Verdict(
            False,
            Rule.SHARE,
            f"class {classes[int(shares.argmin())]} is {shares.min():.1%} of its predictions, below "
            f"{limits.share_min:.1%} (MNIST_SHARE_MIN): the network or the test file is broken",
        )
    return None


def _judge_against(challenger: Candidate, champion: Candidate, limits: Limits) -> Verdict:
    name = champion.version
    if challenger.members and challenger.members == champion.members:
        return Verdict(
            False, Rule.UNCHANGED, "none of tonight's members replaces one of the champion's members"
        )
    compared = _compare_errors(challenger.held_out, champion.held_out)
    if compared is None:
        return Verdict(
            False,
            Rule.NOTHING_IN_COMMON,
            f"no row was held out from both it and champion {name}; train again with --fresh",
        )
    more = compared.only_b - compared.only_a
    error = compared.standard_error * compared.n
    margin = max(limits.margin_errors * error, limits.margin_rows)
    reason = (
        f"{abs(more)} errors {'fewer' if more < 0 else 'more'} than champion {name} on {compared.n} rows "
        f"held out from both (standard error {error:.1f}; up to {margin:.1f} more pass)"
    )
    if more > margin:
        return Verdict(False, Rule.MARGIN, reason)
    agreement = float((challenger.labels == champion.labels).mean())
    if agreement < limits.agreement:
        return Verdict(
            False,
            Rule.AGREEMENT,
            f"it agrees with champion {name} on {agreement:.2%} of the test rows, below "
            f"{limits.agreement:.2%} (MNIST_AGREEMENT); if the champion is the bad one, use --force",
        )
    return Verdict(True, Rule.MARGIN, reason)


def _compare_errors(challenger: HeldOut, champion: HeldOut) -> Comparison | None:
    """Compare two versions on the rows held out from both; None if there are none."""
    from mnist_core import compare

    rows, here, there = np.intersect1d(challenger.rows, champion.rows, return_indices=True)
    if not len(rows):
        return None
    return compare(challenger.predicted[here], champion.predicted[there], challenger.labels[here])
