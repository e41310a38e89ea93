"""Accuracy, its error, the hardest digits, and two models on the same rows."""

import numpy as np
import pytest

from mnist_core.errors import DataError
from mnist_core.evaluation import calibrate, compare, evaluate


def probabilities_of(predicted, confidence=0.9):
    """Return float32 (N, 10): each row gives one class `confidence`, and the others equal parts."""
    rows = np.full((len(predicted), 10), (1 - confidence) / 9, np.float32)
    rows[np.arange(len(predicted)), predicted] = confidence
    return rows


def test_a_small_evaluation():
    """Three of four are right: counts, accuracy, and the table with true classes by row."""
    evaluation = evaluate(probabilities_of([3, 7, 9, 4]), np.array([3, 7, 4, 4]))

    assert (evaluation.n, evaluation.correct, evaluation.accuracy) == (4, 3, 0.75)
    assert evaluation.confusion.dtype == np.int64
    assert {(t, p): int(evaluation.confusion[t, p]) for t, p in np.argwhere(evaluation.confusion)} == {
        (3, 3): 1,
        (7, 7): 1,
        (4, 9): 1,
        (4, 4): 1,
    }


def test_the_hardest_rows_come_first():
    """Rows are sorted by the probability of their true class; equal rows keep their order."""
    rows = np.zeros((5, 10), np.float32)
    rows[:, 8] = [0.5, 0.01, 0.5, 0.0, 0.97]
    rows[:, 1] = 1 - rows[:, 8]

    hardest = evaluate(rows, np.full(5, 8)).hardest

    assert hardest.dtype == np.int64
    assert hardest.tolist() == [3, 1, 0, 2, 4]


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"),
    [
        (8, 10, 0.4902, 0.9433),  # R: prop.test(8, 10, correct = FALSE)
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (1, 1, 0.2065, 1.0),
        (8350, 8400, 0.9922, 0.9955),
    ],
)
def test_wilsons_interval(correct, n, low, high):
    """The interval has known values, and stays within 0..1 at both ends."""
    predicted = np.repeat([1, 2], [correct, n - correct])

    interval = evaluate(probabilities_of(predicted), np.full(n, 1)).interval

    assert interval == pytest.approx((low, high), abs=5e-5)
    assert 0 <= interval[0] < correct / n or correct == 0
    assert interval[1] <= 1


