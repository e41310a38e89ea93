"""Write a competition's specification from its files, and say what of it is a guess."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_core._spec_keys import CLASSES, SIDES
from mnist_core.csv_table import NUMBER, Table, read_table
from mnist_core.errors import DataError
from mnist_core.metric import Metric
from mnist_core.spec_csv import UNNAMED

LABELS = ("label", "class", "digit", "letter", "target", "y")
"""Usual names of the label's column, in lower case."""
_NUMBERS = re.compile(r"\d+")


@dataclass(frozen=True)
class Known:
    """What a user knows of a competition; None is guessed, or asked for if it cannot be.

    Attributes:
        name: as in the competition's URL.
        shape: rows, columns and channels of a picture.
        label: the column; without a header its number, 1 the first and -1 the last.
        metric: what a submission is scored by.
        transposed: whether the files hold pictures column by column.
    """

    name: str
    shape: tuple[int, int, int] | None = None
    label: str | None = None
    metric: Metric | None = None
    transposed: bool | None = None


@dataclass(frozen=True)
class Guess:
    """A specification as the text of a TOML file, and what of it was guessed, a sentence each."""

    text: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Pixels:
    """The pixel columns.

    Attributes:
        names: their names; without a header as many numbers.
        pattern: their names with `{}`, or `{row}` and `{column}`, for the numbers in them.
        first: the lowest of those numbers.
        shape: rows, columns and channels of a picture, if the names say so.
    """

    names: Sequence[str]
    pattern: str = "pixel{}"
    first: int = 0
    shape: tuple[int, int, int] | None = None


def guess_spec(train: Path, test: Path, sample: Path, known: Known) -> Guess:
    """Return the specification that a competition's three files suggest.

    Raises:
        DataError: a file cannot be read, the files contradict each other, or something is not certain and
            not in `known`; the message says what to state.
    """
    notes: list[str] = []
    training, testing, sampled = (read_table(file) for file in (train, test, sample))
    _check(training, testing, sampled)
    identity = _find_id(testing, sampled)
    pixels = _find_pixels(testing, identity, known, notes)
    label = _find_label(training, testing, pixels, sampled, known, notes)
    counts = read_table(train, count=training.place(label)).counts
    metric, classes = _find_classes(training, label, list(counts), sampled, known, notes)
    shape = known.shape or pixels.shape or _find_shape(len(pixels.names), training, notes)
    _check_shape(shape, len(pixels.names), training)
    values = _find_values(training, testing, label, identity, pixels)
    top: dict[str, Any] = {"name": known.name, "metric": metric.value, "classes": classes}
    top |= {"shape": list(shape), "train_rows": training.count, "test_rows": testing.count}
    top |= {"transposed": _find_transposed(known, pixels, notes)}
    top |= {"value_range": _find_range(values, shape, notes)}
    columns: dict[str, Any] = {"header": training.header, "delimiter": training.delimiter}
    columns["label"] = label if training.header else int(label)
    if identity is not None:
        columns["id"] = identity if training.header else int(identity)
    if training.header:
        columns |= {"pixels": pixels.pattern, "first_pixel": pixels.first}
        columns["ignore"] = _find_ignored(training, testing, {label, identity, *pixels.names}, notes)
    submission: dict[str, Any] = {"header": sampled.names}
    if identity is None:
        submission["first_id"] = _find_first_id(sampled)
    tables = {
        "files": {"train": train.name, "test": test.name, "sample": sample.name},
        "columns": columns,
        "submission": submission,
    }
    return Guess(format_toml(top, tables), tuple(notes))


