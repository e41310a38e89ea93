"""Digits as pictures and back."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from mnist_core.digits import Digits, write_csv
from mnist_core.errors import DataError
from mnist_core.images import (
    ERRORS,
    PAPER,
    RIGHT,
    confusion_picture,
    from_image,
    read_digits,
    read_image,
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
        (b"no picture", "is no picture"),
        (b"", "is no picture"),
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


@pytest.mark.parametrize("labelled", [True, False])
def test_pngs_come_back_as_they_were(tmp_path, synthetic, labelled):
    """A folder of PNGs holds the digits without loss and in their order, 10.png after 9.png."""
    digits = synthetic(25, labelled=labelled)
    told = []

    written = write_pngs(digits, tmp_path / "pngs", lambda *report: told.append(report))
    (tmp_path / "pngs" / ".DS_Store").touch()
    read = read_pngs(tmp_path / "pngs", lambda *report: told.append(report))

    assert written == 25
    assert np.array_equal(read.pixels, digits.pixels)
    assert np.array_equal(read.labels, digits.labels) if labelled else read.labels is None
    assert told == [(25, 25, "write"), (25, 25, "read")]


def test_our_pngs_are_pngs(tmp_path, synthetic):
    """Pillow finds 8-bit grey and the digit in them, and nothing to complain about."""
    digit = synthetic(1, labelled=False)

    write_pngs(digit, tmp_path)

    with Image.open(tmp_path / "0.png") as image:
        image.verify()
    with Image.open(tmp_path / "0.png") as image:
        assert (image.format, image.mode, image.size) == ("PNG", "L", (28, 28))
        assert np.array_equal(np.asarray(image), digit.pixels[0])


def test_pngs_lie_where_fastai_looks_for_labels(tmp_path, synthetic):
    """Labelled digits are in a folder named by the label, as the origin's DataBlock reads them."""
    digits = synthetic(5)

    write_pngs(digits, tmp_path)

    found = sorted(png.relative_to(tmp_path).as_posix() for png in tmp_path.rglob("*") if png.is_file())
    assert found == sorted(f"{label}/{i}.png" for i, label in enumerate(digits.labels))


def test_progress_is_told_all_along(tmp_path, synthetic):
    """A long conversion can show how far it is."""
    told = []

    write_pngs(synthetic(2001), tmp_path / "pngs", lambda *report: told.append(report))

    assert [done for done, _, _ in told] == [500, 1000, 1500, 2000, 2001]


@pytest.mark.parametrize("labelled", [True, False])
def test_an_interrupted_conversion_goes_on(tmp_path, synthetic, labelled):
    """The second run writes what the first did not, keeps what it did, and the folder is as if never cut."""
    digits = synthetic(10_000, labelled=labelled)

    def interrupt(done, total, note):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_pngs(digits, tmp_path, interrupt)
    there = {png: png.stat().st_mtime_ns for png in tmp_path.rglob("*.png")}
    told = []
    written = write_pngs(digits, tmp_path, lambda done, total, note: told.append(done))

    assert 500 <= len(there) < 10_000
    assert written == 10_000 - len(there)
    assert told[-1] == 10_000
    assert all(png.stat().st_mtime_ns == time for png, time in there.items())
    assert np.array_equal(read_pngs(tmp_path).pixels, digits.pixels)
    assert not list(tmp_path.glob(".*"))
    assert write_pngs(digits, tmp_path) == 0


def test_an_interrupted_folder_is_not_taken_for_a_whole_one(tmp_path, synthetic):
    """Half the digits, numbered without a gap, would read as a smaller data set."""

    def interrupt(done, total, note):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_pngs(synthetic(1500, labelled=False), tmp_path, interrupt)

    with pytest.raises(DataError, match="was interrupted; run the same convert again"):
        read_pngs(tmp_path)