@pytest.mark.parametrize(
    ("rows", "labels", "message"),
    [
        (np.zeros((0, 10), np.float32), np.zeros(0, np.int64), "labels: has no rows"),
        (probabilities_of([1, 2]), np.array([1]), r"probabilities: shape \(2, 10\), expected \(1, 10\)"),
        (probabilities_of([1, 2])[:, :9], np.array([1, 2]), r"shape \(2, 9\)"),
        (probabilities_of([1, 2]), np.array([1, 10]), "labels: row 1 is 10, expected 0..9"),
        (probabilities_of([1, 2]), np.array([-1, 1]), "labels: row 0 is -1"),
        (probabilities_of([1, 2]), np.array([1.0, 2.0]), "labels: float64"),
        (np.full((2, 10), np.nan, np.float32), np.array([1, 2]), "row 0 is not a distribution"),
        (np.full((2, 10), np.inf, np.float32), np.array([1, 2]), "row 0 is not a distribution"),
        (np.eye(10, dtype=np.float32)[:2] * 7 - 1, np.array([1, 2]), "pass logits through a softmax"),
        (np.zeros((2, 10), np.float32), np.array([1, 2]), "row 0 is not a distribution"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(rows, labels, message):
    """Shapes that differ, invalid labels, and logits in place of probabilities are errors."""
    with pytest.raises(DataError, match=message):
        evaluate(rows, labels)


def test_a_small_comparison():
    """Of ten rows, only a is right on 3, and only b on 1."""
    labels = np.zeros(10, np.int64)
    a = np.array([0, 0, 0, 1, 0, 0, 1, 0, 0, 0])
    b = np.array([1, 1, 1, 0, 0, 0, 2, 0, 0, 0])

    comparison = compare(a, b, labels)

    assert (comparison.n, comparison.only_a, comparison.only_b) == (10, 3, 1)
    assert comparison.difference == pytest.approx(0.2)
    assert comparison.standard_error == pytest.approx(np.sqrt(4 - 4 / 10) / 10)
    assert comparison.p_value == pytest.approx(2 * (1 + 4) / 16)


def test_the_standard_error_is_that_of_the_paired_rows():
    """The formula is the standard deviation of (a right) - (b right) over the rows, divided by √n."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 5000)
    a, b = (np.where(rng.random(5000) < wrong, (labels + 1) % 10, labels) for wrong in (0.02, 0.03))
    paired = (a == labels).astype(float) - (b == labels)

    comparison = compare(a, b, labels)

    assert comparison.difference == pytest.approx(paired.mean())
    assert comparison.standard_error == pytest.approx(paired.std() / np.sqrt(5000))


def test_the_sides_can_be_swapped():
    """b against a gives what a against b gives, with the opposite sign."""
    labels = np.arange(10)
    a, b = labels.copy(), labels.copy()
    a[:2], b[3:9] = 9, 0

    ab, ba = compare(a, b, labels), compare(b, a, labels)

    assert (ab.only_a, ab.only_b) == (ba.only_b, ba.only_a)
    assert ab.difference == -ba.difference
    assert (ab.standard_error, ab.p_value) == (ba.standard_error, ba.p_value)


@pytest.mark.parametrize(
    ("only_a", "only_b", "p"),
    [(0, 0, 1.0), (5, 5, 1.0), (0, 1, 1.0), (1, 9, 0.021484375), (0, 10, 0.001953125), (40, 60, 0.0568879)],
)
def test_the_exact_p_value(only_a, only_b, p):
    """The p value has known values of the two-sided binomial test, and is 1 if both sides are even."""
    labels = np.zeros(100, np.int64)
    a, b = labels.copy(), labels.copy()
    b[:only_a] = 1
    a[only_a : only_a + only_b] = 1

    assert compare(a, b, labels).p_value == pytest.approx(p, rel=1e-5)


def test_a_comparison_of_very_different_models():
    """Thousands of rows that differ do not overflow and do not take long."""
    labels = np.zeros(28_000, np.int64)

    comparison = compare(labels, np.ones(28_000, np.int64), labels)

    assert comparison.difference == 1
    assert comparison.standard_error == 0
    assert comparison.p_value == 0


@pytest.mark.parametrize(
    ("a", "b", "labels", "message"),
    [
        ([1, 2], [1, 2, 3], [1, 2, 3], "2 and 3 predictions for 3 labels"),
        ([1, 2, 3], [1, 2, 3], [1, 2], "3 and 3 predictions for 2 labels"),
        ([1, 11], [1, 2], [1, 2], "predicted_a: row 1 is 11"),
        ([1.0, 2.0], [1, 2], [1, 2], "predicted_a: float64"),
        (np.zeros(0, np.int64), [1], [1], "predicted_a: has no rows"),
        ([[0.1] * 10], [1], [1], r"predicted_a: float64 with shape \(1, 10\)"),
    ],
)
def test_rows_that_do_not_match_are_refused(a, b, labels, message):
    """Models are compared on the same rows, or not at all."""
    with pytest.raises(DataError, match=message):
        compare(np.array(a), np.array(b), np.array(labels))


def test_an_overconfident_model_gets_a_temperature_above_one():
    """Calibration finds the temperature by which probabilities were sharpened or softened."""
    random = np.random.default_rng(0)
    calibrated = random.dirichlet(np.full(10, 0.2), 20_000)
    labels = (calibrated.cumsum(1) > random.random((20_000, 1))).argmax(1)

    for temperature in (0.5, 2.0):
        wrong = calibrated**temperature
        wrong = (wrong / wrong.sum(1, keepdims=True)).astype(np.float32)
        assert calibrate(wrong, labels) == pytest.approx(temperature, rel=0.05)