def format_toml(top: Mapping[str, Any], tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a TOML file of keys and tables, whose values are texts, numbers, switches or lists of them."""

    def lines(keys: Mapping[str, Any]) -> str:
        # JSON writes these values as TOML does, if no character of a text is escaped that need not be.
        return "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in keys.items())

    return lines(top) + "".join(f"\n[{name}]\n{lines(keys)}" for name, keys in tables.items())


def _check(training: Table, testing: Table, sampled: Table) -> None:
    """Raise DataError if these are not the files of one competition."""
    if training.header != testing.header or training.delimiter != testing.delimiter:
        raise DataError(
            f"{training.file} and {testing.file}: only one has a header, or their delimiters differ",
            "write both in the same way",
        )
    if len(sampled.names) < 2 or not sampled.header:
        raise DataError(f"{sampled.file}: has no header of two or more columns", "name a sample submission")
    if sampled.count != testing.count:
        raise DataError(
            f"{sampled.file}: has {sampled.count:,} rows, and {testing.file} has {testing.count:,}",
            "name the files of one competition",
        )


def _find_id(testing: Table, sampled: Table) -> str | None:
    """Return the column of the test file that has the sample's ids; None if there is none."""
    if testing.header:
        same = [name for name in testing.names if name.lower() == sampled.names[0].lower()]
        if same:
            return same[0]
    ids = [row[0] for row in sampled.rows]
    for place, number in ((0, "1"), (-1, "-1")):
        repeated = [row[place] for row in testing.rows] == ids and len(set(ids)) > 1
        if repeated and testing.names[place] not in UNNAMED:
            return testing.names[place] if testing.header else number
    return None


def _find_pixels(testing: Table, identity: str | None, known: Known, notes: list[str]) -> Pixels:
    """Return the pixel columns: those whose names differ in their numbers alone."""
    names = [name for name in testing.names if name != identity]
    if not testing.header:
        count = len(testing.names) - (identity is not None)
        return Pixels([str(number) for number in range(count)])
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_NUMBERS.sub("0", name), []).append(name)
    found = max(groups.values(), key=len)
    numbers = np.array([[int(number) for number in _NUMBERS.findall(name)] for name in found])
    varying = [place for place in range(numbers.shape[1]) if len(set(numbers[:, place].tolist())) > 1]
    order = numbers[:, varying]
    texts = _NUMBERS.split(found[0])
    kept = [str(number) for number in numbers[0]] if len(found) > 1 else []
    if len(varying) == 1 and (order[:, 0] == order[0, 0] + np.arange(len(found))).all():
        marks, shape = ["{}"], None
    elif len(varying) in (2, 3) and _is_grid(order):
        marks, shape = _grid(order, known, notes)
    else:
        raise DataError(
            f"{testing.file}: the columns {found[0]}, …, {found[-1]} are not pixels in order, counted by 1",
            "name them pixel0, pixel1, … row by row, each pixel's channels side by side",
        )
    for place, mark in zip(varying, marks, strict=True):
        kept[place] = mark
    pattern = "".join(text + mark for text, mark in zip(texts, [*kept, ""], strict=True))
    return Pixels(found, pattern, int(order.min()), shape)


def _is_grid(order: NDArray[np.int64]) -> bool:
    """Tell whether places of pixels, int (N, 2 or 3), run through a grid, one number slower than the next."""
    order = order - order.min()
    sides = tuple(int(side) for side in order.max(0) + 1)
    if np.prod(sides) != len(order):
        return False
    grid = np.indices(sides).reshape(len(sides), -1).T
    swapped = (
        np.indices((sides[1], sides[0], *sides[2:]))
        .reshape(len(sides), -1)
        .T[:, [1, 0, *range(2, len(sides))]]
    )
    return bool((order == grid).all() or (order == swapped).all())


def _grid(order: NDArray[np.int64], known: Known, notes: list[str]) -> tuple[list[str], tuple[int, int, int]]:
    """Return what the numbers in the names mean, and the shape."""
    sides = (order.max(0) - order.min() + 1).tolist()
    channels = sides[2] if len(sides) == 3 else 1
    slow_first = order[channels, 0] == order[0, 0]
    rows_first = slow_first != bool(known.transposed)
    if not slow_first:
        notes.append(
            "the first number in the names of the pixels runs faster than the second: taken to be the "
            + (
                "row, because the pictures are transposed"
                if known.transposed
                else "column; if not: --transposed"
            )
        )
    marks = ["{row}", "{column}"] if rows_first else ["{column}", "{row}"]
    rows, columns = sides[:2] if rows_first else sides[1::-1]
    return [*marks, "{channel}"][: len(sides)], (rows, columns, channels)


