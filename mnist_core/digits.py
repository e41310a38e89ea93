"""Handwritten digits in memory, and the two CSV files of the competition that hold them.

Two readers give the same digits. `_fast_csv` reads a file that is right byte for byte in 0.06 s, and gives up
at the first doubt; then `_read_by_line` reads it, and names the row, column and value that is wrong.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnist_core import _fast_csv, csv_variants, spec_csv
from mnist_core._atomic import atomic_write
from mnist_core.errors import DataError
from mnist_core.plausibility import oddities
from mnist_core.spec import DIGIT_RECOGNIZER, CompetitionSpec

_LONGEST = 1 << 16  # bytes of a line: a file that is not a CSV need not have line ends
_PADDED = 4000  # bytes of a line beyond which numbers may have zeros in front; `int` refuses 4,301 digits
_CORRECT = "correct or remove the row, or download the file again"
_SHOWN = 40  # bytes of a wrong value that an error repeats


@dataclass(frozen=True, eq=False)
class Digits:
    """N handwritten digits, with their labels if they are known.

    Attributes:
        pixels: uint8 (N, 28, 28), C-contiguous, 0 = background, 255 = full ink.
        labels: int64 (N,), each the number of a class, 0..9; None if they are unknown.
        spec: the competition that says the picture's shape and the classes.
        ids: of the test file's rows, if it has a column of them.

    Raises:
        DataError: an array has another type or shape, or a label is out of range.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64] | None = None
    spec: CompetitionSpec = DIGIT_RECOGNIZER
    ids: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        check_array("pixels", self.pixels, np.uint8, 1 + len(self.spec.picture_shape))
        if self.pixels.shape[1:] != self.spec.picture_shape:
            expected = ", ".join(map(str, ("N", *self.spec.picture_shape)))
            raise DataError(f"pixels: shape {self.pixels.shape}, expected ({expected})")
        if not self.pixels.flags.c_contiguous:
            raise DataError("pixels: not C-contiguous", "pass them through numpy.ascontiguousarray")
        if self.labels is None:
            return
        check_array("labels", self.labels, np.int64, 1)
        if len(self.labels) != len(self.pixels):
            raise DataError(f"{len(self.labels):,} labels for {len(self.pixels):,} digits")
        wrong = np.flatnonzero((self.labels < 0) | (self.labels >= self.spec.class_count))
        if len(wrong):
            raise DataError(
                f"labels[{wrong[0]}]: {self.labels[wrong[0]]} is not a class, "
                f"expected 0..{self.spec.class_count - 1}"
            )

    @property
    def true_labels(self) -> NDArray[np.int64]:
        """The labels, for code that cannot do without.

        Raises:
            DataError: they are unknown.
        """
        if self.labels is None:
            raise DataError("these digits have no labels", f"use those of {self.spec.train_file}")
        return self.labels

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, rows: slice | NDArray[np.integer] | NDArray[np.bool_]) -> Digits:
        """Return the digits of some rows: a slice, row indices, or a mask of N booleans."""
        if not isinstance(rows, slice | np.ndarray):
            raise TypeError(f"rows: a slice or an array, not {type(rows).__name__}; for one digit, pixels[i]")
        labels = None if self.labels is None else self.labels[rows]
        ids = None if self.ids is None else tuple(np.array(self.ids, object)[rows].tolist())
        return Digits(np.ascontiguousarray(self.pixels[rows]), labels, self.spec, ids)


def read_train(csv: Path, spec: CompetitionSpec = DIGIT_RECOGNIZER, *, rows: int | None = None) -> Digits:
    """Read a labelled CSV file of pixels.

    Args:
        csv: one digit a row: the label column, then the pixel columns that `spec` names, row-major. Lines end
            in CRLF or LF. Labels are the numbers of the classes.
        spec: columns, picture shape and classes of the competition.
        rows: how many digits there must be; None accepts any number above 0.

    Returns:
        Digits with pixels uint8 (N, 28, 28), 0 = background, 255 = full ink, and labels int64 (N,), each
        0..9.

    Raises:
        DataError: the header differs, a row is short or long, a value is not an integer in range, there is
            no row, or not as many as `rows`; the message names file, row and column.

    Source: kaggle.com/competitions/digit-recognizer/data
    """
    return _read(csv, spec, labelled=True, rows=rows)


