"""A submission's bytes and the solution → a score, or the error text that Kaggle gives."""

import csv
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

COLUMNS = ("ImageId", "Label")


@dataclass(frozen=True)
class Grade:
    """What became of a submission: so many rows right, or an error text."""

    correct: int = 0
    error: str = ""


def grade(body: bytes, solution: NDArray[np.uint8]) -> Grade:
    """Count the right rows of a submission, whose rows may come in any order.

    Args:
        body: the uploaded bytes: CSV in UTF-8 with the columns ImageId and Label; others are ignored.
        solution: the labels of ImageId 1..N, uint8 (N,).

    Returns:
        The grade; its error names the line and the column, the header being line 1.
    """
    try:
        lines = list(csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        return Grade(error=f"Unable to read the submission file: {error}")
    if not lines:
        return Grade(error="The submission file is empty")
    for column in COLUMNS:
        if column not in lines[0]:
            return Grade(error=f"Required column '{column}' could not be found (Line 1)")
    places = [lines[0].index(column) for column in COLUMNS]
    rows = [(number, line) for number, line in enumerate(lines[1:], 2) if line]
    if len(rows) != len(solution):
        return Grade(error=f"Submission must have {len(solution)} rows")
    return _count(rows, places[0], places[1], solution)


def cut_score(correct: int, rows: int) -> str:
    """The share of right rows as Kaggle prints it: cut, not rounded, to five decimals."""
    units, parts = divmod(correct * 100_000 // rows, 100_000)
    return f"{units}.{parts:05d}"


def _count(
    rows: list[tuple[int, list[str]]], id_place: int, label_place: int, solution: NDArray[np.uint8]
) -> Grade:
    ids = {str(row + 1): row for row in range(len(solution))}
    labels = {str(label): label for label in range(10)}
    seen: set[int] = set()
    correct = 0
    for number, line in rows:
        if len(line) <= max(id_place, label_place):
            return Grade(error=f"Record has {len(line)} columns, too few for the header (Line {number})")
        key, value = line[id_place].strip(), line[label_place].strip()
        if key not in ids:
            return Grade(error=f"Unexpected value '{key[:40]}' in the key column 'ImageId' (Line {number})")
        row = ids[key]
        if row in seen:
            return Grade(
                error=f"The value '{key}' in the key column 'ImageId' is there twice (Line {number})"
            )
        if not value:
            return Grade(error=f"Submission contains null values in the column 'Label' (Line {number})")
        if value not in labels:
            return Grade(error=f"Label '{value[:40]}' is not one of the digits 0 to 9 (Line {number})")
        seen.add(row)
        correct += int(labels[value] == solution[row])
    return Grade(correct=correct)
