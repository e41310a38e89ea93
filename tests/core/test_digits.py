"""Digits in memory, and reading and writing the competition's CSV files."""

import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from mnist_core.digits import Digits, read_test, read_train, write_csv
from mnist_core.errors import DataError
from mnist_core.spec import DIGITS_MINI


@pytest.mark.usefixtures("only_fast")
@pytest.mark.parametrize("final", [True, False], ids=["final line end", "no final line end"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("labelled", [True, False], ids=["train", "test"])
def test_both_files_are_read_with_either_line_end(
    tmp_path, labelled, line_end, final, synthetic, csv_text, same
):
    """Kaggle writes CRLF, most tools write LF, and an editor may drop the last one."""
    digits = synthetic(7, labelled=labelled)
    text = csv_text(digits, line_end)
    csv = tmp_path / "digits.csv"
    csv.write_bytes((text if final else text.removesuffix(line_end)).encode())

    read = (read_train if labelled else read_test)(csv, rows=7)

    assert same(read, digits)
    assert read.pixels.dtype == np.uint8
    assert read.pixels.flags.c_contiguous


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
def test_a_pixel_out_of_range_is_refused(write_train_csv, bad):
    """A corrupt pixel is reported by file, row and column instead of wrapping around."""
    csv = write_train_csv(row=3, column="pixel7", value=bad)

    with pytest.raises(DataError, match=r"train.csv: row 3 \(line 4\), column pixel7: .*0\.\.255") as caught:
        read_train(csv)

    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("column", ["label", "pixel0", "pixel1", "pixel783"])
@pytest.mark.parametrize("row", [1, 5])
@pytest.mark.parametrize("bad", ["256", "-5", "", "1.5"])
def test_a_wrong_value_is_found_at_the_edges(write_train_csv, row, column, bad):
    """The first and last row and column are checked as all others are."""
    with pytest.raises(DataError, match=rf"row {row} .*column {column}: found '{re.escape(bad)}'"):
        read_train(write_train_csv(row=row, column=column, value=bad))


@pytest.mark.parametrize("bad", ["10", "11", "255"])
def test_a_label_out_of_range_is_refused(write_train_csv, bad):
    """10 fits into a byte, but is not a digit."""
    with pytest.raises(DataError, match=rf"row 2 .*column label: found '{bad}', expected an integer 0\.\.9"):
        read_train(write_train_csv(row=2, column="label", value=bad))


@pytest.mark.parametrize("odd", ["007", "00", "0000255", "0" * 5000, "0" * 5000 + "7"])
def test_leading_zeros_are_read(write_train_csv, odd):
    """Numbers that only the slow reader accepts are read, and not refused without a reason."""
    digits = read_train(write_train_csv(row=3, column="pixel7", value=odd))

    assert digits.pixels[2, 0, 7] == int(odd[-4:])


@pytest.mark.parametrize("bad", ["256", "", "-1", "1.5"])
def test_a_wrong_value_in_a_long_line_is_refused(write_train_csv, bad):
    """Zeros in front of numbers hide no value that is out of range."""
    csv = write_train_csv(row=3, column="pixel7", value=bad)
    csv.write_bytes(csv.read_bytes().replace(b",0,", b"," + b"0" * 4400 + b",", 3))

    with pytest.raises(DataError, match=rf"row 3 .*column pixel7: found '{bad}'"):
        read_train(csv)


def test_mixed_line_ends_are_read(write_train_csv, synthetic, same):
    """A file put together on two systems has both line ends, and is right."""
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
        (f"{HEADER}\n\n{ROW}\n", r"row 1 \(line 2\): the line is empty"),
        (f"\n{HEADER}\n{ROW}\n", r"header, column 1: found '', expected 'label'"),
        (f"{HEADER}\n{ROW}\n5,0,0\n{ROW}\n", r"row 2 \(line 3\): 3 values, expected 785.*column pixel1"),
        (f"{HEADER}\n{ROW}\n{ROW[:-2]}\n", "row 2 .*784 values, expected 785"),
        (f"{HEADER}\n{ROW},0\n{ROW}\n", "row 1 .*786 values, expected 785"),
        (f"{HEADER}\n{ROW},\n", "row 1 .*786 values, expected 785"),
        (f"{HEADER}\n{ROW},0\n{ROW[:-2]}\n", "row 1 .*786 values, expected 785"),
        (f"{HEADER}\n{ROW}\n{ROW[:301]}", "row 2 .*the file ends: it was cut off"),
        (f"{HEADER}\n{ROW}{ROW[1:]}\n", "row 1 .*1569 values, expected 785"),
        (HEADER.replace("pixel300", "pixel0300") + f"\n{ROW}\n", "header, column 302: found 'pixel0300'"),
        (HEADER.replace(",", ";") + f"\n{ROW}\n", r"header, column 1: found 'label;pixel0;.*…"),
        (HEADER + f",extra\n{ROW}\n", "header, column 786: found 'extra', expected no further column"),
        (HEADER[:-9] + f"\n{ROW}\n", "header, column 785: found nothing, expected 'pixel783'"),
        (HEADER[6:] + f"\n{ROW}\n", "header, column 1: found 'pixel0', expected 'label'; .*read_test"),
        (b"PK\x03\x04 and so on", "is a zip archive"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 900, "header, column 1: found"),
        (f"{HEADER}\n".encode() + bytes(range(256)) * 9000, "row 1 "),
        (f"{HEADER}\n".encode() + b"\xff" * 2_000_000, r"row 1 \(line 2\): .*more than 65,536 bytes"),
        (f"{HEADER}\n".encode() + b"\0" * 2_000_000, r"row 1 \(line 2\): .*more than 65,536 bytes"),
        (f"{HEADER}\n{ROW.rjust(1 << 16, '0')}{ROW}\n", r"row 1 \(line 2\): .*more than 65,536 bytes"),
        (f"{HEADER}\n{ROW}\n".encode() + b"\0" * 4096, "row 2 .*1 values"),
    ],
)
def test_a_file_that_is_not_a_train_csv_is_refused(tmp_path, content, message):
    """Each way in which a file can be wrong has a message that names the place."""
    csv = tmp_path / "train.csv"
    csv.write_bytes(content if isinstance(content, bytes) else content.encode())

    with pytest.raises(DataError, match=rf"(?s)train.csv.*{message}"):
        read_train(csv)


