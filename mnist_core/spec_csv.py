"""CSV files as a specification describes them, if it is not Kaggle's form: any columns, labels and numbers.

The fields beside the pixels are taken from each line, and what is left goes through `_fast_csv`, a thousand
rows at a time; a row that it does not take is read number by number, and the first flaw is named.
"""

from __future__ import annotations

import csv as csv_module
import gzip
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mnist_core import _fast_csv
from mnist_core.csv_variants import open_text
from mnist_core.errors import DataError
from mnist_core.spec import CompetitionSpec

_BATCH = 1000  # rows
_SHOWN = 40  # characters of a wrong value that an error repeats
UNNAMED = ("", "Unnamed: 0")
"""Columns that pandas writes for its index, and spreadsheets behind a last comma: they mean nothing."""


class RowError(DataError):
    """A row that is not as the specification says.

    Attributes:
        column: where it is wrong; empty for the whole row.
        flaw: what is wrong there.
    """

    def __init__(self, where: str, column: str, flaw: str, remedy: str) -> None:
        super().__init__(f"{where}{f', column {column}' if column else ''}: {flaw}", remedy)
        self.column = column
        self.flaw = flaw


class Rows(NamedTuple):
    """What a file holds: pixels uint8 (N, spec.pixels) as the file has them, but 0 to 255; labels, ids."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64] | None
    ids: tuple[str, ...] | None


@dataclass(frozen=True)
class _Layout:
    """Where the columns of a file are, from 0.

    Attributes:
        names: the columns; without a header their numbers, from 1.
        pixels: places of the pixels, in the specification's order.
        label, identity: places, or None.
    """

    names: Sequence[str]
    pixels: Sequence[int]
    label: int | None
    identity: int | None

    @property
    def before(self) -> int | None:
        """How many columns stand before the pixels, if these stand side by side in order; else None."""
        first = self.pixels[0]
        return first if list(self.pixels) == list(range(first, first + len(self.pixels))) else None


def is_plain(spec: CompetitionSpec) -> bool:
    """Tell whether files have Kaggle's form: commas, a header, labels and pixels that are numbers."""
    numbers = tuple(str(number) for number in range(spec.class_count))
    return has_plain_pixels(spec) and spec.classes == numbers[:256]


def has_plain_pixels(spec: CompetitionSpec) -> bool:
    """Tell whether a file without labels has Kaggle's form: pixels 0 to 255 row by row, and nothing else."""
    return (
        spec.header
        and spec.delimiter == ","
        and not spec.transposed
        and spec.value_range == (0, 255)
        and spec.id_column is None
        and not spec.ignore
    )


def read(csv: Path, spec: CompetitionSpec, labelled: bool | None) -> Rows:
    """Read a file that `spec` describes; `labelled`: whether it must have labels, None takes what is there.

    Raises:
        DataError: a column is missing or unknown, a row is short or long, a value is out of range, a label is
            not a class, or an id occurs twice; the message names file, row and column.
    """
    pixels: list[NDArray[np.uint8]] = []
    labels: list[int] = []
    ids: list[str] = []
    with _lines_of(csv, spec) as lines:
        first = next(lines, "")
        if not first.strip():
            raise DataError(f"{csv}: the file is empty")
        names = _split(first, spec)
        layout = _layout(csv, names, spec, labelled)
        numbered = enumerate(lines, 2) if spec.header else enumerate(_chain(first, lines), 1)
        while batch := list(islice(numbered, _BATCH)):
            found = _Batch(csv, spec, layout, batch)
            pixels.append(found.pixels())
            labels += found.labels()
            ids += found.ids()
    if not sum(map(len, pixels)):
        raise DataError(f"{csv}: has no row below the header" if spec.header else f"{csv}: has no rows")
    if len(set(ids)) < len(ids):
        twice = Counter(ids).most_common(1)[0][0]
        raise DataError(f"{csv}: the id {twice[:_SHOWN]} occurs twice", "give each row its own id")
    return Rows(
        np.concatenate(pixels),
        None if layout.label is None else np.array(labels, np.int64),
        None if layout.identity is None else tuple(ids),
    )


