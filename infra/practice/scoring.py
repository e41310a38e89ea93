"""A submission's bytes and the solution → a score, or the error text that Kaggle gives."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from infra.practice.data import Solution
from mnist_core.spec import DIGIT_RECOGNIZER, CompetitionSpec, Metric

SMALLEST = 1e-15
"""What a probability of 0 counts as in a log loss, as in scikit-learn's: one row must not decide it all."""
NAMES = {
    Metric.ACCURACY: "Categorization Accuracy",
    Metric.MACRO_F1: "Macro F1 Score",
    Metric.LOG_LOSS: "Multiclass Loss",
}
"""What Kaggle calls the metrics."""


@dataclass(frozen=True, eq=False)
class Grade:
    """What a submission predicts for each row of the solution, or an error text.

    Attributes:
        predicted: float64 (N, classes), the probability of each class, 0 or 1 if it gives labels.
        wrong: right rows that count as wrong, on purpose.
        error: names the line and the column, the header being line 1.
    """

    predicted: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)), repr=False)
    wrong: int = 0
    error: str = ""


def grade(body: bytes, solution: Solution, spec: CompetitionSpec = DIGIT_RECOGNIZER) -> Grade:
    """Read a submission, whose rows may come in any order.

    Args:
        body: the uploaded bytes: CSV in UTF-8 with the columns of `spec`; other columns are ignored.
        solution: of the competition.
        spec: the competition.
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
    places = [lines[0].index(column) for column in spec.submission_header]
    rows = [(number, line) for number, line in enumerate(lines[1:], 2) if line]
    if len(rows) != len(solution.ids):
        return Grade(error=f"Submission must have {len(solution.ids)} rows")
    return _read(rows, places, solution, spec)


def score(grade: Grade, solution: Solution, spec: CompetitionSpec = DIGIT_RECOGNIZER) -> str:
    """Return the public score of a submission without an error, as Kaggle prints it.

    A share is cut, not rounded, to five decimals.
    """
    labels, predicted = solution.labels[solution.public], grade.predicted[solution.public].copy()
    if grade.wrong:
        right = np.flatnonzero(predicted.argmax(1) == labels)[: grade.wrong]
        predicted[right] = 0.0
        predicted[right, (labels[right] + 1) % spec.class_count] = 1.0
    if spec.metric is Metric.LOG_LOSS:
        shares = predicted / predicted.sum(1, keepdims=True)
        of_label = shares[np.arange(len(labels)), labels].clip(SMALLEST, 1 - SMALLEST)
        return f"{-np.log(of_label).mean():.5f}"
    found = predicted.argmax(1)
    if spec.metric is Metric.ACCURACY:
        return cut_score(int((found == labels).sum()), len(labels))
    return cut_score(math.floor(_macro_f1(found, labels) * 1e9 + 0.5), 1_000_000_000)


def cut_score(correct: int, rows: int) -> str:
    """Return the share of correct rows as Kaggle prints it: cut, not rounded, to five decimals."""
    units, parts = divmod(correct * 100_000 // rows, 100_000)
    return f"{units}.{parts:05d}"


def _macro_f1(found: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    """Return the mean of the F1 scores of all classes that are there or were predicted."""
    size = 1 + int(max(found.max(), labels.max()))
    right = np.bincount(labels[found == labels], minlength=size)
    either = np.bincount(found, minlength=size) + np.bincount(labels, minlength=size)
    return float((2 * right[either > 0] / either[either > 0]).mean())


def _read(
    rows: list[tuple[int, list[str]]], places: list[int], solution: Solution, spec: CompetitionSpec
) -> Grade:
    id_column, places_of_values = spec.submission_header[0], places[1:]
    row_of = {name: row for row, name in enumerate(solution.ids)}
    number_of = {label: number for number, label in enumerate(spec.classes)}
    predicted = np.zeros((len(rows), spec.class_count))
    seen: set[int] = set()
    for number, line in rows:
        if len(line) <= max(places):
            return Grade(error=f"Record has {len(line)} columns, too few for the header (Line {number})")
        key, values = line[places[0]].strip(), [line[place].strip() for place in places_of_values]
        row = row_of.get(key)
        if row is None:
            error = f"Unexpected value '{key[:40]}' in the key column '{id_column}'"
        elif row in seen:
            error = f"The value '{key}' appears twice in the key column '{id_column}'"
        else:
            error = next(_faults(values, number_of, spec), "")
        if row is None or error:
            return Grade(error=f"{error} (Line {number})")
        seen.add(row)
        if spec.metric.of_probabilities:
            predicted[row] = [float(value) for value in values]
        else:
            predicted[row, number_of[values[0]]] = 1.0
    return Grade(predicted)


def _faults(values: list[str], number_of: dict[str, int], spec: CompetitionSpec) -> Iterator[str]:
    """Yield what is wrong with the values of a row."""
    total = 0.0
    for column, value in zip(spec.submission_header[1:], values, strict=True):
        if not value:
            yield f"Submission contains null values in the column '{column}'"
        elif not spec.metric.of_probabilities:
            if value not in number_of:
                yield f"{column} '{value[:40]}' is not one of {', '.join(spec.classes)}"
        else:
            try:
                share = float(value)
            except ValueError:
                share = math.nan
            if not 0 <= share <= 1:
                yield f"{column} '{value[:40]}' is not a probability"
            total += share
    if spec.metric.of_probabilities and not total > 0:
        yield "The probabilities of a row are all 0"