def read_test(csv: Path, spec: CompetitionSpec = DIGIT_RECOGNIZER, *, rows: int | None = None) -> Digits:
    """Read an unlabelled CSV file of pixels: as `read_train`, without the label column.

    Returns:
        Digits with pixels uint8 (N, 28, 28), 0 = background, 255 = full ink; no labels.

    Raises:
        DataError: as `read_train`.

    Source: kaggle.com/competitions/digit-recognizer/data
    """
    return _read(csv, spec, labelled=False, rows=rows)


def write_csv(digits: Digits, csv: Path) -> None:
    """Write digits as Kaggle does: lines end in CRLF, and the label column is there if labels are known.

    The file appears under its name when it is complete, and replaces one that was there.

    Raises:
        DataError: there is no digit to write, or the folder cannot be written to.
    """
    if not len(digits):
        raise DataError(f"{csv}: there is no digit to write")
    try:
        with atomic_write(csv) as file:
            file.writelines(format_csv(digits))
    except OSError as error:
        raise DataError(f"{csv}: cannot be written: {error.strerror or error}") from error


def format_csv(digits: Digits) -> Iterator[bytes]:
    """Yield the file that `write_csv` writes: the header, then many rows at a time."""
    if not spec_csv.is_plain(digits.spec):
        yield from spec_csv.format_rows(digits.pixels, digits.labels, digits.ids, digits.spec)
        return
    columns = digits.spec.columns(labelled=digits.labels is not None)
    yield f"{','.join(columns)}\r\n".encode()
    yield from _fast_csv.format_rows(digits.pixels.reshape(len(digits), -1), digits.labels)


def read_csv(csv: Path, spec: CompetitionSpec = DIGIT_RECOGNIZER) -> Digits:
    """Read a CSV file of pixels with or without labels: as `read_train` or `read_test`.

    Raises:
        DataError: as `read_train`.
    """
    start = f"{spec.label_column},".encode()
    try:
        with csv.open("rb") as file:
            found = file.read(len(start))
    except OSError:
        found = start  # the reader reports what is wrong
    labelled = True if found == start and spec_csv.is_plain(spec) else None
    return _read(csv, spec, labelled=labelled, rows=None)


def upright(pixels: NDArray[np.uint8], spec: CompetitionSpec) -> NDArray[np.uint8]:
    """Return pictures row by row, uint8 (N, *spec.picture_shape), of pixels as a file has them."""
    if spec.transposed:
        rows, columns = spec.sides
        pixels = pixels.reshape(-1, columns, rows, spec.channels).swapaxes(1, 2)
    return np.ascontiguousarray(pixels).reshape(-1, *spec.picture_shape)


def _read(csv: Path, spec: CompetitionSpec, *, labelled: bool | None, rows: int | None) -> Digits:
    """Read a file; `labelled`: whether it must have labels, None takes what is there."""
    ids = None
    try:
        if spec_csv.is_plain(spec):
            pixels, labels = _read_strictly(csv, spec, labelled)
        else:
            pixels, labels, ids = spec_csv.read(csv, spec, labelled)
    except FileNotFoundError:
        raise DataError(f"{csv}: does not exist", "it is part of the competition's download") from None
    except IsADirectoryError:
        raise DataError(f"{csv}: is a folder, expected a CSV file") from None
    except OSError as error:
        raise DataError(f"{csv}: cannot be read: {error.strerror or error}") from error
    except MemoryError:
        raise DataError(f"{csv}: does not fit into the memory", "split it, or use a larger machine") from None
    if rows is not None and len(pixels) != rows:
        raise DataError(
            f"{csv}: {len(pixels):,} rows, expected {rows:,}", "if the file was cut off, download it again"
        )
    found = Digits(upright(pixels, spec), labels, spec, ids)
    for oddity in oddities(found.pixels, labels, spec):
        logging.getLogger("mnist").warning("%s: %s", csv, oddity)
    return found


def _read_strictly(
    csv: Path, spec: CompetitionSpec, labelled: bool | None
) -> tuple[NDArray[np.uint8], NDArray[np.int64] | None]:
    """Return pixels and labels of a file as Kaggle writes it; another is left to `csv_variants`."""
    wants = bool(labelled)
    try:
        found = _fast_csv.read(csv, spec, wants)
        pixels, labels = _read_by_line(csv, spec, wants) if found is None else found
    except DataError as error:
        return csv_variants.read(csv, spec, labelled, error)
    return pixels, labels if wants else None


