"""The example competitions are made again byte for byte, and have the form that their specification says."""

import csv

import numpy as np
import pytest
from typer.testing import CliRunner

from infra.practice.errors import PracticeError
from infra.practice.examples import fonts
from infra.practice.examples.__main__ import app
from infra.practice.examples.make import Example, make_example
from mnist_core.spec import read_spec

needs_fonts = pytest.mark.skipif(
    bool(fonts.missing_packages()), reason=f"no fonts of {', '.join(fonts.missing_packages())}"
)
DRAWN = [pytest.param(example, marks=needs_fonts) for example in (Example.LETTERS, Example.EMNIST)]
ROWS = {Example.DIGITS: 60, Example.LETTERS: 78, Example.EMNIST: 94}


def rows_of(folder):
    """Return the rows of a file of labelled pictures, split at its commas."""
    with (folder / "labelled.csv").open() as file:
        return list(csv.reader(file))


@pytest.mark.parametrize("example", [Example.DIGITS, *DRAWN])
def test_a_seed_gives_the_same_files(example, tmp_path):
    """The same seed draws the same pictures, and another seed others."""
    for name, seed in (("one", 3), ("two", 3), ("other", 4)):
        make_example(example, tmp_path / name, rows=ROWS[example], seed=seed)
    one, two, other = ((tmp_path / name / "labelled.csv").read_bytes() for name in ("one", "two", "other"))

    assert one == two
    assert one != other


@pytest.mark.parametrize("example", [Example.DIGITS, *DRAWN])
def test_the_specification_describes_the_rows(example, tmp_path):
    """Rows, classes, columns and values are those of the specification beside them."""
    spec = read_spec(make_example(example, tmp_path, rows=ROWS[example], test_rows=7))
    rows = rows_of(tmp_path)
    header = rows.pop(0) if spec.header else None
    labels = [row[-1 if header else 0] for row in rows]

    assert (spec.name, spec.train_rows, spec.test_rows) == (example, ROWS[example] - 7, 7)
    assert spec.source == str(tmp_path / "labelled.csv")
    assert len(rows) == ROWS[example]
    assert set(labels) == set(spec.classes)
    assert header is None or header[-1] == spec.label_column
    assert header is None or tuple(header[-1 - spec.pixels : -1]) == spec.pixel_columns
    pixels = np.array([row[-1 - spec.pixels : -1] if header else row[1:] for row in rows], int)
    assert pixels.shape == (len(rows), spec.pixels)
    assert (pixels.min(), pixels.max()) == spec.value_range


@needs_fonts
def test_ids_of_letters_begin_at_0_and_have_gaps(tmp_path):
    """The letters' ids are not their row numbers."""
    make_example(Example.LETTERS, tmp_path, rows=52)
    ids = [int(row[0]) for row in rows_of(tmp_path)[1:]]

    assert ids[0] == 0
    assert ids == sorted(set(ids))
    assert ids[-1] > 52


@needs_fonts
def test_pictures_of_the_transposed_example_lie_on_their_side(tmp_path):
    """A capital I is wider than tall as the file has it, and stands upright once it is transposed."""
    spec = read_spec(make_example(Example.EMNIST, tmp_path, rows=470))
    found = [row[1:] for row in rows_of(tmp_path) if row[0] == "I"]
    ink = np.array(found, int).reshape(-1, *spec.picture_shape) > 127
    height, width = ink.any(2).sum(1), ink.any(1).sum(1)

    assert (width > height).all()


def test_missing_fonts_are_named_with_their_packages(tmp_path):
    """On a machine without the fonts, the message is the command that installs them."""
    with pytest.raises(PracticeError, match=r"sudo apt-get install fonts-breip .*fonts-liberation$"):
        fonts.find_fonts(tmp_path)


def test_too_many_rows_are_refused(tmp_path):
    """The command says how many rows there are, and writes nothing."""
    result = CliRunner().invoke(app, ["digits-8x8", str(tmp_path / "new"), "--rows", "1798"])

    assert isinstance(result.exception, PracticeError)
    assert "1,797" in str(result.exception)
    assert not (tmp_path / "new").exists()
