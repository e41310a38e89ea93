"""Sheets of digits, and the confusion table as a picture."""

import subprocess
import sys

import numpy as np
import pytest

from mnist_core.drawing import CORRECT, ERRORS, PAPER, confusion_picture, error_captions, pick_by_class, sheet
from mnist_core.errors import DataError


def test_a_sheet_shows_each_digit_crisply(synthetic):
    """Digit 7 of a sheet of five columns is in the second row, third column, each pixel a square."""
    pixels = synthetic(12).pixels

    picture = np.asarray(sheet(pixels, columns=5, scale=3, gap=2))

    assert picture.shape == (2 + 3 * 86, 2 + 5 * 86, 3)
    tile = picture[2 + 86 : 2 + 86 + 84, 2 + 2 * 86 : 2 + 2 * 86 + 84]
    assert np.array_equal(tile, np.repeat(np.kron(pixels[7], np.ones((3, 3), np.uint8))[..., None], 3, 2))
    assert (picture[-84:, -84:] == PAPER).all()


def test_the_cover_is_digits_edge_to_edge(synthetic):
    """Without gap and scale a sheet is the digits themselves, as on the cover of the original notebooks."""
    pixels = synthetic(25).pixels

    picture = sheet(pixels, columns=5, scale=1, gap=0).convert("L")

    rows = [np.concatenate(list(pixels[start : start + 5]), axis=1) for start in range(0, 25, 5)]
    assert np.array_equal(np.asarray(picture), np.concatenate(rows))


def test_captions_are_under_their_digits(synthetic):
    """A caption adds ink below its digit, and none below a digit whose caption is empty."""
    pixels = synthetic(2).pixels

    picture = np.asarray(sheet(pixels, 2, captions=["4→9 0.83", ""]))

    below = picture[4 + 56 :]
    half = picture.shape[1] // 2
    assert (below[:, :half] < 128).any()
    assert (below[:, half:] == PAPER).all()


def test_a_long_caption_widens_the_cells(synthetic):
    """Captions are never cut, and never run into each other."""
    pixels = synthetic(2).pixels

    wide = sheet(pixels, 2, captions=["a caption of many words", "short"])

    assert wide.width > 1.5 * sheet(pixels, 2).width


def test_captions_name_both_classes_and_the_probability_of_the_true_one():
    """A caption shows at a glance what the model mistook for what."""
    probabilities = np.zeros((2, 10), np.float32)
    probabilities[0, [4, 9]] = 0.25, 0.75
    probabilities[1, 0] = 1

    assert error_captions(np.array([4, 0]), probabilities) == ["4→9 0.25", "0→0 1.00"]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"pixels": np.zeros((0, 28, 28), np.uint8), "columns": 1}, DataError),
        ({"pixels": np.zeros((2, 784), np.uint8), "columns": 1}, DataError),
        ({"pixels": np.zeros((2, 28, 28), np.uint8), "columns": 1, "captions": ["one"]}, DataError),
        ({"pixels": np.zeros((2, 28, 28), np.uint8), "columns": 0}, ValueError),
        ({"pixels": np.zeros((2, 28, 28), np.uint8), "columns": 1, "scale": 0}, ValueError),
        ({"pixels": np.zeros((2, 28, 28), np.uint8), "columns": 1, "gap": -1}, ValueError),
    ],
)
def test_a_sheet_of_nothing_is_refused(arguments, error):
    """No digits, another shape, too few captions, no columns: an error instead of an odd picture."""
    with pytest.raises(error):
        sheet(**arguments)


def test_errors_stand_out_in_the_confusion_picture():
    """The diagonal is pale however large its counts, the most frequent error is darkest."""
    confusion = np.diag(np.full(10, 800))
    confusion[4, 9], confusion[2, 7] = 14, 1

    picture = confusion_picture(confusion)

    shares = {colour: count for count, colour in picture.getcolors(1 << 20)}
    cell = shares[ERRORS[-1]]
    assert 1000 < cell < 58 * 38
    assert 1000 < shares[ERRORS[0]] < 58 * 38
    assert 9 < shares[CORRECT] / cell < 11


def test_a_confusion_picture_without_errors_is_drawn():
    """A perfect model and an empty table have no largest error to scale by."""
    for table in (np.diag(np.full(10, 8)), np.zeros((10, 10), np.int64)):
        colours = {colour for _, colour in confusion_picture(table).getcolors(1 << 20)}
        assert not colours & set(ERRORS)


@pytest.mark.parametrize(
    "wrong", [np.zeros((10, 10)), np.zeros((9, 10), np.int64), np.full((10, 10), -1), [[1] * 10] * 10]
)
def test_a_table_that_is_not_a_confusion_is_refused(wrong):
    """Fractions, other shapes and negative counts are refused."""
    with pytest.raises(DataError, match="confusion"):
        confusion_picture(wrong)


def test_pictures_need_no_fastai():
    """They are drawn without fastai and torch, as the CPU image needs it."""
    code = (
        "import sys, numpy; from mnist_core import drawing; "
        "drawing.confusion_picture(numpy.eye(10, dtype='int64')); "
        "print([m for m in ('torch', 'fastai', 'matplotlib') if m in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_rows_are_picked_by_class():
    """The first of each class, then the second of each, until there are enough; then class by class."""
    labels = np.array([3, 3, 1, 3, 0, 1])

    assert pick_by_class(labels, 5).tolist() == [4, 2, 5, 0, 1]
    assert pick_by_class(labels, 2).tolist() == [4, 2]
    assert sorted(pick_by_class(labels, 99)) == [0, 1, 2, 3, 4, 5]


def test_a_sheet_of_colour_pictures_keeps_their_colours():
    """Pictures in colour stand on a sheet as they are, so that a night of them has its scorecard."""
    pixels = np.zeros((2, 8, 9, 3), np.uint8)
    pixels[1, :, :, 0] = 200

    drawn = np.asarray(sheet(pixels, columns=2, scale=1, gap=0))

    assert drawn.shape == (8, 18, 3)
    assert np.array_equal(drawn[:, 9:], pixels[1])