class LineReader:
    """Reads the lines of a file apart from one another, such as a part of a large one.

    Args:
        name: of the file, for messages.
        first: its first line.
        spec: describes it.

    Raises:
        DataError: a column is missing or unknown.
    """

    def __init__(self, name: str, first: str, spec: CompetitionSpec) -> None:
        self._name, self._spec = name, spec
        names = _split(first, spec)
        try:
            self._layout = _layout(name, names, spec, labelled=False)
        except DataError:
            self._layout = _layout(name, names, spec, labelled=None)

    def read(self, lines: Sequence[tuple[int, str]]) -> Rows:
        """Return the rows of some lines, without labels; blank lines at their end are left out.

        Args:
            lines: each with its number in the file, from 1.

        Raises:
            RowError: a row is not as the specification says.
        """
        found = _Batch(self._name, self._spec, self._layout, [*lines])
        ids = None if self._layout.identity is None else tuple(found.ids())
        return Rows(found.pixels(), None, ids)


def count_rows(csv: Path, spec: CompetitionSpec) -> int:
    """Return the number of rows of a file as `read` counts them, without checking them.

    Raises:
        DataError: it is damaged, or not a CSV file.
    """
    with _lines_of(csv, spec) as lines:
        return max(0, sum(bool(line.strip()) for line in lines) - spec.header)


@contextmanager
def _lines_of(csv: Path, spec: CompetitionSpec) -> Iterator[Iterator[str]]:
    """Open a file, plain or compressed: its lines."""
    try:
        with open_text(csv, 16 * (spec.pixels + 100)) as (lines, _):
            yield lines
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{csv}: is damaged: {error}", "download it again") from None


def _chain(first: str, lines: Iterator[str]) -> Iterator[str]:
    yield first
    yield from lines


def _layout(csv: Path | str, names: list[str], spec: CompetitionSpec, labelled: bool | None) -> _Layout:
    """Return where the columns are, or raise because one is missing or unknown."""
    found = _named(csv, names, spec) if spec.header else _numbered(csv, len(names), spec, labelled)
    if labelled is not None and labelled != (found.label is not None):
        has, other = ("has no", spec.train_file) if labelled else ("has a", spec.test_file)
        raise DataError(f"{csv}: {has} label column {spec.label_column}", f"use {other}")
    if spec.id_column is not None and found.label is None and found.identity is None:
        raise DataError(
            f"{csv}: header: has no column {spec.id_column}",
            "correct `id` under [columns] of its specification",
        )
    return found


def _named(csv: Path | str, names: list[str], spec: CompetitionSpec) -> _Layout:
    places = {name: place for place, name in enumerate(names)}
    missing = [name for name in spec.pixel_columns if name not in places]
    if missing:
        raise DataError(
            f"{csv}: header: has no column {missing[0]}",
            f"correct `pixels`, `first_pixel` or `delimiter` of its specification; the first column is "
            f"{names[0][:_SHOWN]!r}",
        )
    known = {*spec.pixel_columns, spec.label_column, spec.id_column, *spec.ignore, *UNNAMED}
    if unknown := [name for name in names if name not in known]:
        raise DataError(
            f"{csv}: header: the column {unknown[0][:_SHOWN]!r} is unknown",
            "list it under `ignore` of its specification, or remove it",
        )
    return _Layout(
        names,
        [places[name] for name in spec.pixel_columns],
        places.get(spec.label_column),
        None if spec.id_column is None else places.get(spec.id_column),
    )


def _numbered(csv: Path | str, width: int, spec: CompetitionSpec, labelled: bool | None) -> _Layout:
    """Return where columns without names are.

    The label's number counts in the training file, other numbers in the test file, which has no label.
    """
    others, has_id = spec.pixels + len(spec.ignore), spec.id_column is not None
    widths = {False: [others + has_id], True: [others + 1, others + 1 + has_id]}
    wanted = (False, True) if labelled is None else (labelled,)
    fitting = [one for one in wanted if width in widths[one]]
    if len(fitting) != 1:
        expected = " or ".join(str(number) for one in wanted for number in sorted({*widths[one]}))
        raise DataError(
            f"{csv}: row 1: {width:,} columns, expected {expected}",
            "correct `shape` or `ignore` of its specification",
        )
    label = _place(spec.label_column, width) if fitting[0] else None
    rest = [place for place in range(width) if place != label]
    is_there = has_id and width == others + 1 + fitting[0]
    columns = [spec.id_column] if is_there and spec.id_column is not None else []
    taken = [rest[_place(column, len(rest))] for column in (*columns, *spec.ignore)]
    return _Layout(
        [str(number) for number in range(1, width + 1)],
        [place for place in rest if place not in taken],
        label,
        taken[0] if is_there else None,
    )