def test_train_csv_in_place_of_test_csv_is_recognised(write_train_csv):
    """The two files are easily swapped; the message says so."""
    with pytest.raises(DataError, match=r"found 'label', expected 'pixel0'; .*read_train"):
        read_test(write_train_csv())


def test_a_wrong_row_of_a_test_csv_is_not_to_be_removed(tmp_path):
    """A prediction is asked for each of its rows, so the only remedy is the file as it was."""
    csv = tmp_path / "test.csv"
    csv.write_text(f"{HEADER[6:]}\n{ROW[2:]}\n256{ROW[3:]}\n")

    with pytest.raises(DataError, match=r"row 2 .*column pixel0: found '256'") as caught:
        read_test(csv)

    assert caught.value.remedy == "download it again"


@pytest.mark.parametrize(("name", "message"), [("gone.csv", "does not exist"), ("", "is a folder")])
def test_a_path_without_a_file_is_refused(tmp_path, name, message):
    """A missing file and a folder are DataErrors that name the path."""
    with pytest.raises(DataError, match=f"{tmp_path.name}.*{message}"):
        read_train(tmp_path / name)


@pytest.mark.parametrize("rows", [4, 6, 42_000])
def test_another_number_of_rows_is_refused(write_train_csv, rows):
    """A file that was cut off at the end of a line is recognised by its number of rows."""
    with pytest.raises(DataError, match=f"train.csv: 5 rows, expected {rows:,}"):
        read_train(write_train_csv(), rows=rows)


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
    """A folder in place of the file is a DataError, and no incomplete file stays."""
    (tmp_path / "digits.csv" / "full").mkdir(parents=True)

    with pytest.raises(DataError, match=r"digits.csv: cannot be written"):
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
        (np.zeros((2, 28, 28), np.uint8), np.array([0, 10]), r"labels\[1\]: 10 is not a class"),
        (np.zeros((2, 28, 28), np.uint8), np.array([-1, 0]), r"labels\[0\]: -1 is not a class"),
    ],
)
def test_digits_refuse_other_arrays(pixels, labels, message):
    """Arrays of another type, shape or range are refused when Digits are made."""
    with pytest.raises(DataError, match=message):
        Digits(pixels, labels)


@pytest.mark.parametrize(
    "rows",
    [slice(2, 5), slice(None, None, 2), np.array([4, 0, 0]), np.arange(6) % 2 == 1, np.array([], np.int64)],
    ids=["slice", "step", "indices", "mask", "none"],
)
def test_a_selection_of_rows_is_digits(rows, synthetic):
    """A selection keeps pixels, labels and spec together, and is contiguous."""
    digits = synthetic(6)

    chosen = digits[rows]

    assert len(chosen) == len(chosen.pixels)
    assert chosen.pixels.flags.c_contiguous
    assert np.array_equal(chosen.pixels, digits.pixels[rows])
    assert np.array_equal(chosen.labels, digits.labels[rows])
    assert synthetic(6, labelled=False)[rows].labels is None
    assert chosen.spec is digits.spec


def test_another_competition_has_its_own_columns(tmp_path):
    """Shape, classes and columns come from the spec, in both directions."""
    spec = replace(
        DIGITS_MINI, shape=(2, 3, 1), margin=0, classes=("0", "1"), label_column="class", pixel_column="p{}"
    )
    digits = Digits(np.arange(12, dtype=np.uint8).reshape(2, 2, 3), np.array([1, 0]), spec)

    write_csv(digits, tmp_path / "small.csv")
    read = read_train(tmp_path / "small.csv", spec)

    assert (tmp_path / "small.csv").read_bytes().startswith(b"class,p0,p1,p2,p3,p4,p5\r\n1,0,1,2,3,4,5\r\n")
    assert np.array_equal(read.pixels, digits.pixels)
    assert read.labels.tolist() == [1, 0]
    assert read.spec is spec
    with pytest.raises(DataError, match=r"header, column 1: found 'class', expected 'label'"):
        read_train(tmp_path / "small.csv")
    (tmp_path / "small.csv").write_text("class,p0,p1,p2,p3,p4,p5\n2,0,1,2,3,4,5\n")
    with pytest.raises(DataError, match=r"column class: found '2', expected an integer 0\.\.1"):
        read_train(tmp_path / "small.csv", spec)


def test_one_row_is_not_digits(synthetic):
    """digits[3] would be ambiguous; the error says what to write instead."""
    with pytest.raises(TypeError, match=r"pixels\[i\]"):
        synthetic(6)[3]


def test_digits_need_only_numpy():
    """Reading digits starts fast: no torch, no fastai, no pandas, no pyarrow, no Pillow."""
    code = (
        "import sys, mnist_core.digits; "
        "print([m for m in ('torch', 'fastai', 'pandas', 'pyarrow', 'PIL') if m in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
