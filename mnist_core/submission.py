"""The submission file: predicted labels as the competition takes them, a row for each digit of the test file.

Header `ImageId,Label`, ids that count up from 1 in the order of test.csv, labels 0..9.
Source: kaggle.com/competitions/digit-recognizer/overview/evaluation
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_core.errors import SubmissionError
from mnist_core.spec import DIGIT_RECOGNIZER, CompetitionSpec
from mnist_core.spec_csv import quoted

DECIMALS = 6
"""Digits behind the point of a probability."""
LEAST = 10**-DECIMALS
"""The lowest probability that is written: a 0 for the true class would cost 34 nats, 21 more than this."""


def to_csv(
    labels: NDArray[np.integer | np.floating],
    spec: CompetitionSpec = DIGIT_RECOGNIZER,
    *,
    rows: int | None = None,
    ids: Sequence[str] | None = None,
    clip: bool = False,
) -> bytes:
    """Return labels as the text of a submission file.

    Args:
        labels: (rows,), each the number of a class, 0..9, in the order of the test file; integers, or floats
            that are whole. For a metric of probabilities these, (rows, classes).
        spec: header, ids, classes and rows of the competition.
        rows: how many labels are expected, if not `spec.test_rows`.
        ids: of the test file's rows, if it has a column of them (`Digits.ids`); None counts the rows.
        clip: write the nearest class if a whole number is out of range, as a regression's rounded outputs may
            be. What is not a whole number is refused in any case.

    Returns:
        UTF-8 with LF line ends; the same labels give the same bytes, so that their digest identifies them.

    Raises:
        SubmissionError: the number of labels differs, or a label is not a class; the message names the id.
    """
    labels = np.asarray(labels)
    if spec.metric.of_probabilities:
        rows = _first_known(rows, spec.test_rows, len(labels))
        return _text(_probabilities(labels, rows, spec), rows, ids, spec)
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
    classes = [quoted(name) for name in spec.classes]
    return _text([classes[label] for label in labels.astype(int)], rows, ids, spec)


def _text(values: Sequence[str], rows: int, ids: Sequence[str] | None, spec: CompetitionSpec) -> bytes:
    """Return the file whose rows have these values behind their ids."""
    if spec.id_column is not None and (ids is None or len(ids) != rows):
        raise SubmissionError(
            f"{rows:,} labels without the ids of {spec.test_file}, column {spec.id_column}",
            "pass the ids of its digits",
        )
    named = map(str, range(spec.first_id, spec.first_id + rows)) if ids is None else map(quoted, ids)
    lines = [f"{name},{value}\n" for name, value in zip(named, values, strict=True)]
    return "".join([",".join(map(quoted, spec.submission_header)), "\n", *lines]).encode()


def _probabilities(found: NDArray[Any], rows: int, spec: CompetitionSpec) -> list[str]:
    """Return the probabilities of each row as text."""
    if found.shape != (rows, spec.class_count):
        raise SubmissionError(
            f"probabilities with shape {found.shape}, expected ({rows}, {spec.class_count})",
            "predict a probability for each class",
        )
    if not np.isfinite(found).all() or found.min(initial=0) < 0 or found.max(initial=0) > 1 + 1e-4:
        raise SubmissionError("a probability is not between 0 and 1", "train the version again with --fresh")
    return [",".join(f"{value:.{DECIMALS}f}" for value in row) for row in found.clip(LEAST, 1.0).tolist()]


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
    header = ",".join(map(quoted, spec.submission_header))
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
    seen: set[bytes] = set()
    labels = np.empty(max(rows, 0), np.int64)
    for row, line in enumerate(lines[1 : rows + 1]):
        where, fields = f"{name}, line {row + 2}", _fields(line)
        if len(fields) != len(spec.submission_header):
            count = "two" if len(spec.submission_header) == 2 else len(spec.submission_header)
            raise SubmissionError(
                f"{where}: {_shown(line)}, expected {count} columns: {','.join(spec.submission_header)}"
            )
        _check_id(where, fields[0], b"%d" % (row + spec.first_id), seen, spec)
        if spec.metric.of_probabilities:
            labels[row] = _most_probable(where, fields[1:])
        else:
            labels[row] = _label(where, fields[1], number_of, spec)
    if len(lines) - 1 != rows:
        raise SubmissionError(
            f"{name}, line {min(len(lines), rows + 1) + 1}, column {spec.submission_header[0]}: "
            f"{len(lines) - 1:,} rows, expected {rows:,}",
            f"write one row for each digit of {spec.test_file}",
        )
    return labels


def _fields(line: bytes) -> list[bytes]:
    """Return the fields of a line; quotes count only where `to_csv` writes them."""
    if b'"' in line:
        fields = next(csv.reader([line.decode("utf-8", "replace")]))
        if ",".join(map(quoted, fields)).encode() == line:
            return [field.encode() for field in fields]
    return line.split(b",")


def _check_id(where: str, found: bytes, counted: bytes, seen: set[bytes], spec: CompetitionSpec) -> None:
    """Raise if this is not the counted id, or if the test file has ids, one that was seen before."""
    column = spec.submission_header[0]
    if spec.id_column is None and found != counted:
        raise SubmissionError(
            f"{where}, column {column}: {_shown(found)}, expected {counted.decode()}",
            f"ids run from {spec.first_id} in the order of {spec.test_file}",
        )
    if not found or found in seen:
        raise SubmissionError(
            f"{where}, column {column}: {_shown(found)}, expected another id in each row",
            f"repeat the ids of {spec.test_file}",
        )
    seen.add(found)


def _most_probable(where: str, found: list[bytes]) -> int:
    """Return the number of the class with the highest probability of a line."""
    try:
        shares = np.array([float(field) for field in found])
    except ValueError:
        shares = np.array([np.nan])
    if not ((shares >= 0) & (shares <= 1)).all():
        raise SubmissionError(f"{where}: {_shown(b','.join(found))} are not probabilities")
    return int(shares.argmax())


def _label(where: str, found: bytes, number_of: dict[bytes, int], spec: CompetitionSpec) -> int:
    """Return the number of the class that a line names."""
    if found not in number_of:
        raise SubmissionError(
            f"{where}, column {spec.submission_header[1]}: {_shown(found)}, expected one of "
            f"{spec.class_range}, without quotes, spaces or decimals"
        )
    return number_of[found]


def _first_known(*numbers: int | None) -> int:
    """Return the first number that is known."""
    return next(number for number in numbers if number is not None)


def _shown(text: bytes) -> str:
    return repr(text[:40].decode("utf-8", "backslashreplace"))
