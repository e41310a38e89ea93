"""The files that shards are read from, each by ranges of rows: Parquet, CSV, CSV in gzip, npy."""

from __future__ import annotations

import gzip
import itertools
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mnist_core.errors import DataError, MnistError
from mnist_core.spec import CompetitionSpec

BATCH_ROWS = 4096
"""Rows that are in memory at once."""
STRETCH = 1.25
"""How many times as large as asked for a shard may be, so that it ends with a row group or the file."""
_BUFFER_BYTES = 1 << 20
PIXELS, ID = "pixels", "id"
"""The columns of a Parquet file."""


@dataclass(frozen=True)
class Piece:
    """Rows `start` to `stop - 1` of a file, from 0; of a CSV file also the bytes that their lines take."""

    start: int
    stop: int
    start_byte: int = 0
    stop_byte: int = 0


@dataclass(frozen=True)
class BadRow:
    """A row that is not a picture.

    Attributes:
        row: its number in the file, from 0.
        column: where it is wrong.
        problem: what is wrong.
        id: its id, if the file has ids.
    """

    row: int
    column: str
    problem: str
    id: Any = None


@dataclass(frozen=True, eq=False)
class Rows:
    """Some rows of a file.

    Attributes:
        numbers: int64 (N,), of the rows in the file, from 0.
        pixels: uint8 (N, height, width).
        ids: their ids, an Arrow array; None if the file has none.
        bad: the rows between them that are not pictures.
    """

    numbers: NDArray[np.int64]
    pixels: NDArray[np.uint8]
    ids: Any = None
    bad: list[BadRow] = field(default_factory=list)


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        plan: cuts a file into pieces: `plan(file, name, spec, rows)`.
        read: yields the rows of a piece, some thousands at a time: `read(file, name, spec, piece)`.
    """

    plan: Callable[[BinaryIO, str, CompetitionSpec, int], list[Piece]]
    read: Callable[[BinaryIO, str, CompetitionSpec, Piece], Iterator[Rows]]


def need_pyarrow() -> Any:
    """Return pyarrow.

    Raises:
        MnistError: it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MnistError(
            f"prediction over shards needs pyarrow ({error})", "pip install 'mnist-nightly[scale]'"
        ) from None
    module: ModuleType = pyarrow
    return module


def format_of(name: str) -> str | None:
    """Return the format of a file by its name; None if it is none of `FORMATS`."""
    lower = name.lower()
    return next(
        (known for known in sorted(FORMATS, key=len, reverse=True) if lower.endswith(f".{known}")), None
    )


