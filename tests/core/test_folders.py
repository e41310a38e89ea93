"""Digits in folders of PNGs."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from mnist_core.digits import Digits, write_csv
from mnist_core.errors import DataError
from mnist_core.folders import read_digits, read_pngs, write_pngs
from mnist_core.images import to_pil


@pytest.mark.parametrize("labelled", [True, False])
def test_pngs_are_read_as_they_were_written(tmp_path, synthetic, labelled):
    """A folder of PNGs holds the digits without loss and in their order, 10.png after 9.png."""
    digits = synthetic(25, labelled=labelled)
    reports = []

    written = write_pngs(digits, tmp_path / "pngs", progress=lambda *report: reports.append(report))
    (tmp_path / "pngs" / ".DS_Store").touch()
    read = read_pngs(tmp_path / "pngs", progress=lambda *report: reports.append(report))

    assert written == 25
    assert np.array_equal(read.pixels, digits.pixels)
    assert np.array_equal(read.labels, digits.labels) if labelled else read.labels is None
    assert reports == [(25, 25, "write"), (25, 25, "read")]


def test_our_pngs_are_pngs(tmp_path, synthetic):
    """Pillow reads them as 8-bit grey pictures of the digit, and finds no error."""
    digit = synthetic(1, labelled=False)

    write_pngs(digit, tmp_path)

    with Image.open(tmp_path / "0.png") as image:
        image.verify()
    with Image.open(tmp_path / "0.png") as image:
        assert (image.format, image.mode, image.size) == ("PNG", "L", (28, 28))
        assert np.array_equal(np.asarray(image), digit.pixels[0])


def test_pngs_are_where_fastai_looks_for_labels(tmp_path, synthetic):
    """Labelled digits are in a folder named by the label, as the first notebook's DataBlock reads them."""
    digits = synthetic(5)

    write_pngs(digits, tmp_path)

    found = sorted(png.relative_to(tmp_path).as_posix() for png in tmp_path.rglob("*") if png.is_file())
    assert found == sorted(f"{label}/{i}.png" for i, label in enumerate(digits.labels))


def test_progress_is_reported_throughout(tmp_path, synthetic):
    """A long conversion reports its progress every 500 digits."""
    reports = []

    write_pngs(synthetic(2001), tmp_path / "pngs", progress=lambda *report: reports.append(report))

    assert [done for done, _, _ in reports] == [500, 1000, 1500, 2000, 2001]


@pytest.mark.parametrize("labelled", [True, False])
def test_an_interrupted_conversion_resumes(tmp_path, synthetic, labelled):
    """The second run keeps what the first wrote and writes the rest."""
    digits = synthetic(10_000, labelled=labelled)

    def interrupt(done, total, note):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_pngs(digits, tmp_path, progress=interrupt)
    there = {png: png.stat().st_mtime_ns for png in tmp_path.rglob("*.png")}
    reports = []
    written = write_pngs(digits, tmp_path, progress=lambda done, total, note: reports.append(done))

    assert 500 <= len(there) < 10_000
    assert written == 10_000 - len(there)
    assert reports[-1] == 10_000
    assert all(png.stat().st_mtime_ns == time for png, time in there.items())
    assert np.array_equal(read_pngs(tmp_path).pixels, digits.pixels)
    assert not list(tmp_path.glob(".*"))
    assert write_pngs(digits, tmp_path) == 0


def test_an_incomplete_folder_is_not_read(tmp_path, synthetic):
    """Half the digits, numbered without a gap, would read as a smaller data set."""

    def interrupt(done, total, note):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_pngs(synthetic(1500, labelled=False), tmp_path, progress=interrupt)

    with pytest.raises(DataError, match="was interrupted; run the same convert again"):
        read_pngs(tmp_path)


