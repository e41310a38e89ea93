"""CSV files of digits as other programs write them."""

import gzip
import logging

import numpy as np
import pytest

from mnist_core import csv_variants
from mnist_core.digits import Digits, read_csv, read_test, read_train, write_csv
from mnist_core.errors import DataError


@pytest.fixture
def digits():
    """Six digits that are taller than wide, with empty corners; their labels start with 7."""
    pixels = np.zeros((6, 28, 28), np.uint8)
    pixels[:, 4:24, 10:17] = np.random.default_rng(0).integers(0, 256, (6, 20, 7))
    pixels[:, [4, 23], 10] = 200
    return Digits(pixels, np.array([7, 2, 0, 9, 5, 1]))


@pytest.fixture
def table(digits):
    """The lines of the file, header first, as lists of values."""
    header = ["label", *(f"pixel{i}" for i in range(784))]
    rows = [
        [str(label), *map(str, row)]
        for label, row in zip(digits.labels.tolist(), digits.pixels.reshape(6, -1).tolist(), strict=True)
    ]
    return [header, *rows]


def text(table, separator=",", end="\n"):
    """Return the file."""
    return "".join(separator.join(line) + end for line in table)


def map_values(table, change, label=None):
    """Return the lines with changed pixels, and labels if a change of labels is given."""
    return [table[0], *([label(row[0]) if label else row[0], *map(change, row[1:])] for row in table[1:])]


def rename(table, first, pixel):
    """Return the lines with other names of columns; `pixel` gets the number of the pixel."""
    return [[first, *map(pixel, range(784))], *table[1:]]


def number(table, name, start):
    """Return the lines with a column in front that counts the rows."""
    return [[name, *table[0]], *([str(i), *row] for i, row in enumerate(table[1:], start))]


