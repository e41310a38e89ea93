"""A quick look at a CSV file of any kind: its columns, how it is written, and some of its rows."""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from collections import Counter
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from mnist_core._spec_keys import SIDES
from mnist_core.csv_variants import open_text
from mnist_core.errors import DataError

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
_DELIMITERS = ",;\t|"
_ROWS = 2_000  # that are kept, evenly spread if the file is not compressed
_FEWEST = 64  # columns, at least, of a header that consists of numbers alone
_LONGEST = 16 * (3 * SIDES[1] ** 2 + 100)  # characters of a line: the largest pictures, in colour


@dataclass(frozen=True)
class Table:
    """What a CSV file looks like.

    Attributes:
        file: where it is.
        names: the columns; without a header their numbers, from 1.
        header: whether the first line names them.
        delimiter: what stands between them.
        rows: some of its rows, in their order; quotes and spaces around values are gone.
        last: its last row.
        count: how many rows there are.
        counts: how many rows have each value of one column, if that was asked for.
    """

    file: Path
    names: list[str]
    header: bool
    delimiter: str
    rows: list[list[str]]
    last: list[str]
    count: int
    counts: Counter[str] = field(default_factory=Counter)

    def place(self, column: str) -> int:
        """Return where a column is, from 0: by its name, or without a header by its number."""
        if self.header:
            if column in self.names:
                return self.names.index(column)
        elif re.fullmatch(r"-?\d+", column) and 1 <= abs(int(column)) <= len(self.names):
            number = int(column)
            return number - 1 if number > 0 else number + len(self.names)
        shown = f"{self.names[0]}, …, {self.names[-1]}" if self.header else f"1 to {len(self.names)}, or -1"
        raise DataError(f"{self.file}: has no column {column}", f"its columns are {shown}")

    def values(self, column: str) -> list[str]:
        """Return a column of the rows that are kept."""
        place = self.place(column)
        return [row[place] for row in self.rows]

    def may_be_label(self, column: str) -> bool:
        """Tell whether a column can be a label: values that repeat, and more than one."""
        return 2 <= len(set(self.values(column))) <= max(10, len(self.rows) // 2)


def read_table(file: Path, count: int | None = None) -> Table:
    """Look at a CSV file.

    Args:
        file: plain or compressed with gzip, UTF-8 or UTF-16, with any usual delimiter.
        count: the place of a column whose values are counted in all rows.

    Raises:
        DataError: it cannot be read, it has no row, or a row has another number of columns than the first.
    """
    rows: list[list[str]] = []
    counts: Counter[str] = Counter()
    total = 0
    try:
        with open_text(file, _LONGEST) as (lines, _):
            first = next(lines, "")
            delimiter = _delimiter(first)
            names = _split(first, delimiter)
            header = _is_header(names)
            step = max(1, file.stat().st_size // max(1, len(first)) // _ROWS)
            last = names
            for text in filter(str.strip, lines if header else chain([first], lines)):
                keep = total % step == 0 and len(rows) < _ROWS
                total += 1
                if keep or count is not None:
                    last = _fields(file, total, text, delimiter, len(names))
                    rows.extend([last] * keep)
                    counts.update([last[count]] if count is not None else [])
            last = last if not total else _fields(file, total, text, delimiter, len(names))
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{file}: is damaged: {error}", "download it again") from None
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror or error}") from error
    if not rows:
        raise DataError(f"{file}: has no rows")
    names = names if header else [str(number) for number in range(1, len(names) + 1)]
    return Table(file, names, header, delimiter, rows, last, total, counts)


def _fields(file: Path, row: int, text: str, delimiter: str, expected: int) -> list[str]:
    found = _split(text, delimiter)
    if len(found) != expected:
        broken = text.count('"') % 2 == 1
        raise DataError(
            f"{file}: row {row}: {len(found)} values, expected {expected}",
            "take out the line break between its quotes" if broken else "correct it",
        )
    return found


def _delimiter(line: str) -> str:
    """Return what stands between the columns: spaces only if nothing else does."""
    found = max(_DELIMITERS, key=line.count)
    return found if found in line else " " if " " in line.strip() else ","


def _split(line: str, delimiter: str) -> list[str]:
    line = line.rstrip("\r\n")
    found = next(csv.reader([line], delimiter=delimiter)) if '"' in line else line.split(delimiter)
    return [value.strip() for value in found]


def _is_header(first: list[str]) -> bool:
    """Tell whether a first line names columns: most are not numbers, or all but few count up by 1."""
    numbers = [value for value in first if NUMBER.fullmatch(value)]
    if 2 * len(numbers) <= len(first):
        return True
    whole = [int(value) for value in numbers if value.isdecimal()]
    counted = len(whole) >= _FEWEST and whole == list(range(whole[0], whole[0] + len(whole)))
    return counted and len(whole) >= len(first) - 3
