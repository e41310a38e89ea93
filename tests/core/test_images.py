"""One digit as a picture and back."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from mnist_core.errors import DataError
from mnist_core.images import from_image, read_image, to_fastai, to_pil


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


def drawn(text="3", size=(200, 200), height=120, at=None, mode="L", ground=0, ink=255):
    """Draw a printed digit: `ink` on `ground`, centred `at` a point, or in the middle of the picture."""
    image = Image.new(mode, size, ground)
    font = ImageFont.load_default(height)
    ImageDraw.Draw(image).text(at or (size[0] / 2, size[1] / 2), text, ink, font, anchor="mm")
    return image


def differs(a, b):
    """Return the mean difference of two digits, of 255, at the best of nine shifts: centres are rounded."""
    moves = [np.roll(a, (down, right), (0, 1)).astype(int) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    return min(abs(moved - b).mean() for moved in moves)


def box(digit):
    """Return height and width of the ink."""
    rows, columns = np.flatnonzero(digit.any(1)), np.flatnonzero(digit.any(0))
    return rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1


def centre(digit):
    """Return row and column of the centre of mass."""
    return tuple((digit.sum(axis) * np.arange(28)).sum() / digit.sum() for axis in (1, 0))


@pytest.mark.parametrize("text", list("0123456789"))
def test_any_picture_becomes_a_digit_as_in_mnist(text):
    """The ink fills 20 pixels one way and no more the other, is centred by mass, and its strokes are full."""
    digit = from_image(drawn(text))

    assert (digit.dtype, digit.shape) == (np.uint8, (28, 28))
    assert max(box(digit)) == 20
    assert all(13.4 < at < 14.6 for at in centre(digit))
    assert digit.max() == 255
    assert (digit == 0).mean() > 0.5


def test_a_digit_keeps_its_aspect():
    """A 1 stays slim: height and width are scaled alike."""
    tall, wide = box(from_image(drawn("1")))

    assert tall == 20
    assert wide < 12


@pytest.mark.parametrize("text", list("0123456789"))
@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGB", "RGBA", "RGBX", "CMYK", "I", "F"])
def test_a_picture_like_mnist_is_returned_unchanged(text, mode):
    """A picture of 28 × 28, white on black, fitted and centred, is the same bit for bit, in every mode."""
    digit = from_image(drawn(text))

    assert np.array_equal(from_image(to_pil(digit).convert(mode)), digit)


def test_a_negative_gives_the_digit_bit_for_bit():
    """The same digit in black on white is the same digit."""
    digit = from_image(drawn("5"))

    assert np.array_equal(from_image(to_pil(255 - digit)), digit)


@pytest.mark.parametrize(
    ("mode", "ground", "ink"),
    [
        ("L", 255, 0),
        ("L", 60, 200),
        ("L", 200, 60),
        ("1", 1, 0),
        ("RGB", "white", "navy"),
        ("RGB", "navy", "gold"),
        ("RGB", "lightgreen", "darkred"),
        ("RGBA", "white", "black"),
        ("LA", (255, 255), (0, 255)),
        ("HSV", (0, 0, 255), (0, 0, 0)),
        ("YCbCr", (255, 128, 128), (0, 128, 128)),
        ("I;16", 65535, 0),
        ("I", 0, 70_000),
        ("F", 1.0, -1.0),
    ],
)
def test_black_on_white_is_the_same_digit(mode, ground, ink):
    """The border decides which of two colours is the ink, in any mode."""
    white_on_black = from_image(drawn("2"))

    other = from_image(drawn("2", mode=mode, ground=ground, ink=ink))

    assert differs(other, white_on_black) < (4 if mode == "1" else 1)


@pytest.mark.parametrize("ink", ["black", "white", "crimson"])
@pytest.mark.parametrize("glass", [(0, 0, 0, 0), (255, 255, 255, 0)])
def test_ink_on_a_transparent_background_is_the_same_digit(ink, glass):
    """Ink of any colour is found, whatever colour the transparent pixels have."""
    image = drawn("6", mode="RGBA", ground=glass, ink=ink)

    assert differs(from_image(image), from_image(drawn("6"))) < 6


def test_a_palette_with_a_transparent_colour_is_read():
    """A PNG or GIF of few colours, one of them transparent, is read like any other."""
    image = drawn("6", mode="P", ground=0, ink=1)
    image.putpalette([0, 0, 0, 10, 10, 10])
    image.info["transparency"] = 0

    assert differs(from_image(image), from_image(drawn("6"))) < 12


def test_a_card_on_a_transparent_background_is_not_ink():
    """Of a white card with round corners, the digit on it is the ink, and not the card."""
    image = Image.new("RGBA", (300, 260), (0, 0, 0, 0))
    ImageDraw.Draw(image).rounded_rectangle((20, 10, 270, 240), 40, "white")
    image.paste("black", (50, 25), drawn("4"))

    assert differs(from_image(image), from_image(drawn("4"))) < 1


@pytest.mark.parametrize(
    ("size", "height", "at"),
    [
        ((28, 28), 20, None),
        ((40, 40), 30, None),
        ((1000, 700), 90, (850, 100)),
        ((1000, 700), 600, None),
        ((60, 500), 50, (30, 450)),
        ((3000, 2000), 1500, None),
    ],
)
def test_size_and_position_do_not_matter(size, height, at):
    """A small digit in the corner of a large picture is the same digit."""
    assert differs(from_image(drawn("3", size, height, at)), from_image(drawn("3"))) < 12


def test_thin_strokes_get_full_ink():
    """A pen that is thin compared to the digit's height leaves dark strokes, not pale ones."""
    image = Image.new("L", (600, 600), 255)
    ImageDraw.Draw(image).line([(200, 100), (400, 100), (250, 500)], 0, 6)

    digit = from_image(image)

    assert np.median(digit.max(1)[digit.any(1)]) > 180