def cut(groups: Sequence[int], rows: int) -> list[tuple[int, int]]:
    """Cut a file into ranges of about `rows` rows, if possible between its row groups.

    Args:
        groups: the rows of each row group.
        rows: how many rows a range should have; it may have up to `STRETCH` times as many.
    """
    most = int(rows * STRETCH)
    ranges: list[tuple[int, int]] = []
    start = end = 0
    for count in groups:
        if end > start and end + count - start > most:
            ranges.append((start, end))
            start = end
        end += count
        if end - start > most:
            pieces = -(-(end - start) // most)
            bounds = [start + (end - start) * i // pieces for i in range(pieces + 1)]
            ranges += list(itertools.pairwise(bounds))
            start = end
    if end > start:
        ranges.append((start, end))
    return ranges


# Parquet


def _open_parquet(file: BinaryIO, name: str, spec: CompetitionSpec) -> Any:
    pa = need_pyarrow()
    try:
        opened = pa.parquet.ParquetFile(file, buffer_size=_BUFFER_BYTES, pre_buffer=False)
    except pa.ArrowInvalid as error:
        raise DataError(f"{name}: is not a Parquet file ({error})", "write it again") from None
    names = opened.schema_arrow.names
    if PIXELS not in names:
        raise DataError(
            f"{name}: has the columns {', '.join(names)[:200]}, and none is {PIXELS}",
            f"a Parquet file has a binary or list column `{PIXELS}` and may have a column `{ID}`",
        )
    kind = opened.schema_arrow.field(PIXELS).type
    width = _width(pa, kind)
    if width is None or width not in (-1, spec.pixels):
        raise DataError(
            f"{name}: column {PIXELS} is {kind}, expected {spec.pixels} bytes or as many uint8",
            "write each picture row by row, 0 background, 255 full ink",
        )
    return opened


def _width(pa: Any, kind: Any) -> int | None:
    """Return the numbers in each value of a type: -1 if they may differ, None if it holds no pixels."""
    types = pa.types
    if types.is_fixed_size_binary(kind):
        return int(kind.byte_width)
    if types.is_binary(kind) or types.is_large_binary(kind):
        return -1
    if types.is_fixed_size_list(kind) and types.is_integer(kind.value_type):
        return int(kind.list_size)
    if (types.is_list(kind) or types.is_large_list(kind)) and types.is_integer(kind.value_type):
        return -1
    return None


def _plan_parquet(file: BinaryIO, name: str, spec: CompetitionSpec, rows: int) -> list[Piece]:
    metadata = _open_parquet(file, name, spec).metadata
    groups = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    return [Piece(start, stop) for start, stop in cut(groups, rows)]


def _read_parquet(file: BinaryIO, name: str, spec: CompetitionSpec, piece: Piece) -> Iterator[Rows]:
    """Yield the rows of a piece; those before it in its first row group are read and passed over."""
    pa = need_pyarrow()
    opened = _open_parquet(file, name, spec)
    columns = [PIXELS, *([ID] if ID in opened.schema_arrow.names else [])]
    chosen: list[int] = []
    at = first = 0
    for number in range(opened.metadata.num_row_groups):
        count = opened.metadata.row_group(number).num_rows
        if at < piece.stop and at + count > piece.start:
            first = first if chosen else at
            chosen.append(number)
        at += count
    try:
        for batch in opened.iter_batches(BATCH_ROWS, row_groups=chosen, columns=columns, use_threads=False):
            start, stop = max(piece.start - first, 0), min(piece.stop - first, batch.num_rows)
            if stop > start:
                yield _rows_of(pa, batch.slice(start, stop - start), first + start, spec)
            first += batch.num_rows
            if first >= piece.stop:
                break
    except (pa.ArrowInvalid, pa.ArrowIOError) as error:
        if isinstance(error.__cause__, MnistError):
            raise error.__cause__ from None
        raise DataError(
            f"{name}: cannot be read ({' '.join(str(error).split())})", "write it again"
        ) from None


def _rows_of(pa: Any, batch: Any, first: int, spec: CompetitionSpec) -> Rows:
    column = batch.column(0)
    ids = batch.column(1) if batch.num_columns > 1 else None
    numbers = first + np.arange(len(column))
    flat = _flat(pa, column, spec.pixels)
    if flat is not None:
        return Rows(numbers, flat.reshape(-1, *spec.picture_shape), ids)
    good, bad = [], []
    pixels = bytearray()
    for at, value in enumerate(column.to_pylist()):
        problem = _flaw(value, spec.pixels)
        if problem is None:
            good.append(at)
            pixels += bytes(value)
        else:
            bad.append(BadRow(first + at, PIXELS, problem, None if ids is None else ids[at].as_py()))
    found = np.frombuffer(bytes(pixels), np.uint8).reshape(-1, *spec.picture_shape)
    return Rows(numbers[good], found, None if ids is None else ids.take(pa.array(good, pa.int64())), bad)


def _flat(pa: Any, column: Any, width: int) -> NDArray[np.uint8] | None:
    """Return the pixels of a column, uint8 (rows × width,), without a copy; None at the first doubt."""
    kind, types = column.type, pa.types
    if column.null_count:
        return None
    if types.is_fixed_size_binary(kind):
        data = np.frombuffer(column.buffers()[1], np.uint8)
        return data[column.offset * width : (column.offset + len(column)) * width]
    if types.is_binary(kind) or types.is_large_binary(kind):
        size = np.int64 if types.is_large_binary(kind) else np.int32
        offsets = np.frombuffer(column.buffers()[1], size)[column.offset : column.offset + len(column) + 1]
        if not (np.diff(offsets) == width).all():
            return None
        return np.frombuffer(column.buffers()[2] or b"", np.uint8)[offsets[0] : offsets[-1]]
    if types.is_fixed_size_list(kind):
        values = column.flatten()
        if values.null_count or kind.value_type != pa.uint8():
            return None
        return values.to_numpy(zero_copy_only=False)
    return None


def _flaw(value: Any, width: int) -> str | None:
    """Return what is wrong with the pixels of a row; None if they are right."""
    if value is None:
        return "there is none"
    if len(value) != width:
        return f"{len(value)} pixels, expected {width}"
    wrong = next((at for at, pixel in enumerate(value) if pixel is None or not 0 <= pixel <= 255), None)
    return None if wrong is None else f"pixel {wrong} is {value[wrong]}, expected an integer 0..255"


# npy


def _npy_header(file: BinaryIO, name: str, spec: CompetitionSpec) -> tuple[int, int]:
    """Return the number of rows, and the byte at which the first one begins."""
    file.seek(0)
    try:
        version = np.lib.format.read_magic(file)
        reader = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, by_column, kind = reader(file)
    except ValueError as error:
        raise DataError(f"{name}: is not an npy file ({error})", "write it again with numpy.save") from None
    fits = kind == np.uint8 and len(shape) >= 2 and not by_column
    if not fits or int(np.prod(shape[1:])) != spec.pixels:
        order = ", Fortran order" if by_column else ""
        raise DataError(
            f"{name}: {kind} {shape}{order}, expected uint8 (N, {', '.join(map(str, spec.picture_shape))})",
            "convert it, and write it again with numpy.save",
        )
    return int(shape[0]), file.tell()


def _plan_npy(file: BinaryIO, name: str, spec: CompetitionSpec, rows: int) -> list[Piece]:
    count, _ = _npy_header(file, name, spec)
    return [Piece(start, stop) for start, stop in cut([count], rows)]


def _read_npy(file: BinaryIO, name: str, spec: CompetitionSpec, piece: Piece) -> Iterator[Rows]:
    count, start = _npy_header(file, name, spec)
    file.seek(start + piece.start * spec.pixels)
    for first in range(piece.start, min(piece.stop, count), BATCH_ROWS):
        rows = min(BATCH_ROWS, piece.stop - first)
        content = read_exactly(file, rows * spec.pixels)
        rows = len(content) // spec.pixels
        pixels = np.frombuffer(content, np.uint8, rows * spec.pixels).reshape(-1, *spec.picture_shape)
        yield Rows(first + np.arange(rows), pixels)


def read_exactly(file: BinaryIO, size: int) -> bytes:
    """Return the next bytes of a file: this number, or fewer if it ends before."""
    parts = []
    while size > 0 and (part := file.read(size)):
        parts.append(part)
        size -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


# CSV


def _plan_csv(file: BinaryIO, name: str, spec: CompetitionSpec, rows: int) -> list[Piece]:
    from mnist_core import shard_csv

    file.seek(0)
    return shard_csv.plan(file, name, spec, rows)


def _read_csv(file: BinaryIO, name: str, spec: CompetitionSpec, piece: Piece) -> Iterator[Rows]:
    from mnist_core import shard_csv

    file.seek(0)
    yield from shard_csv.read(file, name, spec, piece)


def _plan_gzip(file: BinaryIO, name: str, spec: CompetitionSpec, rows: int) -> list[Piece]:
    """Return the whole file as one piece: gzip has no place to begin at but its start."""
    from mnist_core import shard_csv

    with _gunzip(file, name) as text:
        pieces = shard_csv.plan(text, name, spec, rows)
    if not pieces:
        return []
    return [Piece(0, pieces[-1].stop, pieces[0].start_byte, pieces[-1].stop_byte)]


def _read_gzip(file: BinaryIO, name: str, spec: CompetitionSpec, piece: Piece) -> Iterator[Rows]:
    from mnist_core import shard_csv

    with _gunzip(file, name) as text:
        yield from shard_csv.read(text, name, spec, piece)


class _gunzip:  # noqa: N801  (used as a function)
    """Open a file's content for reading; a damaged one is a `DataError`."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        file.seek(0)
        self._file, self._name = file, name

    def __enter__(self) -> BinaryIO:
        return gzip.GzipFile(fileobj=self._file)  # type: ignore[return-value]

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if isinstance(error, EOFError | gzip.BadGzipFile | zlib.error):
            raise DataError(f"{self._name}: is damaged ({error})", "fetch or write it again") from None


FORMATS = {
    "parquet": Format(_plan_parquet, _read_parquet),
    "csv": Format(_plan_csv, _read_csv),
    "csv.gz": Format(_plan_gzip, _read_gzip),
    "npy": Format(_plan_npy, _read_npy),
}
"""The kinds of files by how their names end."""
