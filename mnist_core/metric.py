"""How competitions score submissions."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SMALLEST = 1e-15
"""What a probability of 0 counts as in a log loss: one row must not decide it all."""


class Metric(StrEnum):
    """How a competition scores a submission."""

    ACCURACY = "accuracy"
    MACRO_F1 = "macro_f1"
    LOG_LOSS = "log_loss"

    @property
    def words(self) -> str:
        """What sentences call it."""
        return {Metric.MACRO_F1: "macro F1"}.get(self, self.value.replace("_", " "))

    @property
    def higher_is_better(self) -> bool:
        """Whether the better of two scores is the higher one."""
        return self is not Metric.LOG_LOSS

    @property
    def of_probabilities(self) -> bool:
        """Whether a submission holds a probability for each class instead of a label."""
        return self is Metric.LOG_LOSS

    def is_possible(self, score: float) -> bool:
        """Return whether a number can be a score; NaN cannot."""
        return 0 <= score <= (1 if self.higher_is_better else float("inf"))

    def of(self, probabilities: NDArray[np.floating], labels: NDArray[np.int64]) -> float:
        """Return the score of predictions, as a competition gives it.

        Args:
            probabilities: (N, classes), for each row.
            labels: int64 (N,), the true classes.
        """
        import numpy as np

        predicted = probabilities.argmax(1)
        if self is Metric.ACCURACY:
            return float((predicted == labels).mean())
        if self is Metric.MACRO_F1:
            size = probabilities.shape[1]
            right = np.bincount(labels[predicted == labels], minlength=size)
            either = np.bincount(predicted, minlength=size) + np.bincount(labels, minlength=size)
            return float((2 * right[either > 0] / either[either > 0]).mean())
        shares = probabilities / probabilities.sum(1, keepdims=True, dtype=np.float64)
        return float(-np.log(shares[np.arange(len(labels)), labels].clip(SMALLEST, 1 - SMALLEST)).mean())