def test_noise_of_paper_and_jpeg_is_background(tmp_path):
    """The noise of paper and of JPEG compression neither moves the digit nor stays on it."""
    rng = np.random.default_rng(0)
    paper = np.asarray(drawn("8", ground=190, ink=60)).astype(float) + rng.normal(0, 4, (200, 200))
    Image.fromarray(paper.clip(0, 255).astype(np.uint8)).save(tmp_path / "photo.jpg", quality=70)

    digit = read_image(tmp_path / "photo.jpg")

    assert differs(digit, from_image(drawn("8"))) < 6
    assert not digit[:4].any()
    assert not digit[-4:].any()


def test_the_orientation_of_the_camera_is_respected(tmp_path):
    """A JPEG whose EXIF data say that it lies on its side is turned upright."""
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it clockwise to see it
    drawn("7").rotate(90).save(tmp_path / "7.jpg", exif=exif, quality=95)

    assert differs(read_image(tmp_path / "7.jpg"), from_image(drawn("7"))) < 3


@pytest.mark.parametrize(
    "image",
    [
        Image.new("L", (28, 28)),
        Image.new("L", (28, 28), 255),
        Image.new("RGB", (300, 200), "white"),
        Image.new("RGBA", (50, 50), (0, 0, 0, 0)),
        Image.new("RGBA", (50, 50), (255, 0, 0, 90)),
        Image.new("1", (1, 1)),
        Image.new("F", (40, 40), float("nan")),
        Image.fromarray(np.random.default_rng(0).normal(200, 4, (90, 90)).astype(np.uint8)),
    ],
    ids=["black", "white", "colour", "glass", "tinted", "pixel", "nan", "paper"],
)
def test_a_blank_picture_is_refused(image):
    """A picture with nothing on it is an error, and not a digit that a network would invent."""
    with pytest.raises(DataError, match="the picture is blank"):
        from_image(image)


def test_a_picture_without_colours_is_refused():
    """The message names a mode that Pillow cannot turn into grey."""
    with pytest.raises(DataError, match="mode La"):
        from_image(Image.new("La", (28, 28)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        (b"no picture", "is not a picture"),
        (b"", "the file is empty"),
        ("cut", "is damaged"),
        ("blank", "is blank"),
    ],
)
def test_a_file_that_is_not_a_digit_is_named(tmp_path, content, message):
    """The error of a missing, damaged or blank file starts with its name."""
    file = tmp_path / "a.png"
    drawn().save(tmp_path / "whole.png")
    if content == "cut":
        content = (tmp_path / "whole.png").read_bytes()[:200]
    if content == "blank":
        Image.new("L", (28, 28)).save(file)
    elif content is not None:
        file.write_bytes(content)

    with pytest.raises(DataError, match=rf"a\.png: .*{message}"):
        read_image(file)


def test_a_folder_is_not_a_picture(tmp_path):
    """A folder in place of a picture is an error."""
    with pytest.raises(DataError, match="is a folder"):
        read_image(tmp_path)


@pytest.mark.parametrize("text", ["12", "7 7", "88"])
def test_two_digits_are_refused(text):
    """A network would read two digits as one of ten; the message says that there are two."""
    with pytest.raises(DataError, match="shows two digits, it seems; cut out one of them"):
        from_image(drawn(text, (600, 300), 150, ground=255, ink=0))
