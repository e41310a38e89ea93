"""Reading and writing Kaggle's CSV files, and the folds."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import mnist_core.digits
from mnist_core.digits import (
    Digits,
    _parse,
    _read_carefully,
    _read_fast,
    folds,
    read_test,
    read_train,
    write_csv,
)
from mnist_core.errors import DataError


def same(a: Digits, b: Digits) -> bool:
    """Whether two sets of digits agree in pixels, labels and types."""
    if (a.labels is None) != (b.labels is None):
        return False
    labels = a.labels is None or b.labels is None or np.array_equal(a.labels, b.labels)
    return labels and np.array_equal(a.pixels, b.pixels)


@pytest.fixture
def only_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the careful path fail, so that a test sees whether the fast one was enough."""

    def refuse(csv: Path, labelled: bool) -> Digits:
        raise AssertionError(f"the fast path gave {csv} up")

    monkeypatch.setattr(mnist_core.digits, "_read_carefully", refuse)


@pytest.mark.usefixtures("only_fast")
@pytest.mark.parametrize("final", [True, False], ids=["final line end", "no final line end"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("labelled", [True, False], ids=["train", "test"])
def test_both_files_are_read_with_either_line_end(tmp_path, labelled, line_end, final, synthetic, csv_text):
    """Kaggle writes CRLF, most tools write LF, and an editor may drop the last one."""
    digits = synthetic(7, labelled=labelled)
    text = csv_text(digits, line_end)
    csv = tmp_path / "digits.csv"
    csv.write_bytes((text if final else text.removesuffix(line_end)).encode())

    read = (read_train if labelled else read_test)(csv, rows=7)

    assert same(read, digits)
    assert read.pixels.dtype == np.uint8
    assert read.pixels.flags.c_contiguous


@pytest.mark.usefixtures("only_fast")
def test_every_value_of_a_byte_is_read(tmp_path, csv_text):
    """0 to 255 in numbers of one, two and three digits, in every neighbourhood."""
    values = np.array([[a, b] for a in range(256) for b in range(256)], np.uint8)
    pixels = np.zeros((168, 784), np.uint8)
    pixels.reshape(-1)[: values.size] = values.reshape(-1)
    csv = tmp_path / "test.csv"
    csv.write_text(csv_text(Digits(pixels.reshape(-1, 28, 28))))

    assert np.array_equal(read_test(csv).pixels.reshape(-1, 784), pixels)


@pytest.mark.usefixtures("only_fast")
@pytest.mark.parametrize("block", [3141, 4096, 5000, 9999, 1 << 19])
@pytest.mark.parametrize("cores", [1, 4])
def test_blocks_and_threads_do_not_show(tmp_path, monkeypatch, block, cores, synthetic, csv_text):
    """Where the file is cut into blocks, and how many threads parse them, changes nothing."""
    monkeypatch.setattr(mnist_core.digits, "_BLOCK", block)
    monkeypatch.setattr(mnist_core.digits, "cores", lambda: cores)
    digits = synthetic(23)
    csv = tmp_path / "train.csv"
    csv.write_text(csv_text(digits))

    assert same(read_train(csv), digits)


@pytest.mark.usefixtures("only_fast")
def test_a_file_of_kaggles_size_comes_back_on_the_fast_path(tmp_path, full_size):
    """42,000 digits written and read again are the same, and the careful path was not needed."""
    csv = tmp_path / "train.csv"
    write_csv(full_size, csv)

    assert same(read_train(csv, rows=42_000), full_size)


@pytest.mark.parametrize(
    "bad",
    [
        *(
            "-1",
            "256",
            "300",
            "999",
            "1000",
            "+5",
            "1.5",
            "1e1",
            "nan",
            "null",
            "abc",
            "0x10",
            "1_0",
            "٣",
            "5;6",
        ),
        *("", " ", " 5", "5 ", '"5"', "'5'", "9" * 5000),
        *(b"\xff\xfe", b"\0", b"5\0", b"\r5"),
    ],
)
def test_a_pixel_that_is_no_byte_is_refused(write_train_csv, bad):
    """A corrupt pixel is named by file, row and column instead of wrapping around."""
    csv = write_train_csv(row=3, column="pixel7", value=bad)

    with pytest.raises(DataError, match=r"train.csv: row 3 \(line 4\), column pixel7: .*0\.\.255") as caught:
        read_train(csv)

    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("column", ["label", "pixel0", "pixel1", "pixel783"])
@pytest.mark.parametrize("row", [1, 5])
@pytest.mark.parametrize("bad", ["256", "-5", "", "1.0"])
def test_a_bad_value_is_found_at_the_edges_too(write_train_csv, row, column, bad):
    """The first and last row and column are checked as all others are."""
    with pytest.raises(DataError, match=rf"row {row} .*column {column}: found '{re.escape(bad)}'"):
        read_train(write_train_csv(row=row, column=column, value=bad))


@pytest.mark.parametrize("bad", ["10", "11", "255"])
def test_a_label_that_is_no_digit_is_refused(write_train_csv, bad):
    """10 fits into a byte, but is no digit."""
    with pytest.raises(DataError, match=rf"row 2 .*column label: found '{bad}', expected an integer 0\.\.9"):
        read_train(write_train_csv(row=2, column="label", value=bad))


@pytest.mark.parametrize("odd", ["007", "00", "0000255"])
def test_leading_zeros_are_read(write_train_csv, odd):
    """What the fast path doubts and the careful path finds right is read, not refused without a reason."""
    digits = read_train(write_train_csv(row=3, column="pixel7", value=odd))

    assert digits.pixels[2, 0, 7] == int(odd)


def test_mixed_line_ends_are_read(write_train_csv, synthetic):
    """A file put together from two systems has both line ends, and is right."""
    csv = write_train_csv(line_end="\n")
    csv.write_bytes(csv.read_bytes().replace(b"\n", b"\r\n", 3))

    assert same(read_train(csv), synthetic(5))


ROW = ",".join(["5"] + ["0"] * 784)
HEADER = ",".join(["label"] + [f"pixel{i}" for i in range(784)])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (HEADER, "no row below the header"),
        (f"{HEADER}\r\n", "no row below the header"),
        (f"{HEADER}\n\n", r"row 1 \(line 2\): the line is empty"),
        (f"{HEADER}\n{ROW}\n\n", r"row 2 \(line 3\): the line is empty"),
        (f"{HEADER}\n\n{ROW}\n", r"row 1 \(line 2\): the line is empty"),
        (f"\n{HEADER}\n{ROW}\n", r"header, column 1: found '', expected 'label'"),
        (f"{HEADER}\n{ROW}\n5,0,0\n{ROW}\n", r"row 2 \(line 3\): 3 values, expected 785.*column pixel1"),
        (f"{HEADER}\n{ROW}\n{ROW[:-2]}\n", "row 2 .*784 values, expected 785"),
        (f"{HEADER}\n{ROW},0\n{ROW}\n", "row 1 .*786 values, expected 785"),
        (f"{HEADER}\n{ROW},\n", "row 1 .*786 values, expected 785"),
        (f"{HEADER}\n{ROW},0\n{ROW[:-2]}\n", "row 1 .*786 values, expected 785"),
        (f"{HEADER}\n{ROW}\n{ROW[:301]}", "row 2 .*the file ends: it was cut off"),
        (f"{HEADER}\n{ROW}{ROW[1:]}\n", "row 1 .*1569 values, expected 785"),
        (f"{HEADER}\r{ROW}\r", r"header, column 785: found 'pixel783\\r5', expected 'pixel783'"),
        (f"\ufeff{HEADER}\n{ROW}\n", r"header, column 1: found '\\ufefflabel', expected 'label'"),
        (HEADER.replace("pixel300", "pixel0300") + f"\n{ROW}\n", "header, column 302: found 'pixel0300'"),
        (HEADER.replace(",", ";") + f"\n{ROW}\n", r"header, column 1: found 'label;pixel0;.*…"),
        (HEADER + f",extra\n{ROW}\n", "header, column 786: found 'extra', expected no further column"),
        (HEADER[:-9] + f"\n{ROW}\n", "header, column 785: found nothing, expected 'pixel783'"),
        (HEADER[6:] + f"\n{ROW}\n", "header, column 1: found 'pixel0', expected 'label'; .*read_test"),
        (f"{ROW}\n{ROW}\n", "header, column 1: found '5', expected 'label'"),
        (b"PK\x03\x04 and so on", "is a zip archive"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 900, "header, column 1: found"),
        (f"{HEADER}\n".encode() + bytes(range(256)) * 9000, "row 1 "),
        (f"{HEADER}\n".encode() + b"\xff" * 2_000_000, "row 1 .*1 values"),
        (f"{HEADER}\n".encode() + b"\0" * 2_000_000, "row 1 .*1 values"),
        (f"{HEADER}\n{ROW}\n".encode() + b"\0" * 4096, "row 2 .*1 values"),
    ],
)
def test_a_file_that_is_no_train_csv_is_refused(tmp_path, content, message):
    """Each way in which a file can be wrong is said in words that help."""
    csv = tmp_path / "train.csv"
    csv.write_bytes(content if isinstance(content, bytes) else content.encode())

    with pytest.raises(DataError, match=rf"(?s)train.csv.*{message}"):
        read_train(csv)


