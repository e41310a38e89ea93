"""Stratified folds."""

import numpy as np
import pytest

from mnist_core.errors import DataError
from mnist_core.folds import assign_folds


def test_folds_are_equal_and_stratified(full_size):
    """Kaggle's 42,000 rows make five times 8,400, and each class is spread evenly."""
    fold = assign_folds(full_size.labels, "5eed")

    assert fold.dtype == np.uint8
    assert np.bincount(fold).tolist() == [8400] * 5
    classes = np.array([np.bincount(full_size.labels[fold == k], minlength=10) for k in range(5)])
    assert (classes.max(axis=0) - classes.min(axis=0) <= 1).all()


@pytest.mark.parametrize("count", [2, 3, 7])
def test_any_number_of_folds(count, synthetic):
    """If the number of rows is not divisible, folds differ by one row at most."""
    sizes = np.bincount(assign_folds(synthetic(100).labels, "ab", count), minlength=count)

    assert sizes.max() - sizes.min() <= 1
    assert sizes.sum() == 100


def test_folds_never_change():
    """Versions of different nights are compared on fold 0, so the folds are pinned here permanently."""
    labels = np.array([3, 1, 3, 1, 3, 1, 3, 1, 0, 9, 9, 0])
    pinned = [1, 0, 2, 4, 4, 2, 3, 3, 1, 1, 0, 0]

    assert assign_folds(labels, "06af5dfe73b70e3b").tolist() == pinned
    assert assign_folds(labels, "06af5dfe73b70e3c").tolist() != pinned


@pytest.mark.parametrize(
    ("labels", "digest", "count", "message"),
    [
        (np.zeros(9, np.int64), "no digest", 5, "'no digest' is not a hexadecimal"),
        (np.zeros(9, np.int64), "-5", 5, "'-5' is not a hexadecimal"),
        (np.zeros(9, np.int64), "", 5, "'' is not a hexadecimal"),
        (np.zeros(9, np.int64), "5eed", 1, "count 1"),
        (np.zeros(9, np.int64), "5eed", 256, "count 256"),
        (np.zeros(9, np.uint8), "5eed", 5, "labels: uint8"),
    ],
)
def test_folds_refuse_invalid_arguments(labels, digest, count, message):
    """An invalid digest is an error: it would give other folds without notice."""
    with pytest.raises(DataError, match=message):
        assign_folds(labels, digest, count)
