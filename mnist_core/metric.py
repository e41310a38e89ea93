"""How competitions score submissions."""

from __future__ import annotations

from enum import StrEnum


class Metric(StrEnum):
    """How a competition scores a submission."""

    ACCURACY = "accuracy"
    MACRO_F1 = "macro_f1"
    LOG_LOSS = "log_loss"

    @property
    def higher_is_better(self) -> bool:
        """Whether the better of two scores is the higher one."""
        return self is not Metric.LOG_LOSS

    @property
    def of_probabilities(self) -> bool:
        """Whether a submission holds a probability for each class instead of a label."""
        return self is Metric.LOG_LOSS