def test_train_csv_given_as_test_csv_is_recognised(write_train_csv):
    """The two files are easily swapped; the message says so."""
    with pytest.raises(DataError, match=r"found 'label', expected 'pixel0'; .*read_train"):
        read_test(write_train_csv())


@pytest.mark.parametrize(("name", "message"), [("gone.csv", "no such file"), ("", "is a folder")])
def test_a_path_without_a_file_is_refused(tmp_path, name, message):
    """A missing file and a folder are errors of ours that name the path."""
    with pytest.raises(DataError, match=f"{tmp_path.name}.*{message}"):
        read_train(tmp_path / name)


@pytest.mark.parametrize("rows", [4, 6, 42_000])
def test_another_number_of_rows_is_refused(write_train_csv, rows):
    """A file that was cut off at the end of a line is found by the number of its rows."""
    with pytest.raises(DataError, match=f"train.csv: 5 rows, expected {rows:,}"):
        read_train(write_train_csv(), rows=rows)


PIECES = st.one_of(
    st.sampled_from(
        [b"", b",", b"\n", b"\r", b"\r\n", b"\n\n", b",,", b"0", b"10", b"255", b"256", b"-", b".", b'"']
    ),
    st.binary(max_size=4),
)


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    line_end=st.sampled_from([b"\n", b"\r\n"]),
    changes=st.lists(st.tuples(st.integers(0, 9999), st.integers(0, 3), PIECES), max_size=3),
)
@example(line_end=b"\n", changes=[(99_999, 0, b"\n")])
def test_fast_and_careful_agree(tmp_path, line_end, changes, synthetic, csv_text):
    """Of a damaged file the fast path says the same as the careful one, or leaves it to it."""
    content = csv_text(synthetic(3)).encode().replace(b"\r\n", line_end)
    for at, removed, piece in changes:
        content = content[:at] + piece + content[at + removed :]
    csv = tmp_path / "train.csv"
    csv.write_bytes(content)

    fast = _read_fast(csv, True)
    try:
        careful = _read_carefully(csv, True)
    except DataError:
        assert fast is None
    else:
        assert fast is None or same(fast, careful)


