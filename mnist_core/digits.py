"""Handwritten digits in memory, and the two CSV files of Kaggle's digit-recognizer that they come from.

Reading has two paths that give the same digits. The fast one turns whole blocks of bytes into numbers
with a few numpy operations, on all cores, and accepts only a file that is right byte for byte. Wherever it
doubts, the careful one reads line by line and names file, row, column and the value that is wrong.

train.csv (76.8 MB, 42,000 rows) → uint8, medians of 7 in turn, two AMD EPYC cores: this file 0.057 s, pandas
0.43 s (tests/bench/LOG.md). At its peak 65 to 71 MB above the process before, 33 of them the pixels.
"""

from __future__ import annotations

import os
import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from queue import SimpleQueue
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from mnist_core.errors import DataError

SIDE = 28
CLASSES = 10
PIXELS = SIDE * SIDE

_BLOCK = 1 << 20  # bytes a thread works on at once: so many that its threads seldom wait for the GIL
_LONGEST = 1 << 16  # bytes of a line that the careful path reads: garbage need not have line ends
_SHOWN = 40  # bytes of a wrong value that an error repeats


@dataclass(frozen=True, eq=False)
class Digits:
    """N handwritten digits, with their labels where they are known.

    pixels: uint8 (N, 28, 28), C-contiguous, 0 = background, 255 = full ink.
    labels: int64 (N,), each 0..9; None where nobody has said.

    Raises:
        DataError: an array of another type or shape, or a label outside 0..9.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        _check_array("pixels", self.pixels, np.uint8, 3)
        if self.pixels.shape[1:] != (SIDE, SIDE):
            raise DataError(f"pixels: shape {self.pixels.shape}, expected (N, {SIDE}, {SIDE})")
        if not self.pixels.flags.c_contiguous:
            raise DataError("pixels: not C-contiguous; pass them through numpy.ascontiguousarray")
        if self.labels is None:
            return
        _check_array("labels", self.labels, np.int64, 1)
        if len(self.labels) != len(self.pixels):
            raise DataError(f"{len(self.labels):,} labels for {len(self.pixels):,} digits")
        wrong = np.flatnonzero((self.labels < 0) | (self.labels >= CLASSES))
        if len(wrong):
            raise DataError(f"labels[{wrong[0]}]: {self.labels[wrong[0]]} is no digit, expected 0..9")

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, rows: slice | NDArray[np.integer] | NDArray[np.bool_]) -> Digits:
        """The digits of some rows, as Digits: a slice, row indices, or a mask of N booleans."""
        if not isinstance(rows, slice | np.ndarray):
            raise TypeError(f"rows: a slice or an array, not {type(rows).__name__}; for one digit, pixels[i]")
        labels = None if self.labels is None else self.labels[rows]
        return Digits(np.ascontiguousarray(self.pixels[rows]), labels)


def read_train(csv: Path, rows: int | None = None) -> Digits:
    """Read the labelled digits of Kaggle's train.csv.

    Args:
        csv: header `label,pixel0,…,pixel783`, one digit a row, lines ending in CRLF or LF.
        rows: how many digits there must be (Kaggle's file has 42,000); None takes any number above 0.

    Returns:
        Digits with pixels uint8 (N, 28, 28), row-major, 0 = background, 255 = full ink,
        and labels int64 (N,), each 0..9.

    Raises:
        DataError: the header differs, a row is short or long, a value is no integer in range, there is
            no row, or not as many as `rows`; the message names the file, the row and the column.

    Source: kaggle.com/competitions/digit-recognizer/data
    """
    return _read(csv, labelled=True, rows=rows)


def read_test(csv: Path, rows: int | None = None) -> Digits:
    """Read the unlabelled digits of Kaggle's test.csv: `read_train` without the column `label`.

    Args:
        csv: header `pixel0,…,pixel783`, one digit a row, lines ending in CRLF or LF.
        rows: how many digits there must be (Kaggle's file has 28,000); None takes any number above 0.

    Returns:
        Digits with pixels uint8 (N, 28, 28), row-major, 0 = background, 255 = full ink; no labels.

    Raises:
        DataError: as `read_train`.

    Source: kaggle.com/competitions/digit-recognizer/data
    """
    return _read(csv, labelled=False, rows=rows)


def write_csv(digits: Digits, csv: Path) -> None:
    """Write digits as Kaggle does: lines end in CRLF, with a column `label` where labels are known.

    The file appears under its name when it is whole, and replaces one that was there.

    Raises:
        DataError: there is no digit to write, or the folder can not be written to.
    """
    if not len(digits):
        raise DataError(f"{csv}: there is no digit to write")
    # A value and the mark behind it are four bytes, "7," as "7", ",", NUL, NUL: a row of text is a row of
    # 32-bit words, found by one look-up, and the NULs are dropped on the way out.
    inside = _words(b",")
    last = _words(b"\r")
    line_end = np.frombuffer(b"\n\0\0\0", np.uint32)[0]
    columns = _columns(digits.labels is not None)
    first = len(columns) - PIXELS
    whole = csv.with_name(f".{csv.name}.{secrets.token_hex(4)}.part")
    try:
        with whole.open("xb") as file:
            file.write(",".join(columns).encode() + b"\r\n")
            for start in range(0, len(digits), 1000):
                pixels = digits.pixels[start : start + 1000].reshape(-1, PIXELS)
                words = np.empty((len(pixels), len(columns) + 1), np.uint32)
                if digits.labels is not None:
                    words[:, 0] = inside[digits.labels[start : start + 1000]]
                words[:, first:-2] = inside[pixels[:, :-1]]
                words[:, -2] = last[pixels[:, -1]]
                words[:, -1] = line_end
                file.write(words.tobytes().translate(None, b"\0"))
        whole.replace(csv)
    except OSError as error:
        raise DataError(f"{csv}: can not be written: {error.strerror or error}") from error
    finally:
        whole.unlink(missing_ok=True)


def folds(labels: NDArray[np.int64], data_digest: str, count: int = 5) -> NDArray[np.uint8]:
    """Deal rows to stratified folds of equal size; fold 0 are the validation rows.

    Args:
        labels: int64 (N,), each 0..9.
        data_digest: hexadecimal digest of the data; the same labels and digest give the same folds for ever
            (they are drawn from PCG64's raw output, which numpy promises never to change).
        count: number of folds, 2..255.

    Returns:
        uint8 (N,), the fold of each row, 0..count-1. Folds differ by at most one row, in all
        and in each class: the 42,000 rows of train.csv make 5 × 8,400.

    Raises:
        DataError: the labels are no int64 (N,), the digest is not hexadecimal, or count is out of range.
    """
    _check_array("labels", labels, np.int64, 1)
    if not 2 <= count <= 255:
        raise DataError(f"folds: count {count}, expected 2..255")
    if not data_digest or set(data_digest.lower()) - set("0123456789abcdef"):
        raise DataError(f"folds: the data digest {data_digest!r} is no hexadecimal number")
    shuffle = np.random.PCG64(int(data_digest, 16)).random_raw(len(labels))
    fold = np.empty(len(labels), np.uint8)
    # By class, at random within the class, then dealt like cards.
    fold[np.lexsort((shuffle, labels))] = np.arange(len(labels)) % count
    return fold


def _read(csv: Path, *, labelled: bool, rows: int | None) -> Digits:
    try:
        digits = _read_fast(csv, labelled)
        if digits is None:
            digits = _read_carefully(csv, labelled)
    except FileNotFoundError:
        raise DataError(f"{csv}: there is no such file; it is part of the competition's download") from None
    except IsADirectoryError:
        raise DataError(f"{csv}: is a folder, expected a CSV file") from None
    except OSError as error:
        raise DataError(f"{csv}: can not be read: {error.strerror or error}") from error
    if rows is not None and len(digits) != rows:
        raise DataError(
            f"{csv}: {len(digits):,} rows, expected {rows:,}; if the file was cut off, download it again"
        )
    return digits


def _read_fast(csv: Path, labelled: bool) -> Digits | None:
    """The digits of a file that is right byte for byte, or None at the first doubt."""
    width = PIXELS + labelled
    longest = 4 * width + 1  # bytes of a line: three digits and a mark each, and LF behind the CR
    threads = min(cores(), 4)
    row = 2 + _BLOCK + longest + 2
    rooms: SimpleQueue[NDArray[np.uint8]] = SimpleQueue()
    for _ in range(threads):
        rooms.put(np.empty((6, row + row % 2), np.uint8))
    reading = Lock()

    with csv.open("rb") as file, ThreadPoolExecutor(threads) as pool:
        size = os.fstat(file.fileno()).st_size
        header = ",".join(_columns(labelled)).encode()
        if file.readline(len(header) + 2) not in (header + b"\n", header + b"\r\n"):
            return None

        def parse(start: int) -> NDArray[np.uint8] | None:
            room = rooms.get()
            try:
                with reading:
                    file.seek(start - 2)  # so that a number always has two bytes before it
                    read = file.readinto(room[0, :-2].data)
                text = _lines(room[0], read, longest, start - 2 + read == size)
                return None if text is None else _parse(text, width, room[1:])
            finally:
                rooms.put(room)

        most = size // (2 * width) + 1  # a value takes two bytes or more
        pixels = np.empty((most, PIXELS), np.uint8)
        labels = np.empty(most, np.int64)
        at = 0
        for table in pool.map(parse, range(file.tell(), size, _BLOCK)):
            if table is None or (labelled and table[:, 0].max(initial=0) >= CLASSES):
                pool.shutdown(cancel_futures=True)
                return None
            pixels[at : at + len(table)] = table[:, -PIXELS:]
            labels[at : at + len(table)] = table[:, 0]
            at += len(table)
    if not at:
        return None
    return Digits(pixels[:at].reshape(at, SIDE, SIDE), labels[:at] if labelled else None)


def _lines(buffer: NDArray[np.uint8], read: int, longest: int, whole: bool) -> NDArray[np.uint8] | None:
    """The lines that begin in a block, with the two bytes before the first; None where a line is too long.

    Args:
        buffer: uint8 (2 + _BLOCK + longest + 2 or more,), what was read from two bytes before the block on.
        read: bytes of it that are the file's.
        longest: bytes of a line.
        whole: the file ends with them. The last line gets its end if it has none.
    """

    def end_of(at: int) -> int:
        """Where the line ends that byte `at` is in, or -1."""
        found = buffer[at : min(at + longest, read)].tobytes().find(b"\n")
        return at + found if found >= 0 else -1

    before, last = end_of(1), end_of(_BLOCK + 1)
    if before < 0:  # no line begins here: right for the rest of the file's last line alone
        return buffer[:2] if whole and read <= 1 + longest else None
    if last < 0:
        if not whole:
            return None
        last = read - 1
        if buffer[last] != ord("\n"):
            line_end = b"\r\n" if buffer[before - 1] == ord("\r") else b"\n"
            last += len(line_end)
            buffer[read : last + 1] = list(line_end)
    return buffer[before - 1 : last + 1]


def _parse(text: NDArray[np.uint8], width: int, room: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """Whole lines of integers 0..255 → uint8 (lines, width), or None if anything else is there.

    Every byte gets the value of the number that would end there, in uint8 arithmetic; then the values are
    picked where a number does end. At most one of two bytes is such an end, so the picking goes by pairs.

    Args:
        text: uint8, two bytes and the lines; the second and the last byte are line ends.
        width: numbers a line.
        room: uint8 (5, len(text) + 1 or more), which is written over; its rows lie at even addresses. Memory
            that is new each time has page faults, which take longer than the arithmetic.
    """
    size = len(text)
    digit, value, hundreds = room[:3, : size + size % 2]
    is_digit, flag = room[3:, : size + size % 2].view(bool)
    np.subtract(text, ord("0"), out=digit[:size])
    np.less(digit[:size], 10, out=is_digit[:size])
    is_digit[size:] = False
    np.equal(text, ord(","), out=flag[:size])
    commas = np.count_nonzero(flag[2:size])
    others = size - 2 - commas - np.count_nonzero(is_digit[2:size])

    digit *= is_digit.view(np.uint8)
    two = np.logical_and(is_digit[1:], is_digit[:-1], out=flag[1:])  # [i]: digits at i and i + 1
    four = np.logical_and(two[2:], two[:-2], out=hundreds.view(bool)[3:])
    if four.any():
        return None
    hundreds = np.multiply(digit[:-2], two[1:].view(np.uint8), out=hundreds[2:])
    if hundreds.max(initial=0) > 2:
        return None
    hundreds *= 100
    ending = np.multiply(digit[1:-1], 10, out=value[2:])  # [i]: of the number that ends at i + 2
    ending += digit[2:]
    ending += hundreds
    if np.less(ending, hundreds, out=flag[2:]).any():  # 256..299 wrapped around
        return None

    # Behind every 785th number stands a line end, and besides there are only commas, as many as there are
    # other numbers: each has its comma, and each line its 785.
    flag[:2] = flag[-1] = False
    np.greater(is_digit[2:-1], is_digit[3:], out=flag[2:-1])  # [i]: a number ends at i
    value *= flag.view(np.uint8)
    pairs = np.flatnonzero(np.not_equal(flag.view(np.uint16), 0, out=is_digit[: len(flag) // 2]))
    lines, rest = divmod(len(pairs), width)
    if rest or commas != lines * (width - 1) or others not in (lines, 2 * lines):
        return None
    after = 2 * pairs[width - 1 :: width] + 1
    after += flag[after]
    if others > lines:
        if (text[after] != ord("\r")).any():
            return None
        after += 1
    if (text[after] != ord("\n")).any():
        return None
    picked = value.view(np.uint16).take(pairs)
    picked |= picked >> 8  # one of the two bytes is 0
    return picked.astype(np.uint8).reshape(lines, width)


def _read_carefully(csv: Path, labelled: bool) -> Digits:
    """The same digits line by line, or the DataError that says what is wrong first."""
    columns = _columns(labelled)
    labels = bytearray()
    pixels = bytearray()
    with csv.open("rb") as file:
        _check_header(csv, file.readline(_LONGEST), columns)
        for row, line in enumerate(iter(lambda: file.readline(_LONGEST), b""), start=1):
            text = line.removesuffix(b"\n").removesuffix(b"\r")
            fields = text.split(b",")
            digits = b"".join(fields).isdigit() and all(fields)
            try:
                if len(fields) != len(columns) or not digits or (labelled and int(fields[0]) >= CLASSES):
                    raise ValueError
                values = bytes(map(int, fields))
            except ValueError:  # bytes() refuses what is above 255
                whole = line.endswith(b"\n")
                raise DataError(f"{csv}: row {row} (line {row + 1}){_flaw(fields, columns, whole)}") from None
            labels += values[: len(columns) - PIXELS]
            pixels += values[-PIXELS:]
    if not pixels:
        raise DataError(f"{csv}: there is no row below the header")
    return Digits(
        np.frombuffer(pixels, np.uint8).reshape(-1, SIDE, SIDE),
        np.frombuffer(labels, np.uint8).astype(np.int64) if labelled else None,
    )


def _check_header(csv: Path, line: bytes, columns: list[str]) -> None:
    if not line:
        raise DataError(f"{csv}: the file is empty")
    if line.startswith(b"PK\x03\x04"):
        raise DataError(f"{csv}: is a zip archive, expected a CSV file; unpack it first")
    found = line.removesuffix(b"\n").removesuffix(b"\r").split(b",")
    for number, (name, field) in enumerate(zip_longest(columns, found), start=1):
        if field is not None and name is not None and field == name.encode():
            continue
        expected = "no further column" if name is None else f"'{name}'"
        remedy = ""
        if number == 1 and field in (b"label", b"pixel0"):
            remedy = "; train.csv has the column label and is for read_train, test.csv is for read_test"
        raise DataError(f"{csv}: header, column {number}: found {_shown(field)}, expected {expected}{remedy}")


def _flaw(fields: list[bytes], columns: list[str], whole: bool) -> str:
    """What is wrong with a row that is wrong; `whole`: its line has an end."""
    if fields == [b""]:
        return ": the line is empty"
    if len(fields) != len(columns):
        flaw = f": {len(fields)} values, expected {len(columns)}"
        if len(fields) < len(columns):
            flaw += f"; the last is {_shown(fields[-1])} in column {columns[len(fields) - 1]}"
            if not whole:
                flaw += ", and there the file ends: it was cut off, so download it again"
        return flaw
    for name, field in zip(columns, fields, strict=True):
        highest = CLASSES - 1 if name == "label" else 255
        digits = field.lstrip(b"0") or b"0"
        if not field.isdigit() or len(digits) > 3 or int(digits) > highest:
            return f", column {name}: found {_shown(field)}, expected an integer 0..{highest}"
    raise AssertionError("the row is right")


def _shown(field: bytes | None) -> str:
    """A value as an error repeats it: quoted, unprintable bytes escaped, and not too much of it."""
    if field is None:
        return "nothing"
    text = repr(field[:_SHOWN].decode("utf-8", "backslashreplace"))
    return text if len(field) <= _SHOWN else f"{text}… ({len(field):,} bytes)"


def _columns(labelled: bool) -> list[str]:
    return ["label"] * labelled + [f"pixel{i}" for i in range(PIXELS)]


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _words(mark: bytes) -> NDArray[np.uint32]:
    """uint32 (256,): the text of each byte value and a mark behind it, filled up with NULs."""
    return np.frombuffer(b"".join((b"%d" % i + mark).ljust(4, b"\0") for i in range(256)), np.uint32)


def _check_array(name: str, array: object, dtype: type, axes: int) -> None:
    if not isinstance(array, np.ndarray):
        raise DataError(f"{name}: {type(array).__name__}, expected a numpy array of {dtype.__name__}")
    if array.dtype != dtype or array.ndim != axes:
        raise DataError(
            f"{name}: {array.dtype} with shape {array.shape}, expected {dtype.__name__} with {axes} axes"
        )