def test_a_killed_conversion_resumes(tmp_path, synthetic):
    """After SIGKILL no PNG is incomplete, and the next run completes the folder."""
    write_csv(synthetic(5000, labelled=False), tmp_path / "test.csv")
    script = (
        "import sys; from pathlib import Path; from mnist_core.folders import read_digits, write_pngs; "
        "write_pngs(read_digits(Path(sys.argv[1])), Path(sys.argv[2]), "
        "progress=lambda *r: print(*r, flush=True))"
    )
    files = [str(tmp_path / "test.csv"), str(tmp_path / "pngs")]
    with subprocess.Popen([sys.executable, "-c", script, *files], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        process.kill()
    digits = read_digits(tmp_path / "test.csv")
    there = list((tmp_path / "pngs").glob("*.png"))

    for png in there:
        assert np.array_equal(read_with_pillow(png), digits.pixels[int(png.stem)])
    assert write_pngs(digits, tmp_path / "pngs") == 5000 - len(there) > 0
    assert np.array_equal(read_pngs(tmp_path / "pngs").pixels, digits.pixels)


def read_with_pillow(png):
    """Return the pixels of a PNG as Pillow reads them."""
    with Image.open(png) as image:
        return np.asarray(image)


@pytest.mark.parametrize("left", [0, 5, 20, 33, 60, -1], ids=lambda left: f"{left} bytes")
def test_a_png_that_was_cut_short_is_written_again(tmp_path, synthetic, left):
    """A file that a crash of the machine cut short, down to nothing, is replaced."""
    digits = synthetic(3, labelled=False)
    write_pngs(digits, tmp_path)
    (tmp_path / "1.png").write_bytes((tmp_path / "1.png").read_bytes()[:left])

    assert write_pngs(digits, tmp_path) == 1
    assert np.array_equal(read_pngs(tmp_path).pixels, digits.pixels)


def test_a_png_of_zeros_is_written_again(tmp_path, synthetic):
    """A disk that lost its power may leave a file of the right length with nothing in it."""
    digits = synthetic(3, labelled=False)
    write_pngs(digits, tmp_path)
    (tmp_path / "1.png").write_bytes(bytes(300))

    assert write_pngs(digits, tmp_path) == 1


def test_the_same_digit_by_another_program_is_kept(tmp_path, synthetic):
    """Pillow's PNG of a digit has other bytes but the same pixels, and stays."""
    digits = synthetic(3, labelled=False)
    Image.fromarray(digits.pixels[1]).save(tmp_path / "1.png", compress_level=9)
    bytes_there = (tmp_path / "1.png").read_bytes()

    assert write_pngs(digits, tmp_path) == 2
    assert (tmp_path / "1.png").read_bytes() == bytes_there


@pytest.mark.parametrize(
    ("add", "message"),
    [
        (lambda f: (f / "notes.txt").touch(), r"holds notes\.txt, which is not one of these digits"),
        (lambda f: (f / "4" / "9.png").touch(), r"holds 4/9\.png, which is not one of these digits"),
        (lambda f: (f / "4" / "more").mkdir(), r"holds 4/more, which is not one of these digits"),
        (lambda f: (f / "4" / "1.png").rename(f / "5" / "1.png"), r"holds 5/1\.png"),
        (lambda f: (f / "4" / "0.png").rename(f / "4" / "1.png"), r"4/1\.png: holds something else than"),
        (lambda f: (f / "4" / "1.png").write_bytes(b"my notes"), r"4/1\.png: holds something else than"),
        (lambda f: Image.new("L", (9, 9)).save(f / "4" / "1.png"), r"4/1\.png: holds something else than"),
        (lambda f: Image.new("L", (28, 28)).save(f / "4" / "1.png"), r"4/1\.png: holds something else than"),
    ],
    ids=["file", "number", "folder", "label", "digit", "text", "size", "blank"],
)
def test_pngs_are_not_mixed_with_others(tmp_path, synthetic, add, message):
    """A folder that holds anything else is refused before a single PNG is written into it."""
    digits = Digits(synthetic(3).pixels, np.array([4, 4, 4]))
    write_pngs(digits, tmp_path)
    (tmp_path / "4" / "2.png").unlink()
    add(tmp_path)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}

    with pytest.raises(DataError, match=message):
        write_pngs(digits, tmp_path)

    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


def test_a_file_in_the_way_of_a_folder_is_an_error(tmp_path, synthetic):
    """The message names a path that is a file."""
    (tmp_path / "file").touch()

    with pytest.raises(DataError, match="file: cannot be written"):
        write_pngs(synthetic(1), tmp_path / "file")