def _find_label(
    training: Table, testing: Table, pixels: Pixels, sampled: Table, known: Known, notes: list[str]
) -> str:
    """Return the label's column in the training file."""
    if known.label is not None:
        training.place(known.label)
        return known.label
    if training.header:
        there, in_test = set(training.names), set(testing.names)
        missing = [name for name in pixels.names if name not in there]
        if missing:
            raise DataError(
                f"{training.file}: has no column {missing[0]}, which {testing.file} has",
                "name the files of one competition",
            )
        own = [name for name in training.names if name not in in_test]
        likely = [name for name in own if name.lower() in (*LABELS, sampled.names[1].lower())]
        found = likely if len(likely) == 1 else own
    else:
        found = [column for column in ("1", "-1") if training.may_be_label(column)]
        words = [column for column in found if not all(map(NUMBER.fullmatch, training.values(column)))]
        found = words if len(words) == 1 else found
    if len(found) != 1:
        choice = f"{', '.join(found)} may be" if found else "no column seems to be"
        raise DataError(f"{training.file}: {choice} the label", "state it with --label")
    notes.append(f"the label is the column {found[0]} of {training.file.name}")
    return found[0]


def _find_ignored(training: Table, testing: Table, used: set[str | None], notes: list[str]) -> list[str]:
    """Return the columns that are neither label, nor id, nor pixels."""
    names = dict.fromkeys([*training.names, *testing.names])
    ignored = [name for name in names if name not in used and name not in UNNAMED]
    if ignored:
        notes.append(f"the columns {', '.join(ignored)} are ignored")
    return ignored


