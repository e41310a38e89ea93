"""Digits as pictures and back."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from mnist_core.digits import Digits
from mnist_core.errors import DataError
from mnist_core.images import (
    ERRORS,
    PAPER,
    RIGHT,
    confusion_picture,
    from_image,
    read_pngs,
    sheet,
    to_fastai,
    to_pil,
    write_pngs,
)


def test_a_digit_becomes_grey_ink_on_black(synthetic):
    """The PIL image has the digit's values, row by row."""
    digit = synthetic(1).pixels[0]

    image = to_pil(digit)

    assert (image.mode, image.size) == ("L", (28, 28))
    assert np.array_equal(np.asarray(image), digit)


def test_a_digit_becomes_what_a_learner_predicts(synthetic):
    """fastai gets its own PILImage, in RGB with three equal channels: no AssertionError, no mode L."""
    from fastai.vision.core import PILImage

    digit = synthetic(1).pixels[0]

    image = to_fastai(digit)

    assert isinstance(image, PILImage)
    assert (image.mode, image.size) == ("RGB", (28, 28))
    assert np.array_equal(np.asarray(image), np.stack([digit] * 3, axis=2))


@pytest.mark.parametrize("make", [to_pil, to_fastai])
@pytest.mark.parametrize(
    "wrong", [np.zeros((28, 28)), np.zeros((784,), np.uint8), np.zeros((1, 28, 28), np.uint8), [[0]]]
)
def test_only_one_digit_becomes_a_picture(make, wrong):
    """Floats, flat rows and batches are refused instead of drawn wrongly."""
    with pytest.raises(DataError, match="one digit is uint8"):
        make(wrong)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGB", "RGBA"])
def test_a_grey_picture_of_any_mode_keeps_its_values(synthetic, mode):
    """What is grey has the same value in every mode, so nothing is lost by a detour."""
    digit = synthetic(1).pixels[0]

    assert np.array_equal(from_image(to_pil(digit).convert(mode)), digit)


def test_black_and_white_becomes_0_and_255(synthetic):
    """A picture of one bit a pixel has background and full ink."""
    digit = (synthetic(1).pixels[0] > 127).astype(np.uint8) * 255

    assert np.array_equal(from_image(to_pil(digit).convert("1")), digit)


def test_colours_become_their_luminance():
    """Red, green and blue weigh as the eye sees them (ITU-R 601)."""
    image = Image.new("RGB", (28, 28), (200, 100, 50))

    assert (from_image(image) == 124).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_background(mode):
    """A transparent white pixel is no ink, whatever colour it would have; half of it is half the ink."""
    image = Image.new("RGBA", (28, 28), (255, 255, 255, 0))
    image.paste((255, 255, 255, 255), (0, 0, 28, 14))

    digit = from_image(image.convert(mode))

    assert (digit[:14] == 255).all()
    assert (digit[14:] == 0).all()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (Image.new("L", (27, 28)), "27 × 28 pixels, expected 28 × 28"),
        (Image.new("L", (280, 280)), "280 × 280 pixels"),
        (Image.new("F", (28, 28)), "mode F"),
        (Image.new("I;16", (28, 28)), "mode I;16"),
        (Image.new("CMYK", (28, 28)), "mode CMYK"),
    ],
)
def test_a_picture_that_is_no_digit_is_refused(image, message):
    """Size and mode are named."""
    with pytest.raises(DataError, match=message):
        from_image(image)


@pytest.mark.parametrize("labelled", [True, False])
def test_pngs_come_back_as_they_were(tmp_path, synthetic, labelled):
    """A folder of PNGs holds the digits without loss and in their order, 10.png after 9.png."""
    digits = synthetic(25, labelled=labelled)
    told = []

    write_pngs(digits, tmp_path / "pngs", progress=lambda done, total: told.append((done, total)))
    (tmp_path / "pngs" / ".DS_Store").touch()
    read = read_pngs(tmp_path / "pngs")

    assert np.array_equal(read.pixels, digits.pixels)
    assert np.array_equal(read.labels, digits.labels) if labelled else read.labels is None
    assert told == [(25, 25)]


def test_pngs_lie_where_fastai_looks_for_labels(tmp_path, synthetic):
    """Labelled digits are in a folder named by the label, as the origin's DataBlock reads them."""
    digits = synthetic(5)

    write_pngs(digits, tmp_path)

    found = sorted(png.relative_to(tmp_path).as_posix() for png in tmp_path.rglob("*.png"))
    assert found == sorted(f"{label}/{i}.png" for i, label in enumerate(digits.labels))


def test_progress_is_told_every_thousand_digits(tmp_path, synthetic):
    """A long conversion can show how far it is."""
    told = []

    write_pngs(synthetic(2001), tmp_path / "pngs", lambda done, total: told.append((done, total)))

    assert told == [(1000, 2001), (2000, 2001), (2001, 2001)]


