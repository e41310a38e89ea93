"""The gate: whether a version may become champion.

It keeps bad versions out; a few thousand held-out rows cannot tell which of two good ones is better.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from flows.held_out import HeldOut
from flows.policy.champions import was_champion
from flows.records import ChampionEntry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


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
    DRIFT = "drift"
    """It is worse than an earlier champion, which small steps down have left behind."""
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


def default_floor(classes: int, rows: int) -> float:
    """Return the lowest held-out accuracy if nobody states one: half way from chance to no error.

    On few rows it is as much lower as an accuracy may be by chance (two standard errors). What a good network
    reaches differs by competition: this keeps out what has not learnt.

    Args:
        classes: of the competition.
        rows: held-out rows of the version.
    """
    chance = 1 / classes
    return max(chance, (1 + chance) / 2 - 1 / math.sqrt(max(rows, 1)))


def lowest_share(share_min: float, held_out: NDArray[np.int64], classes: int, rows: int) -> float:
    """Return the lowest share of a class among the predictions if nobody states one.

    It is lower than `share_min` if the rarest class is: 60 % of its share of the held-out rows, and on few
    rows less, so that a class with its own share falls below it by chance once in a million (five standard
    deviations of its count).

    Args:
        share_min: for classes that are equally frequent.
        held_out: int64, true classes of the held-out rows.
        classes: their number.
        rows: of the test file.
    """
    import numpy as np

    rarest = float(np.bincount(held_out, minlength=classes).min()) / max(len(held_out), 1)
    return max(0.0, min(share_min, 0.6 * rarest, rarest - 5 * math.sqrt(rarest / max(rows, 1))))


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


@dataclass(frozen=True, eq=False)
class Reference:
    """An earlier champion, on whose level the challengers must stay.

    Attributes:
        held_out: its predictions for the rows that it was not trained on.
    """

    version: str
    held_out: HeldOut


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
        """Return the verdict of a person who lets the version pass whatever the rule says.

        What was demoted stays so: that a score or a person found it bad is more than the gate knows.
        """
        if self.passed or self.rule is Rule.DEMOTED:
            return self
        return Verdict(True, self.rule, f"forced: {self.reason}", forced=True)


def standing(version: str, last: ChampionEntry | None, demotion: ChampionEntry | None) -> Verdict | None:
    """Decide about a version that was champion already; None if it never was.

    Args:
        version: the one to judge.
        last: the last entry of the list of champions; None if it is empty.
        demotion: the entry that demoted the version; None if it is not demoted.
    """
    if demotion is not None:
        return Verdict(False, Rule.DEMOTED, demotion.reason)
    if last is not None and last.version == version:
        return Verdict(True, Rule.CHAMPION, "it is the champion")
    if was_champion(last, version):
        return Verdict(True, Rule.CHAMPION, "it was champion; a later version is champion now")
    return None


def judge(
    challenger: Candidate,
    champion: Candidate | None,
    limits: Limits,
    classes: Sequence[str],
    reference: Reference | None = None,
) -> Verdict:
    """Decide whether a challenger may become champion.

    It must reach its floor, predict every class, have no more errors than the champion on the rows held out
    from both, within a margin, nor than an earlier champion, and agree with the champion on most test rows.

    Args:
        challenger: the version to judge.
        champion: the champion; None if there is none.
        limits: where the lines are.
        classes: names of the competition's classes, in the order of their numbers.
        reference: the champion of many promotions ago; None if there is none.
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
    return _judge_against(challenger, champion, limits, reference)


def _judge_alone(challenger: Candidate, limits: Limits, classes: Sequence[str]) -> Verdict | None:
    """Reject what is bad whatever the champion is; None if it is not."""
    accuracy = challenger.valid_accuracy
    if not accuracy >= limits.floor:  # so that NaN is rejected
        return Verdict(
            False, Rule.FLOOR, f"validation accuracy {accuracy:.4f} is below the floor {limits.floor:.4f}"
        )
    import numpy as np

    shares = np.bincount(challenger.labels, minlength=len(classes)) / max(len(challenger.labels), 1)
    if shares.min() < limits.share_min:
        return Verdict(
            False,
            Rule.SHARE,
            f"class {classes[int(shares.argmin())]} of {len(classes)} is {shares.min():.1%} of its "
            f"predictions, below {limits.share_min:.1%} (MNIST_SHARE_MIN): the network or the test file is "
            "broken",
        )
    return None


def _judge_against(
    challenger: Candidate, champion: Candidate, limits: Limits, reference: Reference | None
) -> Verdict:
    name = champion.version
    if challenger.members and challenger.members == champion.members:
        return Verdict(
            False, Rule.UNCHANGED, "none of tonight's members replaces one of the champion's members"
        )
    found = _compare_errors(challenger.held_out, champion.held_out, limits)
    if found is None:
        return Verdict(
            False,
            Rule.NOTHING_IN_COMMON,
            f"no row was held out from both it and champion {name}; train again with --fresh",
        )
    reason = found.reason(f"champion {name}")
    if not found.within:
        return Verdict(False, Rule.MARGIN, reason)
    drift = None if reference is None else _compare_errors(challenger.held_out, reference.held_out, limits)
    if reference is not None and drift is not None and not drift.within:
        return Verdict(False, Rule.DRIFT, drift.reason(f"the earlier champion {reference.version}"))
    agreement = float((challenger.labels == champion.labels).mean())
    if agreement < limits.agreement:
        return Verdict(
            False,
            Rule.AGREEMENT,
            f"it agrees with champion {name} on {agreement:.2%} of the test rows, below "
            f"{limits.agreement:.2%} (MNIST_AGREEMENT); if the champion is the bad one, use --force",
        )
    return Verdict(True, Rule.MARGIN, reason)


@dataclass(frozen=True)
class _Difference:
    """The errors of a challenger beside another version's, on the rows held out from both.

    Attributes:
        more: errors that the challenger makes beyond the other's; negative if it makes fewer.
        rows: that were compared.
        error: standard error of `more`.
        margin: how many more errors pass.
    """

    more: int
    rows: int
    error: float
    margin: float

    @property
    def within(self) -> bool:
        return self.more <= self.margin

    def reason(self, other: str) -> str:
        errors = f"{abs(self.more):,} {'error' if abs(self.more) == 1 else 'errors'}"
        count = f"{errors} {'fewer' if self.more < 0 else 'more'} than" if self.more else "as many errors as"
        return (
            f"{count} {other} on {self.rows:,} rows "
            f"held out from both (standard error {self.error:.1f}; up to {self.margin:.1f} more pass)"
        )


def _compare_errors(challenger: HeldOut, other: HeldOut, limits: Limits) -> _Difference | None:
    """Compare two versions on the rows held out from both; None if there are none."""
    import numpy as np

    from mnist_core import compare

    rows, here, there = np.intersect1d(challenger.rows, other.rows, return_indices=True)
    if not len(rows):
        return None
    classes = challenger.probabilities.shape[1]
    found = compare(challenger.predicted[here], other.predicted[there], challenger.labels[here], classes)
    error = found.standard_error * found.n
    return _Difference(
        more=found.only_b - found.only_a,
        rows=found.n,
        error=error,
        margin=max(limits.margin_errors * error, limits.margin_rows),
    )
