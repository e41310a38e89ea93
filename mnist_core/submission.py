"""The submission file: predicted labels as the competition takes them, a row for each digit of the test file.

Header `ImageId,Label`, ids that count up from 1 in the order of test.csv, labels 0..9.
Source: kaggle.com/competitions/digit-recognizer/overview/evaluation
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnist_core.errors import SubmissionError
from mnist_core.spec import DIGIT_RECOGNIZER, CompetitionSpec


def to_csv(
    labels: NDArray[np.integer | np.floating],
    spec: CompetitionSpec = DIGIT_RECOGNIZER,
    *,
    rows: int | None = None,
    clip: bool = False,
) -> bytes:
    """Return labels as the text of a submission file.

    Args:
        labels: (rows,), each the number of a class, 0..9, in the order of the test file; integers, or floats
            that are whole.
        spec: header, ids, classes and rows of the competition.
        rows: how many labels are expected, if not `spec.test_rows`.
        clip: write the nearest class if a whole number is out of range, as a regression's rounded outputs may
            be. What is not a whole number is refused in any case.

    Returns:
        ASCII with LF line ends; the same labels give the same bytes, so that their digest identifies them.

    Raises:
        SubmissionError: the number of labels differs, or a label is not a class; the message names the id.
    """
    labels = np.asarray(labels)
    rows = _first_known(rows, spec.test_rows, labels.size)
    if labels.ndim != 1 or labels.dtype.kind not in "iuf":
        raise SubmissionError(
            f"labels: {labels.dtype} with shape {labels.shape}, expected integers ({rows},)"
        )
    if len(labels) != rows:
        raise SubmissionError(
            f"{len(labels):,} labels, expected {rows:,}: one for each row of {spec.test_file}"
        )
    whole = np.isfinite(labels) & (labels == np.rint(labels))
    if clip:
        labels = np.where(whole, np.clip(labels, 0, spec.class_count - 1), labels)
    wrong = np.flatnonzero(~np.isin(labels, np.arange(spec.class_count)))  # NaN and fractions are in nothing
    if len(wrong):
        first = wrong[0]
        raise SubmissionError(
            f"{spec.submission_header[0]} {spec.first_id + first}: the label {labels[first]} is not a class, "
            f"expected an integer 0..{spec.class_count - 1} ({len(wrong):,} of {rows:,} are wrong)",
            "a regression's rounded number is not a class: predict classes, or ask for numbers to be clipped "
            "(clip=True)"
            if whole[wrong].all()
            else "predict classes; a regression's numbers must be rounded first",
        )
    names = [spec.classes[label] for label in labels.astype(np.int64).tolist()]
    lines = [f"{number},{name}\n" for number, name in enumerate(names, start=spec.first_id)]
    return "".join([",".join(spec.submission_header), "\n", *lines]).encode()


def read_csv(
    data: bytes | Path, spec: CompetitionSpec = DIGIT_RECOGNIZER, *, rows: int | None = None
) -> NDArray[np.int64]:
    """Return the labels of a submission file, after checking all that the competition would check.

    Args:
        data: the file's content, or its path. Lines end in LF or CRLF; the last one may end without.
        spec: header, ids, classes and rows of the competition.
        rows: how many labels are expected, if not `spec.test_rows`.

    Returns:
        int64 (rows,), each the number of a class, 0..9, in the order of the ids.

    Raises:
        SubmissionError: the file cannot be read, or its header, an id, a label or the number of rows is
            wrong; the message names the line and the column.
    """
    name = "submission"
    if isinstance(data, Path):
        name = str(data)
        try:
            data = data.read_bytes()
        except OSError as error:
            raise SubmissionError(f"{name}: cannot be read: {error.strerror or error}") from error
    header = ",".join(spec.submission_header)
    lines = data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    rows = _first_known(rows, spec.test_rows, max(len(lines) - 1, 0))
    if not data:
        raise SubmissionError(f"{name}: is empty, expected {header} and {rows:,} rows")
    lines = [line.removesuffix(b"\r") for line in lines]
    if lines[0] != header.encode():
        raise SubmissionError(
            f"{name}, line 1: header {_shown(lines[0])}, expected '{header}' without quotes or a byte order "
            "mark"
        )
    number_of = {label.encode(): number for number, label in enumerate(spec.classes)}
    labels = np.empty(max(rows, 0), np.int64)
    for row, line in enumerate(lines[1 : rows + 1]):
        labels[row] = _label(f"{name}, line {row + 2}", line, row + spec.first_id, number_of, spec)
    if len(lines) - 1 != rows:
        raise SubmissionError(
            f"{name}, line {min(len(lines), rows + 1) + 1}, column {spec.submission_header[0]}: "
            f"{len(lines) - 1:,} rows, expected {rows:,}",
            f"write one row for each digit of {spec.test_file}",
        )
    return labels


def _label(where: str, line: bytes, expected: int, number_of: dict[bytes, int], spec: CompetitionSpec) -> int:
    """Return the number of the class that a line names, if its id is the expected one."""
    id_column, label_column = spec.submission_header
    fields = line.split(b",")
    if len(fields) != 2:
        raise SubmissionError(
            f"{where}: {_shown(line)}, expected two columns: {','.join(spec.submission_header)}"
        )
    if fields[0] != b"%d" % expected:
        raise SubmissionError(
            f"{where}, column {id_column}: {_shown(fields[0])}, expected {expected}",
            f"ids run from {spec.first_id} in the order of {spec.test_file}",
        )
    if fields[1] not in number_of:
        raise SubmissionError(
            f"{where}, column {label_column}: {_shown(fields[1])}, expected one of {spec.class_range}, "
            "without quotes, spaces or decimals"
        )
    return number_of[fields[1]]


def _first_known(*numbers: int | None) -> int:
    """Return the first number that is known."""
    return next(number for number in numbers if number is not None)


def _shown(text: bytes) -> str:
    return repr(text[:40].decode("utf-8", "backslashreplace"))
