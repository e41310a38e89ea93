"""How competitions score: by hand, and as the practice server does it by itself."""

import math

import numpy as np
import pytest

from mnist_core.metric import Metric

PROBABILITIES = np.array([[0.6, 0.4, 0.0], [0.5, 0.5, 0.0], [0.2, 0.8, 0.0], [0.0, 0.0, 1.0]])
LABELS = np.array([0, 1, 1, 2])


@pytest.mark.parametrize(
    ("metric", "score"),
    [
        (Metric.ACCURACY, 0.75),
        (Metric.MACRO_F1, (2 / 3 + 2 / 3 + 1) / 3),
        (Metric.LOG_LOSS, -(math.log(0.6) + math.log(0.5) + math.log(0.8)) / 4),
    ],
)
def test_a_score_by_hand(metric, score):
    """Three of four rows are right, and the wrong one is of a class that is also predicted too seldom."""
    assert metric.of(PROBABILITIES, LABELS) == pytest.approx(score)


def test_a_class_without_probability_does_not_make_the_loss_infinite():
    """One row alone does not decide everything, and rows are scaled to a sum of 1."""
    loss = Metric.LOG_LOSS.of(np.array([[2.0, 2.0], [0.0, 1.0]]), np.array([0, 0]))

    assert loss == pytest.approx((math.log(2) - math.log(1e-15)) / 2)


@pytest.mark.parametrize(
    ("metric", "possible"), [(Metric.ACCURACY, False), (Metric.MACRO_F1, False), (Metric.LOG_LOSS, True)]
)
def test_what_can_be_a_score(metric, possible):
    """Only a loss may be above 1; nothing is below 0 or not a number."""
    assert metric.is_possible(1.5) is possible
    assert metric.is_possible(0.5)
    assert not metric.is_possible(-0.1)
    assert not metric.is_possible(math.nan)