def _place(column: str, width: int) -> int:
    number = int(column)
    return number - 1 if number > 0 else width + number


def _split(line: str, spec: CompetitionSpec) -> list[str]:
    line = line.rstrip("\r\n")
    if '"' in line:
        return next(csv_module.reader([line], delimiter=spec.delimiter, skipinitialspace=True))
    return [field.strip(" ") for field in line.split(spec.delimiter)]


class _Batch:
    """Some rows of a file: what stands beside the pixels, and the text of the pixels."""

    def __init__(
        self, csv: Path | str, spec: CompetitionSpec, layout: _Layout, lines: list[tuple[int, str]]
    ) -> None:
        self._csv, self._spec, self._layout = csv, spec, layout
        while lines and not lines[-1][1].strip():
            lines.pop()
        self._numbers = [number for number, _ in lines]
        before = layout.before
        self._fast = before is not None and not any('"' in line for _, line in lines)
        self._fields: list[list[str]] = []
        self._inks: list[str] = []
        for number, line in lines:
            if not line.strip():
                raise RowError(self._where(number), "", "the line is empty, and rows follow", "remove it")
            if self._fast and before is not None:
                head, ink, tail = self._cut(line, before)
                fields, missing = (
                    [*head, *tail],
                    len(layout.names) - len(layout.pixels) - len(head) - len(tail),
                )
            else:
                fields = _split(line, spec)
                ink = spec.delimiter.join(fields[place] for place in layout.pixels if place < len(fields))
                missing = len(layout.names) - len(fields)
            if missing:
                self._refuse_length(number, len(layout.names) - missing)
            self._fields.append(fields)
            self._inks.append(ink)

    def _cut(self, line: str, before: int) -> tuple[list[str], str, list[str]]:
        """Return the fields before the pixels, the text of the pixels, and the fields behind them."""
        mark = self._spec.delimiter
        after = len(self._layout.names) - before - len(self._layout.pixels)
        *head, rest = line.rstrip("\r\n").split(mark, before)
        ink, *tail = rest.rsplit(mark, after) if after else [rest]
        return [field.strip() for field in head], ink, [field.strip() for field in tail]

    def _column(self, place: int) -> list[str]:
        """Return a column that does not hold pixels."""
        if self._fast and place > self._layout.pixels[0]:
            place -= len(self._layout.pixels)
        return [fields[place] for fields in self._fields]

    def _where(self, number: int) -> str:
        return f"{self._csv}: row {number - self._spec.header} (line {number})"

    def _refuse_length(self, number: int, found: int) -> None:
        raise RowError(
            self._where(number),
            "",
            f"{found} values, expected {len(self._layout.names)}",
            "correct or remove the row, or download the file again",
        )

    def labels(self) -> list[int]:
        """Return the numbers of the labels' classes."""
        place = self._layout.label
        if place is None:
            return []
        numbers = {name: number for number, name in enumerate(self._spec.classes)}
        found = []
        for number, name in zip(self._numbers, self._column(place), strict=True):
            whole = name.partition(".")[0] if name.partition(".")[2].strip("0") == "" else name
            label = numbers.get(name, numbers.get(whole))
            if label is None:
                raise DataError(
                    f"{self._where(number)}, column {self._layout.names[place]}: found {name[:_SHOWN]!r}, "
                    f"expected one of {self._spec.class_range}",
                    "correct it, or add it to `classes` of the specification",
                )
            found.append(label)
        return found

    def ids(self) -> list[str]:
        """Return the ids."""
        place = self._layout.identity
        return [] if place is None else self._column(place)

    def pixels(self) -> NDArray[np.uint8]:
        """Return the pixels, uint8 (rows, spec.pixels), 0 to 255."""
        width, (low, high) = self._spec.pixels, self._spec.value_range
        if not self._inks:
            return np.empty((0, width), np.uint8)
        table = self._parse_fast()
        values = table if table is not None else np.array([*map(self._parse, self._numbers, self._inks)])
        if values.min() < min(low, high) or values.max() > max(low, high):
            self._refuse_value(values)
        if table is not None and (low, high) == (0, 255):
            return table
        # A float, or bytes would wrap around.
        return np.rint((values - float(low)) * (255 / (high - low))).astype(np.uint8)

    def _parse_fast(self) -> NDArray[np.uint8] | None:
        """Return the pixels if all are whole numbers up to 255; None if in doubt."""
        text = "\n".join(self._inks)
        if not text.isascii():
            return None
        mark = self._spec.delimiter
        if mark != " " and " " in text:  # beside the numbers alone: one inside a number is a flaw
            for end in (mark, "\n"):
                text = text.replace(f"{end} ", end).replace(f" {end}", end)
            text = text.strip(" ")
        text = text if mark == "," or "," in text else text.replace(mark, ",")
        data = np.frombuffer(f"\n\n{text}\n".encode(), np.uint8)
        size = len(data) + 1
        found = _fast_csv.parse(data, self._spec.pixels, np.empty((5, size + size % 2), np.uint8))
        return found if found is not None and len(found) == len(self._inks) else None

    def _parse(self, number: int, ink: str) -> NDArray[np.float64]:
        """Return the pixels of a row, or raise because one is not a number."""
        fields = ink.split(self._spec.delimiter)
        if len(fields) != self._spec.pixels:
            self._refuse_length(number, len(self._layout.names) - self._spec.pixels + len(fields))
        if self._spec.delimiter == ";":  # as programs write it in countries with a decimal comma
            fields = [field.replace(",", ".") for field in fields]
        try:
            found = np.array(fields, np.float64)
        except ValueError:
            found = np.array([_number(field) for field in fields])
        if np.isfinite(found).all():
            return found
        self._refuse_pixel(number, int(np.flatnonzero(~np.isfinite(found))[0]), fields)
        raise AssertionError

    def _refuse_value(self, values: NDArray[np.generic]) -> None:
        low, high = sorted(self._spec.value_range)
        row, pixel = np.argwhere((values < low) | (values > high))[0].tolist()  # type: ignore[operator]
        self._refuse_pixel(self._numbers[row], pixel, self._inks[row].split(self._spec.delimiter))

    def _refuse_pixel(self, number: int, pixel: int, fields: Sequence[str]) -> None:
        low, high = sorted(self._spec.value_range)
        raise RowError(
            self._where(number),
            self._layout.names[self._layout.pixels[pixel]],
            f"found {fields[pixel][:_SHOWN]!r}, expected a number {low}..{high}",
            "correct it, or `value_range` of the specification",
        )


