"""Finding the digit in photographs: in bad light, on lined paper, with a table at the edge."""

import numpy as np
import pytest

from mnist_core.digits import read_train
from mnist_core.errors import DataError
from mnist_core.images import from_image
from mnist_core.spec import DIGITS_MINI
from tests.core.photographs import CONDITIONS, photograph


@pytest.fixture(scope="module")
def handwriting(unpack):
    """Ten digits of the small competition, one of each class."""
    train = read_train(unpack(DIGITS_MINI) / "train.csv")
    return [train.pixels[np.flatnonzero(train.labels == label)[0]] for label in range(10)]


def likeness(a, b):
    """Return the correlation of two digits at the best of nine shifts, up to 1."""
    moves = [np.roll(a, (down, right), (0, 1)).ravel() for down in (-1, 0, 1) for right in (-1, 0, 1)]
    return max(np.corrcoef(moved, b.ravel())[0, 1] for moved in moves)


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_digit_is_found_in_a_photograph(handwriting, name):
    """Of ten photographs nine or more give the digit that was written."""
    found = []
    for seed, digit in enumerate(handwriting):
        try:
            found.append(likeness(from_image(photograph(digit, name, seed)), digit))
        except DataError:
            found.append(0.0)

    assert sorted(found)[1] > 0.8


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_photograph_without_a_digit_is_blank(name):
    """Paper, its lines, its frame and its shadows are no digit."""
    with pytest.raises(DataError, match="the picture is blank"):
        from_image(photograph(np.zeros((28, 28), np.uint8), name, 0))