CASES = {
    "BOM": lambda t: ("\ufeff" + text(t)).encode(),
    "UTF-16": lambda t: text(t).encode("utf-16"),
    "gzip": lambda t: gzip.compress(text(t).encode()),
    "old Macs": lambda t: text(t, end="\r").encode(),
    "semicolons": lambda t: text(t, ";").encode(),
    "tabs": lambda t: text(t, "\t", "\r\n").encode(),
    "spaces": lambda t: text(t, ", ").encode(),
    "quotes": lambda t: text([[f'"{name}"' for name in t[0]], *t[1:]]).encode(),
    "quotes, too": lambda t: text([[f'"{value}"' for value in line] for line in t], end="\r\n").encode(),
    "blank lines": lambda t: (text(t) + "\n\r\n").encode(),
    "empty last column": lambda t: text([[*line, ""] for line in t]).encode(),
    "no header": lambda t: text(t[1:]).encode(),
    "label behind the pixels": lambda t: text([[*line[1:], line[0]] for line in t]).encode(),
    "no header, the label behind": lambda t: text([[*line[1:], line[0]] for line in t[1:]]).encode(),
    "column Label": lambda t: text(rename(t, "Label", "pixel{}".format)).encode(),
    "column class": lambda t: text(rename(t, "class", lambda i: f"pixel{i + 1}")).encode(),
    "pixels named 1x1": lambda t: text(rename(t, "label", lambda i: f"{i // 28 + 1}x{i % 28 + 1}")).encode(),
    "pixels named 0": lambda t: text(rename(t, "label", str)).encode(),
    "pixels named 0x0": lambda t: text(rename(t, "label", lambda i: f"{i // 28}x{i % 28}")).encode(),
    "pixels named px1": lambda t: text(rename(t, "label", lambda i: f"px{i + 1}")).encode(),
    "pixels named Pixel 0": lambda t: text(rename(t, "label", "Pixel {}".format)).encode(),
    "bars": lambda t: text(t, "|").encode(),
    "spaces between the columns": lambda t: text(t, " ").encode(),
    "gzip, of semicolons": lambda t: gzip.compress(text(t, ";").encode()),
    "counts the rows": lambda t: text(number(t, "", 0)).encode(),
    "counts the rows, from 1": lambda t: text(number(t, "Id", 1)).encode(),
    "decimals": lambda t: text(map_values(t, lambda v: f"{v}.0")).encode(),
    "decimals, too": lambda t: text(map_values(t, lambda v: f"{int(v):.2e}", "{}.0".format)).encode(),
    "decimals of labels": lambda t: text(map_values(t, str, "{}.0".format)).encode(),
    "multiplied by 255, and whole numbers": lambda t: text(
        map_values(t, lambda v: f"{int(v) / 255:.6g}")
    ).encode(),
    "multiplied by 255, with decimal commas": lambda t: text(
        map_values(t, lambda v: f"{int(v) / 255:.4f}".replace(".", ",")), ";"
    ).encode(),
    "multiplied by 255": lambda t: text(map_values(t, lambda v: f"{int(v) / 255:.4f}")).encode(),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_file_of_another_program_is_read_and_its_kind_is_said(tmp_path, caplog, digits, table, same, name):
    """Each way of writing that leaves no doubt gives the same digits, and a warning names it."""
    csv = tmp_path / "a.csv"
    csv.write_bytes(CASES[name](table))

    with caplog.at_level(logging.WARNING, "mnist"):
        found = read_train(csv)
        again = read_csv(csv)

    assert same(found, digits)
    assert same(again, digits)
    words = name.split(", ")[0].removeprefix("column ").split(" of ")[0].removeprefix("named ")
    assert len(caplog.messages) == 2
    assert f"{csv}: read as a file with" in caplog.messages[0]
    assert words in caplog.messages[0]


def test_a_file_as_kaggle_writes_it_is_read_without_a_word(tmp_path, caplog, digits, same):
    """Right files cause no warning."""
    write_csv(digits, tmp_path / "train.csv")

    with caplog.at_level(logging.WARNING, "mnist"):
        assert same(read_csv(tmp_path / "train.csv"), digits)

    assert not caplog.messages


@pytest.mark.parametrize("first", [None, "id"])
def test_unlabelled_files_are_read_as_such(tmp_path, digits, table, same, first):
    """Without a label column, with or without the number of the row, a file is one like test.csv."""
    rows = [[*([str(i)] if first else []), *line[1:]] for i, line in enumerate(table)]
    rows[0] = [*([first] if first else []), *(f"pixel{i + 1}" for i in range(784))]
    (tmp_path / "a.csv").write_text(text(rows))

    assert same(read_csv(tmp_path / "a.csv"), Digits(digits.pixels))
    assert same(read_test(tmp_path / "a.csv"), Digits(digits.pixels))
    with pytest.raises(DataError, match="header, column 1"):
        read_train(tmp_path / "a.csv")


REFUSED = {
    "one-hot": (
        lambda t: text([[*row[1:], *"0000000100"] for row in t[1:]]),
        "no header, and 794 columns: .* a column for each class.*; replace the last 10",
    ),
    "no header, no label": (
        lambda t: text([["0", *row[1:]] for row in t[1:]]),
        "not certain which of 785 columns is the label; write the header",
    ),
    "rows that do not count": (
        lambda t: text([["id", *t[0]], *(["5", *row] for row in t[1:])]),
        r"row 2 \(line 3\), column 'id': does not count the rows",
    ),
    "columns by columns": (
        lambda t: text(rename(t, "label", lambda i: f"{i % 28 + 1}x{i // 28 + 1}")),
        "header, column 2: found '1x1', expected 'pixel0'; the header is label,pixel0,…,pixel783",
    ),
    "words": (
        lambda t: text(map_values(t, str, "digit {}".format)),
        "column label: found 'digit 7'.*; a label is the number of a class",
    ),
    "letters": (
        lambda t: text(map_values(t, str, "1{}".format)),
        "column label: found '17'.*; a label is the number of a class",
    ),
    "a wrong value": (
        lambda t: text(t, ";").replace(";200;", ";300;", 1),
        r"row 1 .*column pixel122: found '300', expected an integer 0..255; .*semicolons",
    ),
    "rounded": (
        lambda t: text(map_values(t, lambda v: f"{int(v) / 255:.2f}")),
        "a multiple of 1/255.*; the file was taken for one with decimals",
    ),
    "a blank line between": (
        lambda t: text([*t[:2], [""], *t[2:]]),
        r"row 2 \(line 3\): the line is empty; correct or remove",
    ),
    "two labels": (
        lambda t: text([["label", *line] for line in t[:1]] + [[line[0], *line] for line in t[1:]]),
        "has two columns; remove one",
    ),
    "another column": (
        lambda t: text(rename(t, "number", "pixel{}".format)),
        "has a column 'number' beside the pixels, which may be the label; name it label, or remove it",
    ),
    "two more columns": (
        lambda t: text([["5", *row] for row in t[1:]]),
        "no header, and 786 columns, expected 784 or one more .*; remove the others, or write the header",
    ),
    "small pictures": (
        lambda t: text([row[:65] for row in t]),
        "65 columns, pictures of 8 × 8 pixels, it seems; scale them to 28 × 28",
    ),
    "colours": (
        lambda t: text([[row[0], *row[1:] * 3] for row in t]),
        "three for each pixel, it seems; convert the pictures to grey",
    ),
    "a web page": (
        lambda _: "\n<!DOCTYPE html><title>Log in</title>",
        "is a web page.*; log in and download",
    ),
    "a Parquet file": (lambda _: "PAR1\0\1", "is a Parquet file, expected a CSV file; save it as CSV"),
    "a cut row": (lambda t: text(t, ";")[:-800], r"row 6 .*values, expected 785"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_certain_is_refused_with_what_it_looks_like(tmp_path, table, name):
    """A guess could be wrong; the message says what the file seems to be and what to do."""
    make, message = REFUSED[name]
    (tmp_path / "a.csv").write_text(make(table))

    with pytest.raises(DataError, match=rf"a\.csv: .*{message}"):
        read_csv(tmp_path / "a.csv")


@pytest.mark.parametrize("left", [30, -40])
def test_a_compressed_file_that_was_cut_off_is_named(tmp_path, table, left):
    """A download that ended early is damage, and not a bug."""
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(text(table).encode())[:left])

    with pytest.raises(DataError, match=r"a\.csv\.gz: is damaged: .*; download it again"):
        read_csv(tmp_path / "a.csv.gz")


def test_a_compressed_file_has_an_end(tmp_path, monkeypatch, table):
    """A few kilobytes can stand for any number of rows: beyond the limit they are refused."""
    monkeypatch.setattr(csv_variants, "MOST_ROWS", 50)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(text([*table, *table[1:2] * 100]).encode()))

    with pytest.raises(DataError, match=r"a\.csv\.gz: has more than 50 rows; split it"):
        read_csv(tmp_path / "a.csv.gz")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda pixels: pixels.transpose(0, 2, 1), "lie on their side"),
        (lambda pixels: 255 - pixels, "black on white"),
        (lambda pixels: np.minimum(pixels, 1), "no pixel is above 1"),
    ],
)
def test_pictures_that_are_not_like_mnists_are_read_with_a_warning(tmp_path, caplog, digits, change, message):
    """A transposed, inverted or scaled file is right in form; the warning says what it seems to be."""
    write_csv(Digits(np.ascontiguousarray(change(digits.pixels)), digits.labels), tmp_path / "train.csv")

    with caplog.at_level(logging.WARNING, "mnist"):
        read_train(tmp_path / "train.csv")

    assert message in caplog.text


def test_a_class_without_pictures_is_said(tmp_path, caplog, digits):
    """Of hundreds of labelled digits each class should have some."""
    rows = np.arange(400) % 6
    write_csv(digits[rows], tmp_path / "train.csv")

    with caplog.at_level(logging.WARNING, "mnist"):
        read_train(tmp_path / "train.csv")

    assert "no picture is labelled 3, 4, 6, 8" in caplog.text
