"""The fast CSV reader and writer behind `digits`: numpy operations on whole blocks of bytes.

You need not read it to understand the rest; `digits._read_by_line` gives the same digits.

train.csv (76.8 MB, 42,000 rows) → uint8, medians of 7 in turn, two AMD EPYC cores: this file 0.057 s, pandas
0.43 s (tests/bench/LOG.md). At its peak 65 to 71 MB above the process before, 33 of them the pixels.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BufferedReader
from pathlib import Path
from queue import SimpleQueue
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from mnist_core.cores import cores
from mnist_core.spec import CompetitionSpec

_BLOCK = 1 << 20  # bytes a thread works on at once: enough that its threads seldom wait for the GIL
_THREADS = 4  # more do not help


def read(
    csv: Path, spec: CompetitionSpec, labelled: bool
) -> tuple[NDArray[np.uint8], NDArray[np.int64]] | None:
    """Return pixels uint8 (N, 784) and labels int64 (N,) of a file that is right byte for byte, N > 0.

    None at the first doubt. Without labels, the second array means nothing.
    """
    columns = spec.columns(labelled=labelled)
    header = ",".join(columns).encode()
    threads = min(cores(), _THREADS)
    with csv.open("rb") as file, ThreadPoolExecutor(threads) as pool:
        size = os.fstat(file.fileno()).st_size
        if file.readline(len(header) + 2) not in (header + b"\n", header + b"\r\n"):
            return None
        blocks = _Blocks(file, size, len(columns), threads)
        most = size // (2 * len(columns)) + 1  # a value takes two bytes or more
        pixels = np.empty((most, spec.pixels), np.uint8)
        labels = np.empty(most, np.int64)
        at = 0
        for table in pool.map(blocks.parse, range(file.tell(), size, _BLOCK)):
            if table is None or (labelled and table[:, 0].max(initial=0) >= spec.class_count):
                pool.shutdown(cancel_futures=True)
                return None
            pixels[at : at + len(table)] = table[:, -spec.pixels :]
            labels[at : at + len(table)] = table[:, 0]
            at += len(table)
    return (pixels[:at], labels[:at]) if at else None


class _Blocks:
    """An open file, from which threads read and parse one block each, in buffers that they reuse."""

    def __init__(self, file: BufferedReader, size: int, width: int, threads: int) -> None:
        self._file, self._size, self._width = file, size, width
        self._longest = 4 * width + 1  # bytes of a line: three digits and a mark each, and LF behind the CR
        row = 2 + _BLOCK + self._longest + 2
        self._buffers: SimpleQueue[NDArray[np.uint8]] = SimpleQueue()
        for _ in range(threads):
            self._buffers.put(np.empty((6, row + row % 2), np.uint8))
        self._reading = Lock()

    def parse(self, start: int) -> NDArray[np.uint8] | None:
        """Return the numbers of the lines that begin in a block, uint8 (lines, width); None if in doubt."""
        buffer = self._buffers.get()
        try:
            with self._reading:
                self._file.seek(start - 2)  # so that a number always has two bytes before it
                read = self._file.readinto(buffer[0, :-2].data)
            text = _lines(buffer[0], read, self._longest, start - 2 + read == self._size)
            return None if text is None else parse(text, self._width, buffer[1:])
        finally:
            self._buffers.put(buffer)


def _lines(buffer: NDArray[np.uint8], read: int, longest: int, ends: bool) -> NDArray[np.uint8] | None:
    """Return the lines that begin in a block, and the two bytes before them; None if a line is too long.

    Args:
        buffer: uint8 (2 + _BLOCK + longest + 2 or more,), the file from two bytes before the block.
        read: how many bytes of it were read.
        longest: bytes of a line.
        ends: the file ends with them. The last line gets its end if it has none.
    """

    def end_of(at: int) -> int:
        """Return where the line ends that byte `at` is in, or -1."""
        found = buffer[at : min(at + longest, read)].tobytes().find(b"\n")
        return at + found if found >= 0 else -1

    before, last = end_of(1), end_of(_BLOCK + 1)
    if before < 0:  # no line begins here, which is right only for the rest of the last line
        return buffer[:2] if ends and read <= 1 + longest else None
    if last < 0:
        if not ends:
            return None
        last = read - 1
        if buffer[last] != ord("\n"):
            line_end = b"\r\n" if buffer[before - 1] == ord("\r") else b"\n"
            last += len(line_end)
            buffer[read : last + 1] = list(line_end)
    return buffer[before - 1 : last + 1]


def parse(text: NDArray[np.uint8], width: int, room: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """Return the numbers 0..255 of whole lines, uint8 (lines, width), or None if anything else is there.

    Every byte gets the value of the number that would end there, in uint8 arithmetic; then the values are
    picked where a number does end. At most one of two bytes is such an end, so the picking goes by pairs.

    Args:
        text: uint8, two bytes and the lines; the second and the last byte are line ends.
        width: numbers in a line.
        room: uint8 (5, len(text) + 1 or more), scratch memory whose rows lie at even addresses. New
            memory for each block would have page faults, which take longer than the arithmetic.
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


def format_rows(pixels: NDArray[np.uint8], labels: NDArray[np.int64] | None) -> Iterator[bytes]:
    """Yield the lines of some rows, a thousand at a time: the label if there are labels, the pixels, CRLF.

    A value and the mark behind it are four bytes, "7," as "7", ",", NUL, NUL: a row of text is a row of
    32-bit words, found by one look-up, and the NULs are dropped on the way out.
    """
    inside = _words(b",")
    last = _words(b"\r")
    line_end = np.frombuffer(b"\n\0\0\0", np.uint32)[0]
    first = int(labels is not None)
    for start in range(0, len(pixels), 1000):
        some = pixels[start : start + 1000]
        words = np.empty((len(some), first + some.shape[1] + 1), np.uint32)
        if labels is not None:
            words[:, 0] = inside[labels[start : start + 1000]]
        words[:, first:-2] = inside[some[:, :-1]]
        words[:, -2] = last[some[:, -1]]
        words[:, -1] = line_end
        yield words.tobytes().translate(None, b"\0")


def _words(mark: bytes) -> NDArray[np.uint32]:
    """Return the text of each byte value and a mark behind it, filled up with NULs, as uint32 (256,)."""
    return np.frombuffer(b"".join((b"%d" % i + mark).ljust(4, b"\0") for i in range(256)), np.uint32)