def _number(field: str) -> float:
    try:
        return float(field)
    except ValueError:
        return float("nan")


def format_rows(
    pixels: NDArray[np.uint8],
    labels: NDArray[np.int64] | None,
    ids: Sequence[str] | None,
    spec: CompetitionSpec,
) -> Iterator[bytes]:
    """Yield the lines of a file: the header if there is one; then label, or id if there is one, and pixels.

    Args:
        pixels: uint8 (N, *spec.picture_shape).
        labels: int64 (N,), or None.
        ids: of the rows; None counts them.
        spec: describes the file.
    """
    low, high = spec.value_range
    numbers = [low + value * (high - low) / 255 for value in range(256)]
    whole = low == int(low) and high == int(high)
    texts = [str(round(number)) if whole else f"{number:.6g}" for number in numbers]
    if spec.header:
        yield (spec.delimiter.join(spec.columns(labelled=labels is not None)) + "\r\n").encode()
    for row, picture in enumerate(pixels):
        ink = picture.swapaxes(0, 1) if spec.transposed else picture
        fields = list(map(texts.__getitem__, ink.tobytes()))
        if labels is not None:
            fields.insert(0, quoted(spec.classes[labels[row]], spec.delimiter))
        elif spec.id_column is not None:
            fields.insert(0, quoted(ids[row] if ids else str(spec.first_id + row), spec.delimiter))
        yield (spec.delimiter.join(fields) + "\r\n").encode()


def quoted(text: str, delimiter: str = ",") -> str:
    """Return a field as a CSV file has it: in quotes if it holds one, or a delimiter."""
    return '"' + text.replace('"', '""') + '"' if '"' in text or delimiter in text else text
