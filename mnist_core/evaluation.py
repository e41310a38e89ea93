"""How good a model is on digits it has not seen, and which of two is better on the same digits."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, lgamma, log, sqrt

import numpy as np
from numpy.typing import NDArray

from mnist_core.digits import CLASSES
from mnist_core.errors import DataError

_Z = 1.959963984540054  # 97.5 % quantile of the normal distribution: intervals of 95 %


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A model's results on n labelled digits."""

    n: int
    correct: int
    accuracy: float
    """correct / n."""
    interval: tuple[float, float]
    """95 % confidence interval of the accuracy (low, high), after Wilson."""
    confusion: NDArray[np.int64]
    """int64 (10, 10), counts, [true digit, predicted digit]."""
    hardest: NDArray[np.int64]
    """int64 (n,), all rows, the one whose true digit got the lowest probability first."""


@dataclass(frozen=True)
class Comparison:
    """Two models, a and b, on the same n labelled digits."""

    n: int
    only_a: int
    """Rows that a has right and b has wrong."""
    only_b: int
    """Rows that b has right and a has wrong."""
    difference: float
    """Accuracy of a minus accuracy of b."""
    standard_error: float
    """Of the difference, paired."""
    p_value: float
    """Two-sided, exact: how probable rows this uneven are if both models are equally good."""


def evaluate(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> Evaluation:
    """Evaluate predicted probabilities against the true labels.

    Args:
        probabilities: float (N, 10), each row a distribution over the digits 0..9.
        labels: int64 (N,), each 0..9. Of equal probabilities the lowest digit is the prediction.

    Raises:
        DataError: N is 0, shapes do not match, a label is no digit, or a row of probabilities
            is not finite, is negative or does not sum to 1 (logits, say).
    """
    _check_labels("labels", labels)
    n = len(labels)
    if probabilities.shape != (n, CLASSES):
        raise DataError(f"probabilities: shape {probabilities.shape}, expected ({n}, {CLASSES})")
    # 0.01 lets half precision pass.
    right = (probabilities >= 0).all(axis=1) & (abs(probabilities.sum(axis=1, dtype=np.float64) - 1) < 0.01)
    if not right.all():
        row = int(np.argmin(right))
        raise DataError(
            f"probabilities: row {row} is no distribution: {probabilities[row]}; logits need a softmax"
        )
    predicted = probabilities.argmax(axis=1)
    correct = int((predicted == labels).sum())
    of_true = probabilities[np.arange(n), labels]
    return Evaluation(
        n=n,
        correct=correct,
        accuracy=correct / n,
        interval=wilson(correct, n),
        confusion=np.bincount(labels * CLASSES + predicted, minlength=CLASSES**2).reshape(CLASSES, CLASSES),
        hardest=np.argsort(of_true, kind="stable").astype(np.int64),
    )


def compare(
    predicted_a: NDArray[np.int64], predicted_b: NDArray[np.int64], labels: NDArray[np.int64]
) -> Comparison:
    """Compare two models' predicted digits on the same rows, as McNemar does: only the rows count that one
    of them has right and the other wrong.

    With A = only_a and B = only_b, the difference is (A - B) / n and its standard error
    √(A + B - (A - B)² / n) / n (A. Agresti, Categorical Data Analysis, 2nd ed. 2002, § 10.1);
    the p value is the exact binomial one of A among A + B at 1/2.

    Args:
        predicted_a, predicted_b: int64 (N,), each 0..9.
        labels: int64 (N,), the true digits.

    Raises:
        DataError: N is 0, the three are not of one length, or a value is no digit.
    """
    for name, array in (("predicted_a", predicted_a), ("predicted_b", predicted_b), ("labels", labels)):
        _check_labels(name, array)
    n = len(labels)
    if not len(predicted_a) == len(predicted_b) == n:
        raise DataError(
            f"compare: {len(predicted_a):,} and {len(predicted_b):,} predictions for {n:,} labels; "
            "both models must have predicted the same rows"
        )
    a, b = predicted_a == labels, predicted_b == labels
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    return Comparison(
        n=n,
        only_a=only_a,
        only_b=only_b,
        difference=(only_a - only_b) / n,
        standard_error=sqrt(only_a + only_b - (only_a - only_b) ** 2 / n) / n,
        p_value=_binomial(only_a, only_b),
    )


def calibrate(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Give the temperature that makes probabilities honest: log p / temperature, as logits, has the lowest
    cross entropy on these digits (Guo et al., arXiv 1706.04599). Labels do not change with it.

    Args:
        probabilities: float (N, 10), each row a distribution.
        labels: int64 (N,), the true digits, of rows that the model was not trained on.

    Returns:
        0.2 to 5: above 1 where the model was too sure, below 1 where it was not sure enough.

    Raises:
        DataError: as `evaluate`.
    """
    evaluate(probabilities, labels)  # the checks
    logits = np.log(np.maximum(probabilities.astype(np.float64), 1e-12))
    at = np.arange(len(labels))

    def surprise(sharpness: float) -> float:
        scaled = logits * sharpness
        return float((np.log(np.exp(scaled).sum(1)) - scaled[at, labels]).mean())

    low, high = 0.2, 5.0  # of the sharpness, 1 / temperature, in which the cross entropy is convex
    while high - low > 1e-3:
        third = (high - low) / 3
        if surprise(low + third) < surprise(high - third):
            high -= third
        else:
            low += third
    return round(2 / (low + high), 3)


def wilson(correct: int, n: int) -> tuple[float, float]:
    """95 % interval of a proportion; it stays within 0..1 and is right near 1, where ±2·√(p(1 - p)/n) is not.

    Source: E. B. Wilson, Probable Inference, the Law of Succession, and Statistical Inference, JASA 1927.
    """
    p, z2 = correct / n, _Z**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z * sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def _binomial(a: int, b: int) -> float:
    """Two-sided exact p value of a against b where each is as probable as the other."""
    n = a + b
    tail = sum(
        exp(lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) - n * log(2)) for k in range(min(a, b) + 1)
    )
    return min(1.0, 2 * tail)


def _check_labels(name: str, labels: NDArray[np.int64]) -> None:
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"{name}: {labels.dtype} with shape {labels.shape}, expected int64 (N,)")
    if not len(labels):
        raise DataError(f"{name}: there is no row")
    wrong = np.flatnonzero((labels < 0) | (labels >= CLASSES))
    if len(wrong):
        raise DataError(f"{name}: row {wrong[0]} is {labels[wrong[0]]}, expected 0..9")