def _find_shape(count: int, training: Table, notes: list[str]) -> tuple[int, int, int]:
    """Return the shape of a square picture with this number of values."""
    for channels in (1, 3):
        side = isqrt(count // channels)
        if side**2 * channels == count:
            notes.append(f"the pictures are square, {side} × {side}{' in colour' if channels == 3 else ''}")
            return side, side, channels
    low, high = SIDES
    fitting = [
        f"{rows}x{count // channels // rows}x{channels}"
        for channels in (1, 3)
        if count % channels == 0
        for rows in range(low, high + 1)
        if count // channels % rows == 0 and low <= count // channels // rows <= high
    ]
    remedy = f"state it with --shape, {' or '.join(fitting)}" if fitting else (
        f"pictures have {low} to {high} pixels a side: check which columns are pixels"
    )  # fmt: skip
    raise DataError(f"{training.file}: {count:,} pixels are not those of a square picture", remedy)


def _check_shape(shape: tuple[int, int, int], count: int, training: Table) -> None:
    """Raise DataError if these cannot be the pictures of a competition."""
    rows, columns, channels = shape
    low, high = SIDES
    if not (low <= rows <= high and low <= columns <= high):
        raise DataError(
            f"{training.file}: its pictures have {rows} × {columns} pixels",
            f"shrink or enlarge them to {low} to {high} pixels a side",
        )
    if rows * columns * channels != count:
        raise DataError(
            f"{training.file}: a row has {count:,} pixels, and {rows} × {columns} × {channels} are "
            f"{rows * columns * channels:,}",
            "correct --shape",
        )


def _find_classes(
    training: Table, label: str, found: list[str], sampled: Table, known: Known, notes: list[str]
) -> tuple[Metric, list[str]]:
    """Return the metric that the sample submission suggests, and the classes in the order of its columns."""
    if not CLASSES[0] <= len(found) <= CLASSES[1]:
        raise DataError(
            f"{training.file}: the column {label} has {len(found):,} different values, and a competition "
            f"{CLASSES[0]} to {CLASSES[1]:,} classes",
            "state the label's column with --label",
        )
    if "" in found:
        raise DataError(
            f"{training.file}: a row has nothing in the label's column {label}",
            "fill it in, or state another column with --label",
        )
    classes = sorted(found, key=int) if all(name.isdecimal() for name in found) else sorted(found)
    columns = sampled.names[1:]
    if len(columns) > 1:
        classes = _find_columns_classes(training, classes, sampled, columns, notes)
        notes.append("a column for each class: the metric is log loss")
        return known.metric or Metric.LOG_LOSS, classes
    if known.metric is None:
        notes.append("the metric is accuracy; see the competition's page, and state --metric if it is not")
    return known.metric or Metric.ACCURACY, classes


def _find_columns_classes(
    training: Table, classes: list[str], sampled: Table, columns: list[str], notes: list[str]
) -> list[str]:
    """Return the classes in the order of the sample's columns, which may name some that no row has."""
    stems = {column.removesuffix(name) for name in classes for column in columns if column.endswith(name)}
    orders = [
        [column.removeprefix(stem) for column in columns]
        for stem in sorted(stems)
        if all(column.startswith(stem) for column in columns)
    ]
    named = next((names for names in orders if {*classes} <= {*names}), None)
    if named is not None:
        if absent := [name for name in named if name not in classes]:
            notes.append(f"no row of {training.file.name} is of class {', '.join(absent[:10])}")
        return named
    if len(columns) != len(classes):
        raise DataError(
            f"{sampled.file}: has {len(columns):,} columns beside the id, and {training.file} has "
            f"{len(classes):,} classes, which they do not name",
            "name the files of one competition",
        )
    notes.append(f"the columns of {sampled.file.name} are in the order {', '.join(classes)}")
    return classes


def _find_values(
    training: Table, testing: Table, label: str, identity: str | None, pixels: Pixels
) -> NDArray[np.float64]:
    """Return the numbers in the pixel columns of some training rows, float (N, columns)."""
    if training.header:
        place_of = {name: place for place, name in enumerate(training.names)}
        places = [place_of[name] for name in pixels.names]
    else:
        others = {training.place(label)}
        if identity is not None and len(training.names) == len(pixels.names) + 2:
            rest = [place for place in range(len(training.names)) if place not in others]
            others.add(rest[0 if identity == "1" else -1])
        places = [place for place in range(len(training.names)) if place not in others]
    if len(places) != len(pixels.names):
        raise DataError(
            f"{training.file}: has {len(training.names):,} columns, and {testing.file} has "
            f"{len(testing.names):,}: they cannot have the same pixels",
            "name the files of one competition",
        )
    try:
        return np.array([[float(row[place]) for place in places] for row in training.rows])
    except ValueError as error:
        raise DataError(f"{training.file}: a pixel is not a number: {error}", "correct it") from None


def _find_range(values: NDArray[np.float64], shape: tuple[int, int, int], notes: list[str]) -> list[float]:
    """Return the numbers that mean background and full ink."""
    low, high = min(0.0, float(values.min())), float(values.max())
    low = -1.0 if -1 < low < 0 else low
    high = 255.0 if 100 < high <= 255 else 1.0 if high <= 1 else high
    ends = [int(end) if end == int(end) else end for end in (low, high)]
    pictures = values.reshape(-1, *shape)
    border = np.concatenate([pictures[:, 0], pictures[:, -1], pictures[:, :, 0], pictures[:, :, -1]], 1)
    if shape[2] == 1 and (np.median(border[:, :, 0], 1) > (low + high) / 2).mean() > 0.9:
        ends.reverse()
        notes.append(f"background is {ends[0]} and ink {ends[1]}: the edges of the pictures are bright")
    elif ends != [0, 255]:
        notes.append(f"pixels run from {ends[0]} to {ends[1]}")
    return ends


def _find_transposed(known: Known, pixels: Pixels, notes: list[str]) -> bool:
    if known.transposed is None and pixels.shape is None:
        notes.append("the pixels run row by row; if pictures lie on their side: --transposed")
    return bool(known.transposed)


def _find_first_id(sampled: Table) -> int:
    """Return the first id of a sample submission, whose ids must count up by 1."""
    ids = [row[0] for row in sampled.rows]
    if not ids[0].isdecimal() or int(sampled.last[0]) != int(ids[0]) + sampled.count - 1:
        raise DataError(
            f"{sampled.file}: its ids do not count up by 1, and the test file has no column with them",
            "add the column to the test file",
        )
    return int(ids[0])
