"""submission.csv: the contract of the 28,000 rows.

Header `ImageId,Label`, then one row for each digit of test.csv in its order: ids from 1, labels 0..9.
Source: kaggle.com/competitions/digit-recognizer/overview/evaluation
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnist_core.digits import CLASSES
from mnist_core.errors import SubmissionError

ROWS = 28_000

_HEADER = b"ImageId,Label"


def to_csv(labels: NDArray[np.integer | np.floating], rows: int = ROWS, *, clip: bool = False) -> bytes:
    """Labels as the text of submission.csv.

    Args:
        labels: (rows,), each 0..9, in the order of test.csv; integers, or floats that are whole.
        rows: how many labels the competition expects.
        clip: write the nearest digit, 0 or 9, where a whole number lies outside 0..9, as a regression's
            rounded outputs may. What is no whole number is refused as ever.

    Returns:
        ASCII with LF line ends; the same labels give the same bytes, so that their digest names them.

    Raises:
        SubmissionError: another number of labels, or a label that is no digit; it names the ImageId.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iuf":
        raise SubmissionError(
            f"labels: {labels.dtype} with shape {labels.shape}, expected integers ({rows},)"
        )
    if len(labels) != rows:
        raise SubmissionError(f"{len(labels):,} labels, expected {rows:,}: one for each row of test.csv")
    whole = np.isfinite(labels) & (labels == np.rint(labels))
    if clip:
        labels = np.where(whole, np.clip(labels, 0, CLASSES - 1), labels)
    wrong = np.flatnonzero(~np.isin(labels, np.arange(CLASSES)))  # NaN and fractions are in nothing
    if len(wrong):
        first = wrong[0]
        remedy = (
            "A regression's rounded number is not a class: nothing keeps it within 0..9. Predict classes, or "
            "ask for the numbers to be clipped (clip=True)"
            if whole[wrong].all()
            else "Predict classes; a regression's numbers must be rounded first"
        )
        raise SubmissionError(
            f"ImageId {first + 1}: the label {labels[first]} is no digit, expected an integer 0..9 "
            f"({len(wrong):,} of {rows:,} are wrong). {remedy}"
        )
    lines = [f"{i},{label}\n" for i, label in enumerate(labels.astype(np.int64).tolist(), start=1)]
    return _HEADER + b"\n" + "".join(lines).encode()


def read_csv(data: bytes | Path, rows: int = ROWS) -> NDArray[np.int64]:
    """The labels of a submission, after checking all that the competition would check, and the order.

    Args:
        data: the file's content, or its path. Lines end in LF or CRLF; the last one may end without.
        rows: how many labels the competition expects.

    Returns:
        int64 (rows,), each 0..9; the label of ImageId i is at i - 1.

    Raises:
        SubmissionError: the header, an id, a label or the number of rows is wrong;
            it names the line, the column and the remedy. Also if the file can not be read.
    """
    name = "submission"
    if isinstance(data, Path):
        name = str(data)
        try:
            data = data.read_bytes()
        except OSError as error:
            raise SubmissionError(f"{name}: can not be read: {error.strerror or error}") from error
    if not data:
        raise SubmissionError(f"{name}: is empty, expected {_HEADER.decode()} and {rows:,} rows")

    lines = data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    lines = [line.removesuffix(b"\r") for line in lines]
    if lines[0] != _HEADER:
        raise SubmissionError(
            f"{name}, line 1: header {_shown(lines[0])}, expected 'ImageId,Label' "
            "without quotes or a byte order mark"
        )
    labels = np.empty(max(rows, 0), np.int64)
    for row, line in enumerate(lines[1 : rows + 1], start=1):
        where = f"{name}, line {row + 1}"
        fields = line.split(b",")
        if len(fields) != 2:
            raise SubmissionError(f"{where}: {_shown(line)}, expected two columns: ImageId,Label")
        if fields[0] != b"%d" % row:
            raise SubmissionError(
                f"{where}, column ImageId: {_shown(fields[0])}, expected {row}; "
                "ids run from 1 in the order of test.csv"
            )
        if len(fields[1]) != 1 or not fields[1].isdigit():
            raise SubmissionError(
                f"{where}, column Label: {_shown(fields[1])}, expected one digit 0..9, "
                "without quotes, spaces or decimals"
            )
        labels[row - 1] = int(fields[1])
    if len(lines) - 1 != rows:
        raise SubmissionError(
            f"{name}, line {min(len(lines), rows + 1) + 1}, column ImageId: {len(lines) - 1:,} rows, "
            f"expected {rows:,}; write one row for each digit of test.csv"
        )
    return labels


def _shown(text: bytes) -> str:
    return repr(text[:40].decode("utf-8", "backslashreplace"))
