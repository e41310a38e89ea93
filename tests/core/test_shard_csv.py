"""Shards of CSV files: whose form is another one than plain pixels is not misread."""

import io
from dataclasses import replace

import numpy as np
import pytest

from mnist_core.digits import Digits, format_csv
from mnist_core.errors import DataError
from mnist_core.shard_csv import plan
from mnist_core.spec import CompetitionSpec

SPEC = CompetitionSpec("x", None, None, (8, 8, 1), ("a", "b"))


@pytest.mark.parametrize(
    "change", [{"value_range": (0, 16)}, {"transposed": True}, {"id_column": "id"}, {"delimiter": ";"}]
)
def test_files_in_another_form_are_refused(change):
    """Numbers up to 16 would be read as a picture that is nearly black, and columns as rows."""
    spec = replace(SPEC, **change)
    digits = Digits(np.zeros((2, 8, 8), np.uint8), None, spec, ("4", "5") if spec.id_column else None)
    file = io.BytesIO(b"".join(format_csv(digits)))

    with pytest.raises(DataError, match=r"the CSV files of x do not hold pixels.*; write .* as Parquet"):
        plan(file, "a.csv", spec, 100)


def test_labels_that_are_words_do_not_matter():
    """A file without labels has nothing but pixels."""
    file = io.BytesIO(b"".join(format_csv(Digits(np.zeros((2, 8, 8), np.uint8), None, SPEC))))

    assert [(piece.start, piece.stop) for piece in plan(file, "a.csv", SPEC, 100)] == [(0, 2)]