NUMBERS = st.one_of(
    st.integers(0, 255).map(str), st.sampled_from(["0", "9", "10", "99", "100", "255", "007"])
)
FAULTS = ["", "256", "300", "1000", ",", ",,", "\n", "\r\n", "\r", "-"]


@st.composite
def rows_of_three(draw):
    """Pieces of whole lines, one of two texts right and the other with up to two pieces that are changed."""
    line_end = draw(st.sampled_from(["\n", "\r\n"]))
    rows = draw(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), min_size=1, max_size=4))
    pieces = [piece for a, b, c in rows for piece in (a, ",", b, ",", c, line_end)]
    if draw(st.booleans()):
        for _ in range(draw(st.integers(1, 2))):
            pieces[draw(st.integers(0, len(pieces) - 1))] = draw(st.sampled_from(FAULTS))
    last = pieces.pop()
    return [*pieces, last.removesuffix("\n")]  # the last line's end comes from the test


@settings(deadline=None, max_examples=1000)
@given(rows_of_three())
@example(["1", ",", "2", ",", "\n", "3", "\n"])
@example(["1", ",", "2", ",", "3", "\r", "4", ",", "5", ",", "6", "\r\n"])
@example(["1", ",", ",", "3", "\n", "4", ",", "5", ",", "6", ",", "7", "\n"])
def test_the_parser_takes_lines_of_bytes_and_nothing_else(pieces):
    """Three numbers a line, each 0..255, one kind of line end: all of that is read, and no other text."""
    text = "".join(pieces) + "\n"
    number = r"(?:\d{1,2}|[01]\d\d|2[0-4]\d|25[0-5])"
    row = rf"{number},{number},{number}"
    right = re.fullmatch(rf"(?:{row}\n)+|(?:{row}\r\n)+", text)

    block = np.frombuffer(b"\n\n" + text.encode(), np.uint8)
    table = _parse(block, 3, np.full((5, len(block) // 2 * 2 + 2), 0xFF, np.uint8))

    assert (table is not None) == (right is not None)
    if table is not None:
        assert table.tolist() == [[int(field) for field in line.split(",")] for line in text.split()]


@pytest.mark.parametrize("labelled", [True, False])
def test_digits_are_written_as_kaggle_writes_them(tmp_path, labelled, synthetic, csv_text):
    """The file is the plain CSV with CRLF, byte for byte, and nothing else is left in the folder."""
    digits = synthetic(1003, labelled=labelled)
    csv = tmp_path / "digits.csv"
    csv.write_text("an older file")

    write_csv(digits, csv)

    assert csv.read_bytes() == csv_text(digits).encode()
    assert list(tmp_path.iterdir()) == [csv]


def test_a_failed_write_says_so_and_leaves_nothing(tmp_path, synthetic):
    """A folder in the place of the file is an error of ours, and no half file stays."""
    (tmp_path / "digits.csv" / "full").mkdir(parents=True)

    with pytest.raises(DataError, match=r"digits.csv: can not be written"):
        write_csv(synthetic(2), tmp_path / "digits.csv")
    with pytest.raises(DataError, match="no digit to write"):
        write_csv(synthetic(0), tmp_path / "empty.csv")

    assert [entry.name for entry in tmp_path.iterdir()] == ["digits.csv"]


@pytest.mark.parametrize(
    ("pixels", "labels", "message"),
    [
        (np.zeros((2, 28, 28), np.float32), None, "pixels: float32"),
        (np.zeros((2, 784), np.uint8), None, r"pixels: .*\(2, 784\)"),
        (np.zeros((2, 32, 32), np.uint8), None, r"\(2, 32, 32\), expected \(N, 28, 28\)"),
        (np.zeros((4, 28, 28), np.uint8)[::2], None, "not C-contiguous"),
        ([[0]], None, "pixels: list"),
        (np.zeros((2, 28, 28), np.uint8), np.zeros(2, np.uint8), "labels: uint8"),
        (np.zeros((2, 28, 28), np.uint8), np.zeros((2, 1), np.int64), r"labels: int64 with shape \(2, 1\)"),
        (np.zeros((2, 28, 28), np.uint8), np.zeros(3, np.int64), "3 labels for 2 digits"),
        (np.zeros((2, 28, 28), np.uint8), np.array([0, 10]), r"labels\[1\]: 10 is no digit"),
        (np.zeros((2, 28, 28), np.uint8), np.array([-1, 0]), r"labels\[0\]: -1 is no digit"),
    ],
)
def test_digits_refuse_other_arrays(pixels, labels, message):
    """Digits are what their types say, from the moment they are made."""
    with pytest.raises(DataError, match=message):
        Digits(pixels, labels)


@pytest.mark.parametrize(
    "rows",
    [slice(2, 5), slice(None, None, 2), np.array([4, 0, 0]), np.arange(6) % 2 == 1, np.array([], np.int64)],
    ids=["slice", "step", "indices", "mask", "none"],
)
def test_some_rows_are_digits_again(rows, synthetic):
    """A selection keeps pixels and labels together, and stays contiguous."""
    digits = synthetic(6)

    chosen = digits[rows]

    assert len(chosen) == len(chosen.pixels)
    assert chosen.pixels.flags.c_contiguous
    assert np.array_equal(chosen.pixels, digits.pixels[rows])
    assert np.array_equal(chosen.labels, digits.labels[rows])
    assert synthetic(6, labelled=False)[rows].labels is None


def test_one_row_is_not_digits(synthetic):
    """digits[3] would be ambiguous, and says what to write instead."""
    with pytest.raises(TypeError, match=r"pixels\[i\]"):
        synthetic(6)[3]


def test_folds_are_equal_and_stratified(full_size):
    """Kaggle's 42,000 rows make five times 8,400, and each class is spread evenly."""
    fold = folds(full_size.labels, "5eed")

    assert fold.dtype == np.uint8
    assert np.bincount(fold).tolist() == [8400] * 5
    classes = np.array([np.bincount(full_size.labels[fold == k], minlength=10) for k in range(5)])
    assert (classes.max(axis=0) - classes.min(axis=0) <= 1).all()


@pytest.mark.parametrize("count", [2, 3, 7])
def test_any_number_of_folds(count, synthetic):
    """Folds of a number of rows that does not divide differ by one row at most."""
    sizes = np.bincount(folds(synthetic(100).labels, "ab", count), minlength=count)

    assert sizes.max() - sizes.min() <= 1
    assert sizes.sum() == 100


def test_folds_never_change():
    """Fold 0 is what versions of different nights are compared on: pinned here for ever."""
    labels = np.array([3, 1, 3, 1, 3, 1, 3, 1, 0, 9, 9, 0])
    pinned = [1, 0, 2, 4, 4, 2, 3, 3, 1, 1, 0, 0]

    assert folds(labels, "06af5dfe73b70e3b").tolist() == pinned
    assert folds(labels, "06af5dfe73b70e3c").tolist() != pinned


@pytest.mark.parametrize(
    ("labels", "digest", "count", "message"),
    [
        (np.zeros(9, np.int64), "no digest", 5, "'no digest' is no hexadecimal"),
        (np.zeros(9, np.int64), "-5", 5, "'-5' is no hexadecimal"),
        (np.zeros(9, np.int64), "", 5, "'' is no hexadecimal"),
        (np.zeros(9, np.int64), "5eed", 1, "count 1"),
        (np.zeros(9, np.int64), "5eed", 256, "count 256"),
        (np.zeros(9, np.uint8), "5eed", 5, "labels: uint8"),
    ],
)
def test_folds_refuse_what_makes_none(labels, digest, count, message):
    """A digest that is none would deal other folds without a word."""
    with pytest.raises(DataError, match=message):
        folds(labels, digest, count)


def test_digits_need_numpy_alone():
    """Reading digits starts fast: no torch, no fastai, no pandas, no pyarrow, no Pillow."""
    code = (
        "import sys, mnist_core.digits; "
        "print([m for m in ('torch', 'fastai', 'pandas', 'pyarrow', 'PIL') if m in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