def test_a_killed_conversion_goes_on(tmp_path, synthetic):
    """After SIGKILL in the middle of it no PNG is half, and the next run completes the folder."""
    write_csv(synthetic(5000, labelled=False), tmp_path / "test.csv")
    script = (
        "import sys; from pathlib import Path; from mnist_core.images import read_digits, write_pngs; "
        "write_pngs(read_digits(Path(sys.argv[1])), Path(sys.argv[2]), lambda *r: print(*r, flush=True))"
    )
    files = [str(tmp_path / "test.csv"), str(tmp_path / "pngs")]
    with subprocess.Popen([sys.executable, "-c", script, *files], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        process.kill()
    digits = read_digits(tmp_path / "test.csv")
    there = list((tmp_path / "pngs").glob("*.png"))

    for png in there:
        assert np.array_equal(read_image_as_it_is(png), digits.pixels[int(png.stem)])
    assert write_pngs(digits, tmp_path / "pngs") == 5000 - len(there) > 0
    assert np.array_equal(read_pngs(tmp_path / "pngs").pixels, digits.pixels)


def read_image_as_it_is(png):
    """The pixels of a PNG as Pillow reads them."""
    with Image.open(png) as image:
        return np.asarray(image)


@pytest.mark.parametrize("left", [0, 5, 20, 33, 60, -1], ids=lambda left: f"{left} bytes")
def test_a_half_written_png_never_counts(tmp_path, synthetic, left):
    """What a crash of the machine cut short, down to nothing, is written again."""
    digits = synthetic(3, labelled=False)
    write_pngs(digits, tmp_path)
    (tmp_path / "1.png").write_bytes((tmp_path / "1.png").read_bytes()[:left])

    assert write_pngs(digits, tmp_path) == 1
    assert np.array_equal(read_pngs(tmp_path).pixels, digits.pixels)


def test_a_png_of_zeros_never_counts(tmp_path, synthetic):
    """A disk that lost its power may leave a file of the right length with nothing in it."""
    digits = synthetic(3, labelled=False)
    write_pngs(digits, tmp_path)
    (tmp_path / "1.png").write_bytes(bytes(300))

    assert write_pngs(digits, tmp_path) == 1


def test_the_same_digit_by_another_program_counts(tmp_path, synthetic):
    """Pillow's PNG of a digit has other bytes and the same pixels: it stays."""
    digits = synthetic(3, labelled=False)
    Image.fromarray(digits.pixels[1]).save(tmp_path / "1.png", compress_level=9)
    bytes_there = (tmp_path / "1.png").read_bytes()

    assert write_pngs(digits, tmp_path) == 2
    assert (tmp_path / "1.png").read_bytes() == bytes_there


@pytest.mark.parametrize(
    ("lay", "message"),
    [
        (lambda f: (f / "notes.txt").touch(), r"holds notes\.txt, which is none of these digits"),
        (lambda f: (f / "4" / "9.png").touch(), r"holds 4/9\.png, which is none of these digits"),
        (lambda f: (f / "4" / "more").mkdir(), r"holds 4/more, which is none of these digits"),
        (lambda f: (f / "4" / "1.png").rename(f / "5" / "1.png"), r"holds 5/1\.png"),
        (lambda f: (f / "4" / "0.png").rename(f / "4" / "1.png"), r"4/1\.png: holds something else than"),
        (lambda f: (f / "4" / "1.png").write_bytes(b"my notes"), r"4/1\.png: holds something else than"),
        (lambda f: Image.new("L", (9, 9)).save(f / "4" / "1.png"), r"4/1\.png: holds something else than"),
        (lambda f: Image.new("L", (28, 28)).save(f / "4" / "1.png"), r"4/1\.png: holds something else than"),
    ],
    ids=["file", "number", "folder", "label", "digit", "text", "size", "blank"],
)
def test_pngs_are_not_mixed_with_others(tmp_path, synthetic, lay, message):
    """A folder that holds anything else is refused before a single PNG is written into it."""
    digits = Digits(synthetic(3).pixels, np.array([4, 4, 4]))
    write_pngs(digits, tmp_path)
    (tmp_path / "4" / "2.png").unlink()
    lay(tmp_path)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}

    with pytest.raises(DataError, match=message):
        write_pngs(digits, tmp_path)

    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


def test_a_file_in_the_way_of_a_folder_is_an_error(tmp_path, synthetic):
    """A path that is a file is named."""
    (tmp_path / "file").touch()

    with pytest.raises(DataError, match="file: can not be written"):
        write_pngs(synthetic(1), tmp_path / "file")


def lay_out(folder, names, digits):
    """Write digits under these names."""
    for name, digit in zip(names, digits, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digit).save(folder / name)


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["training/3/0.png", "training/0/4.png", "testing/0/1.png", "testing/9/2.png"], [3, 0, 0, 9]),
        (["training/0/10.png", "training/3/9.png"], [0, 3]),
        (["3/9.png", "0/10.png", "3/11.png"], [3, 0, 3]),
        (["0/7.png", "1/7.png", "0/8.png"], [0, 1, 0]),
        (["0/img_2.png", "0/img_10.png", "1/a.PNG"], [0, 0, 1]),
        (["train_9.png", "train_10.png"], None),
        (["1.png", "2.png", "10.png", *(f"{i}.png" for i in range(3, 10))], None),
    ],
    ids=["mnist_png", "a part", "gaps", "by label", "names", "unlabelled names", "from 1"],
)
def test_folders_of_others_are_read(tmp_path, synthetic, names, labels):
    """fastai's mnist_png and any folder by label: names are free, and numbers give the order."""
    digits = synthetic(len(names)).pixels
    order = range(len(names))
    if names[0] == "training/0/10.png":
        order = [1, 0]
    if names[0] == "1.png":
        order = [0, 1, *range(3, 10), 2]
    lay_out(tmp_path, names, digits)

    read = read_pngs(tmp_path)

    assert np.array_equal(read.pixels, digits[list(order)])
    assert read.labels is None if labels is None else list(read.labels) == [labels[i] for i in order]


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGB", "RGBA"])
def test_a_grey_png_of_any_mode_keeps_its_values(tmp_path, synthetic, mode):
    """What is grey has the same value in every mode, and a folder's pictures are taken as they are."""
    digit = synthetic(1).pixels[0]
    to_pil(digit).convert(mode).save(tmp_path / "0.png")

    assert np.array_equal(read_pngs(tmp_path).pixels[0], digit)


