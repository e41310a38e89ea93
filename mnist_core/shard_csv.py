"""CSV files by ranges of bytes: the competition's own format, of any length.

A block of lines that is right byte for byte is read by `_fast_csv`; any other line by line, so that each
broken row is known by its number and column. If the competition has another form than Kaggle's, `spec_csv`
reads the blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from mnist_core import _fast_csv
from mnist_core.digits import upright
from mnist_core.errors import DataError
from mnist_core.shard_files import STRETCH, BadRow, Piece, Rows, need_pyarrow, read_exactly
from mnist_core.spec import CompetitionSpec
from mnist_core.spec_csv import LineReader, RowError, has_plain_pixels

_COUNTED = 4 << 20
"""Bytes whose lines are counted at once."""
_BLOCK = 1 << 20
_LONGEST = 1 << 16
"""Bytes of a line: a file that is not a CSV need not have line ends."""
_SHOWN = 40
Parse = Callable[[bytes, int], Rows]
"""Returns the rows of whole lines, numbered from the second argument."""


def plan(file: BinaryIO, name: str, spec: CompetitionSpec, rows: int) -> list[Piece]:
    """Count the lines below the header, and cut them into pieces of `rows`; the last one may be longer."""
    _open(file, name, spec)
    start = at = file.tell()
    pieces: list[Piece] = []
    done, wanted, last = 0, rows, b"\n"
    while block := file.read(_COUNTED):
        lines = block.count(b"\n")
        if done + lines >= wanted:
            ends = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n"))
            while done + lines >= wanted:
                end = at + int(ends[wanted - done - 1]) + 1
                pieces.append(Piece(wanted - rows, wanted, start, end))
                start, wanted = end, wanted + rows
        done += lines
        at += len(block)
        last = block[-1:]
    if last != b"\n":  # the last line has no end
        done += 1
    rest = done - (wanted - rows)
    if rest and pieces and rows + rest <= rows * STRETCH:
        before = pieces.pop()
        pieces.append(Piece(before.start, done, before.start_byte, at))
    elif rest:
        pieces.append(Piece(wanted - rows, done, start, at))
    return pieces


def read(file: BinaryIO, name: str, spec: CompetitionSpec, piece: Piece) -> Iterator[Rows]:
    """Yield the rows of a piece, a block of lines at a time."""
    parse = _open(file, name, spec)
    file.seek(piece.start_byte)
    left, row, rest = piece.stop_byte - piece.start_byte, piece.start, b""
    while left > 0:
        block = read_exactly(file, min(_BLOCK, left))
        if not block:  # the file is shorter than it was
            break
        left -= len(block)
        text = rest + block
        end = len(text) if left == 0 else text.rfind(b"\n") + 1
        if not end and len(text) > _longest(spec):
            raise DataError(
                f"{name}: row {row}: the line has more than {_longest(spec):,} bytes", "write it again"
            )
        text, rest = text[:end], text[end:]
        if text:
            found = parse(text if text.endswith(b"\n") else text + _line_end(text), row)
            row += len(found.numbers) + len(found.bad)
            yield found


def _line_end(text: bytes) -> bytes:
    return b"\r\n" if b"\r\n" in text else b"\n"


def _longest(spec: CompetitionSpec) -> int:
    return max(_LONGEST, 16 * (spec.pixels + 100))


def _open(file: BinaryIO, name: str, spec: CompetitionSpec) -> Parse:
    """Go to the first row, and return what reads the lines.

    Raises:
        DataError: the columns are not those of the competition.
    """
    if has_plain_pixels(spec):
        return partial(_parse, columns=_columns(file, name, spec), spec=spec)
    first = file.readline(_longest(spec)).decode("utf-8-sig", "replace")
    if not spec.header:
        file.seek(0)
    return partial(_parse_described, reader=LineReader(name, first, spec), spec=spec)


def _parse_described(text: bytes, first: int, reader: LineReader, spec: CompetitionSpec) -> Rows:
    """Return the rows of whole lines of a file in a form of its own; if one is broken, line by line."""
    start = first + 1 + spec.header
    lines = list(enumerate(text.decode("utf-8-sig", "replace").removesuffix("\n").split("\n"), start))
    if all(line.strip() for _, line in lines):
        try:
            return _rows_of(reader, lines, spec)
        except RowError:  # which one, and whether others are, too, is found below
            pass
    good: list[tuple[int, str]] = []
    bad: list[BadRow] = []
    for number, line in lines:
        row = number - 1 - spec.header
        if not line.strip():
            bad.append(BadRow(row, "", "the line is empty"))
            continue
        try:
            reader.read([(number, line)])
            good.append((number, line))
        except RowError as error:
            bad.append(BadRow(row, error.column, error.flaw))
    rows = _rows_of(reader, good, spec)
    return Rows(rows.numbers, rows.pixels, rows.ids, bad)


def _rows_of(reader: LineReader, lines: list[tuple[int, str]], spec: CompetitionSpec) -> Rows:
    found = reader.read(lines)
    numbers = np.array([number - 1 - spec.header for number, _ in lines], np.int64)
    ids = None if found.ids is None else need_pyarrow().array(found.ids, need_pyarrow().string())
    return Rows(numbers, upright(found.pixels, spec), ids)


def _columns(file: BinaryIO, name: str, spec: CompetitionSpec) -> list[str]:
    """Read the header, and return the columns that it names, with or without labels.

    Raises:
        DataError: they are neither.
    """
    line = file.readline(_LONGEST).rstrip(b"\r\n").removeprefix(b"\xef\xbb\xbf")
    for labelled in (False, True):
        columns = spec.columns(labelled=labelled)
        if line == ",".join(columns).encode():
            return columns
    expected = spec.columns(labelled=False)
    raise DataError(
        f"{name}: the header begins with {_shown(line[:_SHOWN])}, expected {expected[0]},{expected[1]},…,"
        f"{expected[-1]}, with or without {spec.label_column} before them",
        "write the file in the format of the competition, or as Parquet",
    )


def _parse(text: bytes, first: int, columns: list[str], spec: CompetitionSpec) -> Rows:
    """Return the rows of whole lines, numbered from `first`."""
    table = _parse_fast(text, len(columns))
    if table is not None:
        pixels = np.ascontiguousarray(table[:, -spec.pixels :])
        return Rows(first + np.arange(len(table)), pixels.reshape(-1, *spec.picture_shape))
    good: list[int] = []
    bad: list[BadRow] = []
    found = bytearray()
    for row, line in enumerate(text.removesuffix(b"\n").split(b"\n"), start=first):
        fields = line.removesuffix(b"\r").split(b",")
        flaw = _flaw(row, fields, columns)
        if flaw is None:
            good.append(row)
            found += bytes(map(int, fields[-spec.pixels :]))
        else:
            bad.append(flaw)
    pixels = np.frombuffer(bytes(found), np.uint8).reshape(-1, *spec.picture_shape)
    return Rows(np.array(good, np.int64), pixels, None, bad)


def _parse_fast(text: bytes, width: int) -> NDArray[np.uint8] | None:
    """Return the numbers of lines, uint8 (lines, width); None if one is not right byte for byte."""
    padded = np.frombuffer(b"\n\n" + text, np.uint8)
    room = np.empty((5, len(padded) + 2 + len(padded) % 2), np.uint8)
    return _fast_csv.parse(padded, width, room)


def _flaw(row: int, fields: list[bytes], columns: list[str]) -> BadRow | None:
    """Return what is wrong with the fields of a row; None if they are right."""
    if len(fields) != len(columns):
        name = columns[min(len(fields), len(columns)) - 1]
        return BadRow(row, name, f"{len(fields)} values, expected {len(columns)}")
    for name, value in zip(columns, fields, strict=True):
        if not value.isdigit() or len(value) > 3 or int(value) > 255:
            return BadRow(row, name, f"found {_shown(value[:_SHOWN])}, expected an integer 0..255")
    return None


def _shown(value: bytes) -> str:
    return repr(value.decode("utf-8", "backslashreplace"))