def write_layout(folder, names, digits):
    """Write digits under these names with Pillow."""
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
def test_folders_by_other_programs_are_read(tmp_path, synthetic, names, labels):
    """fastai's mnist_png and folders by label are read: names are free, and numbers give the order."""
    digits = synthetic(len(names)).pixels
    order = range(len(names))
    if names[0] == "training/0/10.png":
        order = [1, 0]
    if names[0] == "1.png":
        order = [0, 1, *range(3, 10), 2]
    write_layout(tmp_path, names, digits)

    read = read_pngs(tmp_path)

    assert np.array_equal(read.pixels, digits[list(order)])
    assert read.labels is None if labels is None else list(read.labels) == [labels[i] for i in order]


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGB", "RGBA"])
def test_a_grey_png_of_any_mode_keeps_its_values(tmp_path, synthetic, mode):
    """Grey has the same value in every mode, and the pictures of a folder are not changed."""
    digit = synthetic(1).pixels[0]
    to_pil(digit).convert(mode).save(tmp_path / "0.png")

    assert np.array_equal(read_pngs(tmp_path).pixels[0], digit)


def test_black_and_white_becomes_0_and_255(tmp_path, synthetic):
    """A picture of one bit a pixel has background and full ink."""
    digit = (synthetic(1).pixels[0] > 127).astype(np.uint8) * 255
    to_pil(digit).convert("1").save(tmp_path / "0.png")

    assert np.array_equal(read_pngs(tmp_path).pixels[0], digit)


def test_colours_become_their_luminance(tmp_path):
    """Red, green and blue are weighted as in ITU-R 601."""
    Image.new("RGB", (28, 28), (200, 100, 50)).save(tmp_path / "0.png")

    assert (read_pngs(tmp_path).pixels == 124).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_are_background(tmp_path, mode):
    """A transparent pixel is background, whatever colour it has."""
    image = Image.new("RGBA", (28, 28), (255, 255, 255, 0))
    image.paste((255, 255, 255, 255), (0, 0, 28, 14))
    image.convert(mode).save(tmp_path / "0.png")

    digit = read_pngs(tmp_path).pixels[0]

    assert (digit[:14] == 255).all()
    assert (digit[14:] == 0).all()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "4" / "1.png").write_bytes(b"no picture"), r"4/1\.png: is not a picture"),
        (lambda f: (f / "4" / "1.png").write_bytes((f / "4" / "1.png").read_bytes()[:60]), r"4/1\.png: is"),
        (lambda f: Image.new("L", (9, 9)).save(f / "4" / "1.png"), r"4/1\.png: the picture has 9 × 9"),
        (lambda f: Image.new("I;16", (28, 28)).save(f / "4" / "1.png"), r"4/1\.png: the picture has mode I"),
        (lambda f: (f / "4" / "notes.txt").write_text("hello"), r"4/notes\.txt: is not a picture"),
        (lambda f: (f / "4" / "more").mkdir(), r"4/more: is a folder"),
        (lambda f: (f / "4" / "1.png").rename(f / "1.png"), r"1\.png: expected only folders"),
        (lambda f: (f / "4").rename(f / "four"), r"four: expected only folders named 0, 1, .*, 9"),
        (lambda f: (f / "test").mkdir(), r"test: expected only folders .* training and testing"),
    ],
    ids=["text", "cut", "size", "16 bits", "txt", "subfolder", "beside", "folder", "part"],
)
def test_a_damaged_folder_is_refused(tmp_path, synthetic, damage, message):
    """The message names the file that is wrong."""
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
    """They are in the order of a submission's rows: one lost PNG would shift all that follow."""
    write_pngs(synthetic(3, labelled=False), tmp_path)
    change(tmp_path)

    with pytest.raises(DataError, match=message):
        read_pngs(tmp_path)


def test_a_folder_without_digits_is_refused(tmp_path):
    """An empty folder and a missing one have different messages."""
    with pytest.raises(DataError, match="holds no PNG"):
        read_pngs(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        read_pngs(tmp_path / "gone")


def test_digits_are_read_from_whatever_holds_them(tmp_path, synthetic):
    """train.csv, test.csv and folders of PNGs are recognised by their content."""
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
    with pytest.raises(DataError, match=r"gone\.csv: does not exist"):
        read_digits(tmp_path / "gone.csv")