def test_black_and_white_becomes_0_and_255(tmp_path, synthetic):
    """A picture of one bit a pixel has background and full ink."""
    digit = (synthetic(1).pixels[0] > 127).astype(np.uint8) * 255
    to_pil(digit).convert("1").save(tmp_path / "0.png")

    assert np.array_equal(read_pngs(tmp_path).pixels[0], digit)


def test_colours_become_their_luminance(tmp_path):
    """Red, green and blue weigh as the eye sees them (ITU-R 601)."""
    Image.new("RGB", (28, 28), (200, 100, 50)).save(tmp_path / "0.png")

    assert (read_pngs(tmp_path).pixels == 124).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_in_a_folder_is_background(tmp_path, mode):
    """A transparent white pixel is no ink, whatever colour it would have."""
    image = Image.new("RGBA", (28, 28), (255, 255, 255, 0))
    image.paste((255, 255, 255, 255), (0, 0, 28, 14))
    image.convert(mode).save(tmp_path / "0.png")

    digit = read_pngs(tmp_path).pixels[0]

    assert (digit[:14] == 255).all()
    assert (digit[14:] == 0).all()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "4" / "1.png").write_bytes(b"no picture"), r"4/1\.png: is no picture"),
        (lambda f: (f / "4" / "1.png").write_bytes((f / "4" / "1.png").read_bytes()[:60]), r"4/1\.png: is"),
        (lambda f: Image.new("L", (9, 9)).save(f / "4" / "1.png"), r"4/1\.png: the picture has 9 × 9"),
        (lambda f: Image.new("I;16", (28, 28)).save(f / "4" / "1.png"), r"4/1\.png: the picture has mode I"),
        (lambda f: (f / "4" / "notes.txt").write_text("hello"), r"4/notes\.txt: is no picture"),
        (lambda f: (f / "4" / "more").mkdir(), r"4/more: is a folder"),
        (lambda f: (f / "4" / "1.png").rename(f / "1.png"), r"1\.png: expected nothing but folders"),
        (lambda f: (f / "4").rename(f / "four"), r"four: expected nothing but folders named 0, 1, .*, 9"),
        (lambda f: (f / "test").mkdir(), r"test: expected nothing but folders .* training and testing"),
    ],
    ids=["text", "cut", "size", "16 bits", "txt", "subfolder", "beside", "folder", "part"],
)
def test_a_damaged_folder_is_refused(tmp_path, synthetic, damage, message):
    """The file that is wrong is named."""
    write_pngs(Digits(synthetic(3).pixels, np.array([4, 4, 4])), tmp_path)
    damage(tmp_path)

    with pytest.raises(DataError, match=message):
        read_pngs(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "1.png").unlink(), r"1\.png is missing, but 2\.png is there"),
        (lambda f: (f / "2.png").rename(f / "01.png"), r"1\.png: digit 1 is there twice"),
        (lambda f: [(f / f"{i}.png").unlink() for i in (0, 1)], r"1\.png is missing, but 2\.png is there"),
    ],
    ids=["gap", "twice", "start"],
)
def test_unlabelled_numbers_have_no_gap(tmp_path, synthetic, change, message):
    """Their order is that of a submission's rows: one lost PNG would shift all that follow."""
    write_pngs(synthetic(3, labelled=False), tmp_path)
    change(tmp_path)

    with pytest.raises(DataError, match=message):
        read_pngs(tmp_path)


def test_a_folder_without_digits_is_refused(tmp_path):
    """An empty folder and a missing one are told apart."""
    with pytest.raises(DataError, match="holds no PNG"):
        read_pngs(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        read_pngs(tmp_path / "gone")


def test_digits_are_read_from_whatever_holds_them(tmp_path, synthetic):
    """train.csv, test.csv and folders of either are told apart by what is in them."""
    train, test = synthetic(12), synthetic(12, labelled=False)
    write_csv(train, tmp_path / "any-name.csv")
    write_csv(test, tmp_path / "another.csv")
    write_pngs(train, tmp_path / "labelled")
    write_pngs(test, tmp_path / "unlabelled")

    for name, digits in (
        ("any-name.csv", train),
        ("another.csv", test),
        ("labelled", train),
        ("unlabelled", test),
    ):
        read = read_digits(tmp_path / name)
        assert np.array_equal(read.pixels, digits.pixels)
        assert (read.labels is None) == (digits.labels is None)
        assert digits.labels is None or np.array_equal(read.labels, digits.labels)
    with pytest.raises(DataError, match=r"gone\.csv: there is no such file"):
        read_digits(tmp_path / "gone.csv")


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