def _read_by_line(
    csv: Path, spec: CompetitionSpec, labelled: bool
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the pixels uint8 (N, 784) and labels int64 (N,) of a file, or raise for the first flaw."""
    columns = spec.columns(labelled=labelled)
    labels = bytearray()
    pixels = bytearray()
    with csv.open("rb") as file:
        _check_header(csv, file.readline(_LONGEST), columns, spec)
        for row, line in enumerate(iter(lambda: file.readline(_LONGEST + 1), b""), start=1):
            if len(line) > _LONGEST:
                raise DataError(
                    f"{csv}: row {row} (line {row + 1}): the line has more than {_LONGEST:,} bytes"
                )
            fields = line.removesuffix(b"\n").removesuffix(b"\r").split(b",")
            if len(line) > _PADDED:
                fields = [field.lstrip(b"0") or field[-1:] for field in fields]
            try:
                if len(fields) != len(columns) or not b"".join(fields).isdigit() or not all(fields):
                    raise ValueError
                values = bytes(map(int, fields))  # refuses what is above 255
                if labelled and values[0] >= spec.class_count:
                    raise ValueError
            except ValueError:
                flaw, remedy = _flaw(fields, columns, spec, complete=line.endswith(b"\n"))
                raise DataError(f"{csv}: row {row} (line {row + 1}){flaw}", remedy) from None
            labels += values[: len(columns) - spec.pixels]
            pixels += values[-spec.pixels :]
    if not pixels:
        raise DataError(f"{csv}: has no row below the header")
    return (
        np.frombuffer(pixels, np.uint8).reshape(-1, spec.pixels),
        np.frombuffer(labels, np.uint8).astype(np.int64),
    )


def _check_header(csv: Path, line: bytes, columns: list[str], spec: CompetitionSpec) -> None:
    if not line:
        raise DataError(f"{csv}: the file is empty")
    if line.startswith(b"PK\x03\x04"):
        raise DataError(f"{csv}: is a zip archive, expected a CSV file", "unpack it first")
    found = line.removesuffix(b"\n").removesuffix(b"\r").split(b",")
    for number, (name, field) in enumerate(zip_longest(columns, found), start=1):
        if field is not None and name is not None and field == name.encode():
            continue
        expected = "no further column" if name is None else f"'{name}'"
        last = spec.pixel_column.format(spec.pixels - 1)
        remedy = f"the header is {columns[0]},{columns[1]},…,{last}"
        if number == 1 and field in (spec.label_column.encode(), spec.pixel_column.format(0).encode()):
            remedy = (
                f"{spec.train_file} has the column {spec.label_column} and is for read_train, "
                f"{spec.test_file} is for read_test"
            )
        raise DataError(f"{csv}: header, column {number}: found {_shown(field)}, expected {expected}", remedy)


def _flaw(
    fields: list[bytes], columns: list[str], spec: CompetitionSpec, *, complete: bool
) -> tuple[str, str]:
    """Return what is wrong with a wrong row, and the remedy; `complete`: its line has an end."""
    remedy = _CORRECT if spec.label_column in columns else "download it again"  # each row is asked for
    if fields == [b""]:
        return ": the line is empty", remedy
    if len(fields) != len(columns):
        flaw = f": {len(fields)} values, expected {len(columns)}"
        if len(fields) < len(columns):
            flaw += f", the last is {_shown(fields[-1])} in column {columns[len(fields) - 1]}"
            if not complete:
                return f"{flaw}, and there the file ends: it was cut off", "download it again"
        return flaw, remedy
    for name, field in zip(columns, fields, strict=True):
        highest = spec.class_count - 1 if name == spec.label_column else 255
        digits = field.lstrip(b"0") or b"0"
        if not field.isdigit() or len(digits) > 3 or int(digits) > highest:
            if name == spec.label_column:
                remedy = "a label is the number of a class"
            return f", column {name}: found {_shown(field)}, expected an integer 0..{highest}", remedy
    raise AssertionError("the row is right")


def _shown(field: bytes | None) -> str:
    """Return a value as an error repeats it: quoted, unprintable bytes escaped, and cut if it is long."""
    if field is None:
        return "nothing"
    text = repr(field[:_SHOWN].decode("utf-8", "backslashreplace"))
    return text if len(field) <= _SHOWN else f"{text}… ({len(field):,} bytes)"


def check_array(name: str, array: object, dtype: type, axes: int) -> None:
    """Raise a DataError if this is not a numpy array of a type and a number of axes."""
    if not isinstance(array, np.ndarray):
        raise DataError(f"{name}: {type(array).__name__}, expected a numpy array of {dtype.__name__}")
    if array.dtype != dtype or array.ndim != axes:
        raise DataError(
            f"{name}: {array.dtype} with shape {array.shape}, expected {dtype.__name__} with {axes} axes"
        )
