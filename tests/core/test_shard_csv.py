"""Shards of CSV files in the form that a specification describes: what a whole file gives, piece by piece."""

import io
from dataclasses import replace

import numpy as np
import pytest

from mnist_core.digits import Digits, format_csv, read_test
from mnist_core.errors import DataError
from mnist_core.shard_csv import plan, read
from mnist_core.spec import CompetitionSpec

SPEC = CompetitionSpec("x", None, None, (8, 7, 1), ("a", "b"))
ROWS = 20
IDS = tuple(f"scan {number}" for number in range(ROWS))
HEADLESS = {"header": False, "label_column": "-1", "id_column": "1"}


def written(spec):
    """Return digits as a file of the specification."""
    pixels = np.random.default_rng(1).integers(0, 256, (ROWS, *spec.picture_shape), np.uint8)
    if spec.value_range == (0, 16):
        pixels = np.rint(np.rint(pixels / 255 * 16) * 255 / 16).astype(np.uint8)
    return b"".join(format_csv(Digits(pixels, None, spec, IDS if spec.id_column else None)))


def in_pieces(content, spec, rows=6):
    """Return all batches of all pieces of a file."""
    pieces = plan(io.BytesIO(content), "a.csv", spec, rows)
    return [batch for piece in pieces for batch in read(io.BytesIO(content), "a.csv", spec, piece)]


@pytest.mark.parametrize(
    "change",
    [
        {"value_range": (0, 16)},
        {"value_range": (255, 0)},
        {"transposed": True},
        {"id_column": "id"},
        {"delimiter": ";"},
        {"shape": (4, 5, 3), "transposed": True, "id_column": "id", "delimiter": "\t"},
        HEADLESS,
    ],
    ids=str,
)
def test_pieces_of_a_file_give_what_the_whole_file_does(change, tmp_path):
    """Values, order, delimiter and ids follow the specification; rows are numbered through the file."""
    spec = replace(SPEC, **change)
    content = written(spec)
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    whole = read_test(path, spec)

    batches = in_pieces(content, spec)

    np.testing.assert_array_equal(np.concatenate([batch.pixels for batch in batches]), whole.pixels)
    assert np.concatenate([batch.numbers for batch in batches]).tolist() == list(range(ROWS))
    assert len(batches) == 4
    if spec.id_column:
        assert tuple(name for batch in batches for name in batch.ids.to_pylist()) == whole.ids == IDS


@pytest.mark.parametrize(
    ("old", "new", "column", "problem"),
    [
        (b"7", b"x", "pixel0", "found 'x', expected a number 0..16"),
        (b"7", b"17", "pixel0", "found '17', expected a number 0..16"),
        (b"7;", b"", "", "55 values, expected 56"),
    ],
)
def test_a_broken_row_is_known_by_its_number_and_column(old, new, column, problem):
    """The rows around it are read; it is described as in a file of Kaggle's form."""
    spec = replace(SPEC, value_range=(0, 16), delimiter=";")
    lines = [b";".join([b"7"] * spec.pixels) for _ in range(ROWS)]
    lines[9] = lines[9].replace(old, new, 1)
    content = b"\n".join([";".join(spec.pixel_columns).encode(), *lines]) + b"\n"

    batches = in_pieces(content, spec)

    [bad] = [bad for batch in batches for bad in batch.bad]
    assert (bad.row, bad.column, bad.problem) == (9, column, problem)
    numbers = [number for batch in batches for number in batch.numbers.tolist()]
    assert numbers == [number for number in range(ROWS) if number != 9]


def test_an_empty_line_is_a_broken_row():
    """It is named, and neither skipped nor taken for the end."""
    spec = replace(SPEC, delimiter=";")
    content = written(spec).split(b"\r\n")
    content[5] = b""

    [bad] = [bad for batch in in_pieces(b"\r\n".join(content), spec) for bad in batch.bad]

    assert (bad.row, bad.problem) == (4, "the line is empty")


def test_a_file_with_other_columns_is_refused():
    """A header without the competition's columns is explained before anything is cut."""
    spec = replace(SPEC, id_column="id")

    with pytest.raises(DataError, match=r"a\.csv: header: has no column pixel0"):
        plan(io.BytesIO(b"x,y\n1,2\n"), "a.csv", spec, 100)


def test_labels_that_are_words_do_not_matter():
    """A file without labels has nothing but pixels."""
    content = written(SPEC)

    assert [(piece.start, piece.stop) for piece in plan(io.BytesIO(content), "a.csv", SPEC, 100)] == [(0, 20)]