def test_pngs_are_not_mixed_with_older_ones(tmp_path, synthetic):
    """A folder that holds something is refused, and so is a path that is a file."""
    write_pngs(synthetic(2), tmp_path / "pngs")
    (tmp_path / "file").touch()

    with pytest.raises(DataError, match="pngs: is not empty"):
        write_pngs(synthetic(1), tmp_path / "pngs")
    with pytest.raises(DataError, match="file: can not be written"):
        write_pngs(synthetic(1), tmp_path / "file")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "4" / "1.png").write_bytes(b"no picture"), r"4/1\.png: is no picture"),
        (lambda f: (f / "4" / "1.png").write_bytes((f / "4" / "1.png").read_bytes()[:60]), r"4/1\.png: is"),
        (lambda f: Image.new("L", (9, 9)).save(f / "4" / "1.png"), r"4/1\.png: the picture has 9 × 9"),
        (lambda f: (f / "4" / "1.png").unlink(), r"1\.png is missing, but 2\.png is there"),
        (lambda f: (f / "4" / "1.png").rename(f / "4" / "one.png"), r"4/one\.png: expected the name"),
        (lambda f: (f / "4" / "1.png").rename(f / "4" / "1.jpg"), r"4/1\.jpg: expected the name"),
        (lambda f: (f / "4" / "1.png").rename(f / "1.png"), r"1\.png: expected nothing but folders"),
        (lambda f: (f / "4").rename(f / "four"), r"four: expected nothing but folders named 0 to 9"),
        (lambda f: (f / "5" / "1.png").write_bytes(b""), r"5/1\.png: digit 1 is there twice.*4/1\.png"),
    ],
    ids=["text", "cut", "size", "missing", "name", "jpg", "beside", "folder", "twice"],
)
def test_a_damaged_folder_is_refused(tmp_path, synthetic, damage, message):
    """The file that is wrong is named."""
    write_pngs(Digits(synthetic(3).pixels, np.array([4, 4, 4])), tmp_path)
    damage(tmp_path)

    with pytest.raises(DataError, match=message):
        read_pngs(tmp_path)


def test_a_folder_without_digits_is_refused(tmp_path):
    """An empty folder and a missing one are told apart."""
    with pytest.raises(DataError, match="holds no PNG"):
        read_pngs(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        read_pngs(tmp_path / "gone")


def test_a_sheet_shows_each_digit_crisply(synthetic):
    """Digit 7 of a sheet of five columns is in the second row, third column, each pixel a square."""
    pixels = synthetic(12).pixels

    picture = np.asarray(sheet(pixels, columns=5, scale=3, gap=2))

    assert picture.shape == (2 + 3 * 86, 2 + 5 * 86, 3)
    tile = picture[2 + 86 : 2 + 86 + 84, 2 + 2 * 86 : 2 + 2 * 86 + 84]
    assert np.array_equal(tile, np.repeat(np.kron(pixels[7], np.ones((3, 3), np.uint8))[..., None], 3, 2))
    assert (picture[-84:, -84:] == PAPER).all()


def test_the_cover_is_digits_edge_to_edge(synthetic):
    """Without gaps and scaling a sheet is the digits themselves, as on the cover of the blog."""
    pixels = synthetic(25).pixels

    picture = sheet(pixels, columns=5, scale=1, gap=0).convert("L")

    rows = [np.concatenate(list(pixels[start : start + 5]), axis=1) for start in range(0, 25, 5)]
    assert np.array_equal(np.asarray(picture), np.concatenate(rows))


def test_captions_stand_under_their_digits(synthetic):
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
    """The diagonal is quiet however large, the most frequent error is darkest, a single one is pale."""
    confusion = np.diag(np.full(10, 800))
    confusion[4, 9], confusion[2, 7] = 14, 1

    picture = confusion_picture(confusion)

    shares = {colour: count for count, colour in picture.getcolors(1 << 20)}
    cell = shares[ERRORS[-1]]
    assert 1000 < cell < 58 * 38
    assert 1000 < shares[ERRORS[0]] < 58 * 38
    assert 9 < shares[RIGHT] / cell < 11


def test_a_confusion_picture_without_errors_is_drawn():
    """A perfect model and an empty table have no largest error to scale by."""
    for table in (np.diag(np.full(10, 8)), np.zeros((10, 10), np.int64)):
        colours = {colour for _, colour in confusion_picture(table).getcolors(1 << 20)}
        assert not colours & set(ERRORS)


@pytest.mark.parametrize(
    "wrong", [np.zeros((10, 10)), np.zeros((9, 10), np.int64), np.full((10, 10), -1), [[1] * 10] * 10]
)
def test_a_table_that_is_no_confusion_is_refused(wrong):
    """Shares, other shapes and negative counts are refused."""
    with pytest.raises(DataError, match="confusion"):
        confusion_picture(wrong)


def test_pictures_need_no_fastai():
    """The CPU image draws them without fastai and torch."""
    code = (
        "import sys, numpy; from mnist_core import images; "
        "images.confusion_picture(numpy.eye(10, dtype='int64')); "
        "print([m for m in ('torch', 'fastai', 'matplotlib') if m in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
