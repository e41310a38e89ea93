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
    """A printed digit: `ink` on `ground`, its middle `at` a place of the picture, or in its middle."""
    image = Image.new(mode, size, ground)
    font = ImageFont.load_default(height)
    ImageDraw.Draw(image).text(at or (size[0] / 2, size[1] / 2), text, ink, font, anchor="mm")
    return image


def differs(a, b):
    """Mean difference of two digits, levels of 255, where they fit best: a centre rounds either way."""
    moves = [np.roll(a, (down, right), (0, 1)).astype(int) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    return min(abs(moved - b).mean() for moved in moves)


def box(digit):
    """Height and width of the ink."""
    rows, columns = np.flatnonzero(digit.any(1)), np.flatnonzero(digit.any(0))
    return rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1


def centre(digit):
    """Row and column of the centre of mass."""
    return tuple((digit.sum(axis) * np.arange(28)).sum() / digit.sum() for axis in (1, 0))


@pytest.mark.parametrize("text", list("0123456789"))
def test_any_picture_becomes_a_digit_as_mnist_has_them(text):
    """The ink fills 20 pixels one way and no more the other, its mass is in the middle, strokes are full."""
    digit = from_image(drawn(text))

    assert (digit.dtype, digit.shape) == (np.uint8, (28, 28))
    assert max(box(digit)) == 20
    assert all(13.4 < at < 14.6 for at in centre(digit))
    assert digit.max() == 255
    assert (digit == 0).mean() > 0.5


def test_a_digit_keeps_its_aspect():
    """A 1 stays slim: it is scaled alike both ways."""
    tall, wide = box(from_image(drawn("1")))

    assert tall == 20
    assert wide < 12


@pytest.mark.parametrize("text", list("0123456789"))
@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGB", "RGBA", "RGBX", "CMYK", "I", "F"])
def test_a_picture_that_is_like_mnist_comes_back_as_it_is(text, mode):
    """28 × 28, white on black, fitted and centred: bit for bit the same, in every mode that can hold it."""
    digit = from_image(drawn(text))

    assert np.array_equal(from_image(to_pil(digit).convert(mode)), digit)


def test_a_negative_comes_back_bit_for_bit():
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
    """Which of two colours is the ink is told by the border, in any mode."""
    white_on_black = from_image(drawn("2"))

    other = from_image(drawn("2", mode=mode, ground=ground, ink=ink))

    assert differs(other, white_on_black) < (4 if mode == "1" else 1)


@pytest.mark.parametrize("ink", ["black", "white", "crimson"])
@pytest.mark.parametrize("glass", [(0, 0, 0, 0), (255, 255, 255, 0)])
def test_ink_on_a_transparent_ground_is_the_same_digit(ink, glass):
    """Black ink on glass is no black picture, whatever colour the glass would have; nor is white ink."""
    image = drawn("6", mode="RGBA", ground=glass, ink=ink)

    assert differs(from_image(image), from_image(drawn("6"))) < 6


def test_a_palette_with_a_transparent_colour_is_read():
    """A PNG or GIF of few colours, one of them transparent, is read like any other."""
    image = drawn("6", mode="P", ground=0, ink=1)
    image.putpalette([0, 0, 0, 10, 10, 10])
    image.info["transparency"] = 0

    assert differs(from_image(image), from_image(drawn("6"))) < 12


def test_a_card_on_a_transparent_ground_is_no_ink():
    """The ground of a white card with round corners goes on behind them: the digit on it is the ink."""
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
def test_size_and_place_do_not_matter(size, height, at):
    """A small digit in the corner of a large picture is the same digit."""
    assert differs(from_image(drawn("3", size, height, at)), from_image(drawn("3"))) < 12


def test_thin_strokes_get_full_ink():
    """A pen that is thin beside the digit's height leaves strokes, no shadow of them."""
    image = Image.new("L", (600, 600), 255)
    ImageDraw.Draw(image).line([(200, 100), (400, 100), (250, 500)], 0, 6)

    digit = from_image(image)

    assert np.median(digit.max(1)[digit.any(1)]) > 180


def test_paper_and_jpeg_leave_no_dirt(tmp_path):
    """The noise of paper, and what JPEG adds, is background: it neither moves the digit nor stays on it."""
    rng = np.random.default_rng(0)
    paper = np.asarray(drawn("8", ground=190, ink=60)).astype(float) + rng.normal(0, 4, (200, 200))
    Image.fromarray(paper.clip(0, 255).astype(np.uint8)).save(tmp_path / "photo.jpg", quality=70)

    digit = read_image(tmp_path / "photo.jpg")

    assert differs(digit, from_image(drawn("8"))) < 6
    assert not digit[:4].any()
    assert not digit[-4:].any()


def test_a_camera_held_sideways_is_heeded(tmp_path):
    """A JPEG that says that it lies on its side is stood up."""
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
    """Nothing on it is an error, and no digit that a network would make up."""
    with pytest.raises(DataError, match="the picture is blank"):
        from_image(image)


def test_a_picture_without_colours_is_refused():
    """A mode that Pillow can not turn into grey is named."""
    with pytest.raises(DataError, match="mode La"):
        from_image(Image.new("La", (28, 28)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no such file"),
        (b"no picture", "is not a picture"),
        (b"", "is not a picture"),
        ("cut", "is damaged"),
        ("blank", "is blank"),
    ],
)
def test_a_file_that_is_no_digit_is_named(tmp_path, content, message):
    """Missing, text, cut off, blank: the error starts with the file."""
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


def test_a_folder_is_no_picture(tmp_path):
    """One picture is asked for."""
    with pytest.raises(DataError, match="is a folder"):
        read_image(tmp_path)


def test_a_picture_of_too_many_pixels_is_refused(tmp_path, monkeypatch):
    """A file that would fill the memory is an error before it does."""
    drawn().save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)

    with pytest.raises(DataError, match=r"a\.png: is too large"):
        read_image(tmp_path / "a.png")
