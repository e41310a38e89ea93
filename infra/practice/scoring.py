"""A submission's bytes and the solution → a score, or the error text that Kaggle gives."""

import csv
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mnist_core.spec import DIGIT_RECOGNIZER, CompetitionSpec


@dataclass(frozen=True)
class Grade:
    """The result of scoring a submission: its number of correct rows, or an error text."""

    correct: int = 0
    error: str = ""


def grade(body: bytes, solution: NDArray[np.uint8], spec: CompetitionSpec = DIGIT_RECOGNIZER) -> Grade:
    """Count the correct rows of a submission, which may come in any order.

    Args:
        body: the uploaded bytes: CSV in UTF-8 with the two columns of `spec`; other columns are ignored.
        solution: indices into the classes of `spec`, uint8 (N,), in the order of the ids.
        spec: the competition.

    Returns:
        The grade; its error names the line and the column, the header being line 1.
    """
    try:
        lines = list(csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        return Grade(error=f"Unable to read the submission file: {error}")
    if not lines:
        return Grade(error="The submission file is empty")
    for column in spec.submission_header:
        if column not in lines[0]:
            return Grade(error=f"Required column '{column}' could not be found (Line 1)")
    id_place, label_place = (lines[0].index(column) for column in spec.submission_header)
    rows = [(number, line) for number, line in enumerate(lines[1:], 2) if line]
    if len(rows) != len(solution):
        return Grade(error=f"Submission must have {len(solution)} rows")
    return _count(rows, id_place, label_place, solution, spec)


def cut_score(correct: int, rows: int) -> str:
    """Return the share of correct rows as Kaggle prints it: cut, not rounded, to five decimals."""
    units, parts = divmod(correct * 100_000 // rows, 100_000)
    return f"{units}.{parts:05d}"


def _count(
    rows: list[tuple[int, list[str]]],
    id_place: int,
    label_place: int,
    solution: NDArray[np.uint8],
    spec: CompetitionSpec,
) -> Grade:
    id_column, label_column = spec.submission_header
    ids = {str(spec.first_id + row): row for row in range(len(solution))}
    labels = {label: index for index, label in enumerate(spec.classes)}
    seen: set[int] = set()
    correct = 0
    for number, line in rows:
        error = ""
        if len(line) <= max(id_place, label_place):
            return Grade(error=f"Record has {len(line)} columns, too few for the header (Line {number})")
        key, value = line[id_place].strip(), line[label_place].strip()
        if key not in ids:
            error = f"Unexpected value '{key[:40]}' in the key column '{id_column}'"
        elif ids[key] in seen:
            error = f"The value '{key}' appears twice in the key column '{id_column}'"
        elif not value:
            error = f"Submission contains null values in the column '{label_column}'"
        elif value not in labels:
            error = f"{label_column} '{value[:40]}' is not one of {', '.join(spec.classes)}"
        if error:
            return Grade(error=f"{error} (Line {number})")
        seen.add(ids[key])
        correct += int(labels[value] == solution[ids[key]])
    return Grade(correct=correct)
