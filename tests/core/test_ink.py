"""Finding the digit in photographs: in bad light, on lined paper, with a table at the edge."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from mnist_core.digits import read_train
from mnist_core.errors import DataError
from mnist_core.images import from_image
from mnist_core.ink import _is_on_paper
from mnist_core.parts import parts_of
from mnist_core.spec import DIGITS_MINI
from tests.core.photographs import CONDITIONS, UNSEEN, photograph


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


@pytest.mark.parametrize("name", UNSEEN)
def test_a_digit_is_found_where_nobody_tuned(handwriting, name):
    """So it is in conditions that were written after the code: a desk, a flash, chalk, out of focus."""
    found = [
        likeness(from_image(photograph(handwriting[label], name, label)), handwriting[label])
        for label in (2, 5, 8)
    ]

    assert sorted(found)[1] > 0.8


def test_a_strip_of_paper_between_digit_and_table_is_no_digit():
    """On a dark desk a light strip stands out as a stroke would; there is more of its paper beside it."""
    page = np.full((300, 400), 220, np.uint8)
    page[:, :60] = 95  # the desk
    page[80:220, 110:122] = 55  # a 1
    strip, one = np.zeros(page.shape, bool), np.zeros(page.shape, bool)
    strip[80:220, 60:110] = True
    one[80:220, 110:122] = True

    assert not _is_on_paper(page, parts_of(strip)[0])
    assert _is_on_paper(page, parts_of(one)[0])


@pytest.mark.parametrize("name", ["gradient", "ruled", "table edge"])
def test_thin_strokes_between_thick_ones_belong_to_a_digit(name):
    """A pen that is pressed down on one side only leaves hairlines, as pale as the lines of the paper."""
    page = Image.new("L", (448, 448))
    draw = ImageDraw.Draw(page)
    draw.line((130, 60, 130, 250), 255, 24)
    draw.line((300, 60, 300, 390), 255, 24)
    draw.line((130, 240, 300, 240), 255, 2)

    four = from_image(photograph(np.array(page), name, 1))

    assert np.ptp(np.flatnonzero((four > 128).any(0))) >= 8  # both sides are there


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", CONDITIONS)
def test_a_photograph_without_a_digit_is_blank(name, seed):
    """Paper, its lines, its frame and its shadows are no digit."""
    with pytest.raises(DataError, match="the picture is blank"):
        from_image(photograph(np.zeros((28, 28), np.uint8), name, seed))


def test_a_hairline_stays_a_stroke_when_the_picture_shrinks():
    """A stroke thinner than a pixel of the small picture is not a shade of grey there."""
    page = Image.new("L", (448, 448))
    draw = ImageDraw.Draw(page)
    draw.line((150, 60, 150, 390), 255, 30)
    draw.line((150, 75, 300, 75), 255, 3)

    digit = from_image(page)

    assert digit[:, 16:21].max(0).min() > 150  # spread over the pixels that it crosses it would be 46


@pytest.mark.parametrize(("down", "across"), [(70, 0), (-60, 0), (0, 110)])
def test_a_digit_that_the_border_cuts_off_is_found(down, across):
    """Light falls off, and a stroke ends at the border: it is no frame, and no table's edge."""
    page = 230 - 100 * np.mgrid[:300, :400][1] / 400
    seven = Image.new("L", (400, 300))
    ImageDraw.Draw(seven).line((150, 90, 250, 90, 190, 240), 255, 14, joint="curve")
    ink = np.roll(np.asarray(seven, float) / 255, (down, across), (0, 1))
    lit = Image.fromarray((page * (1 - 0.75 * ink)).astype(np.uint8))

    digit = from_image(lit)

    assert likeness(digit, from_image(seven)) > 0.7


def test_broken_strokes_are_one_digit_and_print_far_from_it_is_none():
    """A pen that skips leaves a 4 in two pieces; what is printed at the top of the page is another thing."""
    page = Image.new("L", (400, 300), 225)
    draw = ImageDraw.Draw(page)
    draw.line((170, 100, 150, 170, 185, 170), 50, 8, joint="curve")
    draw.line((200, 130, 200, 230), 50, 8)
    alone = from_image(page)
    draw.rectangle((20, 10, 380, 22), 90)

    assert np.ptp(np.flatnonzero((alone > 128).any(0))) >= 5  # both pieces are there
    assert likeness(from_image(page), alone) > 0.99
