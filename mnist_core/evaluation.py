"""How good a model is on held-out digits, and which of two models is better on the same digits."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, lgamma, log, sqrt

import numpy as np
from numpy.typing import NDArray

from mnist_core.errors import DataError
from mnist_core.metric import Metric
from mnist_core.spec import DIGIT_RECOGNIZER, CompetitionSpec

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
    """int64 (10, 10), counts, [true class, predicted class]."""
    hardest: NDArray[np.int64]
    """int64 (n,), all rows, the one whose true class got the lowest probability first."""


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
    """Two-sided, exact: the probability of a split at least this uneven if both models are equally good."""


def evaluate(
    probabilities: NDArray[np.float32],
    labels: NDArray[np.int64],
    spec: CompetitionSpec = DIGIT_RECOGNIZER,
) -> Evaluation:
    """Evaluate predicted probabilities against the true labels.

    Args:
        probabilities: float (N, 10), each row a distribution over the classes.
        labels: int64 (N,), each 0..9. Of equal probabilities the lowest class is the prediction.
        spec: the competition's classes.

    Raises:
        DataError: N is 0, shapes do not match, a label is not a class, or a row of probabilities
            is not finite, is negative or does not sum to 1 (such as logits).
    """
    _check_labels("labels", labels, spec.class_count)
    n, classes = len(labels), spec.class_count
    if probabilities.shape != (n, classes):
        raise DataError(f"probabilities: shape {probabilities.shape}, expected ({n}, {classes})")
    # 0.01 lets half precision pass.
    right = (probabilities >= 0).all(axis=1) & (abs(probabilities.sum(axis=1, dtype=np.float64) - 1) < 0.01)
    if not right.all():
        row = int(np.argmin(right))
        raise DataError(
            f"probabilities: row {row} is not a distribution: {probabilities[row]}",
            "pass logits through a softmax",
        )
    predicted = probabilities.argmax(axis=1)
    correct = int((predicted == labels).sum())
    of_true = probabilities[np.arange(n), labels]
    return Evaluation(
        n=n,
        correct=correct,
        accuracy=correct / n,
        interval=wilson(correct, n),
        confusion=np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes),
        hardest=np.argsort(of_true, kind="stable").astype(np.int64),
    )


def compare(
    predicted_a: NDArray[np.int64],
    predicted_b: NDArray[np.int64],
    labels: NDArray[np.int64],
    classes: int = DIGIT_RECOGNIZER.class_count,
) -> Comparison:
    """Compare two models' predictions on the same rows, as McNemar does.

    Only the rows count that one of them has right and the other wrong.

    With A = only_a and B = only_b, the difference is (A - B) / n and its standard error
    √(A + B - (A - B)² / n) / n (A. Agresti, Categorical Data Analysis, 2nd ed. 2002, § 10.1);
    the p value is the exact binomial one of A among A + B at 1/2.

    Args:
        predicted_a, predicted_b: int64 (N,), each from 0 to below `classes`.
        labels: int64 (N,), the true classes.
        classes: number of the competition's classes.

    Raises:
        DataError: N is 0, the three differ in length, or a value is not a class.
    """
    for name, array in (("predicted_a", predicted_a), ("predicted_b", predicted_b), ("labels", labels)):
        _check_labels(name, array, classes)
    n = len(labels)
    if not len(predicted_a) == len(predicted_b) == n:
        raise DataError(
            f"compare: {len(predicted_a):,} and {len(predicted_b):,} predictions for {n:,} labels",
            "let both models predict the same rows",
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


def calibrate(
    probabilities: NDArray[np.float32],
    labels: NDArray[np.int64],
    spec: CompetitionSpec = DIGIT_RECOGNIZER,
) -> float:
    """Return the temperature that calibrates probabilities (Guo et al., arXiv 1706.04599).

    log p / temperature, as logits, has the lowest cross entropy on these digits. Predicted classes do not
    change with it.

    Args:
        probabilities: float (N, 10), each row a distribution.
        labels: int64 (N,), the true classes, of rows that the model was not trained on.
        spec: the competition's classes.

    Returns:
        0.2 to 5: above 1 if the model is overconfident, below 1 if it is underconfident.

    Raises:
        DataError: as `evaluate`.
    """
    evaluate(probabilities, labels, spec)  # the checks
    logits = np.log(np.maximum(probabilities.astype(np.float64), 1e-12))
    at = np.arange(len(labels))

    def cross_entropy(sharpness: float) -> float:
        scaled = logits * sharpness
        return float((np.log(np.exp(scaled).sum(1)) - scaled[at, labels]).mean())

    low, high = 0.2, 5.0  # of the sharpness, 1 / temperature, in which the cross entropy is convex
    while high - low > 1e-3:
        third = (high - low) / 3
        if cross_entropy(low + third) < cross_entropy(high - third):
            high -= third
        else:
            low += third
    return round(2 / (low + high), 3)


def wilson(correct: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a proportion.

    It stays within 0..1 and is right near 1, where ±2·√(p(1 - p)/n) is not.

    Source: E. B. Wilson, Probable Inference, the Law of Succession, and Statistical Inference, JASA 1927.
    """
    p, z2 = correct / n, _Z**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z * sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def score_interval(score: float, spec: CompetitionSpec) -> tuple[float, float]:
    """Return the 95 % interval of a public score: the score twice without its rows, or if not an accuracy."""
    rows = spec.scored_rows
    if rows is None or spec.metric is not Metric.ACCURACY:
        return score, score
    return wilson(round(score * rows), rows)


def _binomial(a: int, b: int) -> float:
    """Return the two-sided exact p value of a against b if both are equally probable."""
    n = a + b
    tail = sum(
        exp(lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) - n * log(2)) for k in range(min(a, b) + 1)
    )
    return min(1.0, 2 * tail)


def _check_labels(name: str, labels: NDArray[np.int64], classes: int) -> None:
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"{name}: {labels.dtype} with shape {labels.shape}, expected int64 (N,)")
    if not len(labels):
        raise DataError(f"{name}: has no rows")
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise DataError(f"{name}: row {wrong[0]} is {labels[wrong[0]]}, expected 0..{classes - 1}")
