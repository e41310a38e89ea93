"""Stratified folds: which rows a network is trained on, and which judge it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mnist_core.digits import check_array
from mnist_core.errors import DataError

FOLDS = 5
"""Folds of the training file; fold 0 is held out from a single network."""


def assign_folds(labels: NDArray[np.int64], data_digest: str, count: int = FOLDS) -> NDArray[np.uint8]:
    """Deal rows to stratified folds of equal size; fold 0 holds the validation rows.

    Args:
        labels: int64 (N,), each the number of a class.
        data_digest: hexadecimal digest of the data. The same labels and digest give the same folds
            permanently: they are drawn from PCG64's raw output, which numpy promises never to change.
        count: number of folds, 2..255.

    Returns:
        uint8 (N,), the fold of each row, 0..count-1. Folds differ by at most one row, in total and in each
        class: the 42,000 rows of train.csv make 5 × 8,400.

    Raises:
        DataError: the labels are not int64 (N,), the digest is not hexadecimal, or count is out of range.
    """
    check_array("labels", labels, np.int64, 1)
    if not 2 <= count <= 255:
        raise DataError(f"folds: count {count}, expected 2..255")
    if not data_digest or set(data_digest.lower()) - set("0123456789abcdef"):
        raise DataError(f"folds: the data digest {data_digest!r} is not a hexadecimal number")
    shuffle = np.random.PCG64(int(data_digest, 16)).random_raw(len(labels))
    fold = np.empty(len(labels), np.uint8)
    # By class, in random order within the class, then dealt like cards.
    fold[np.lexsort((shuffle, labels))] = np.arange(len(labels)) % count
    return fold
