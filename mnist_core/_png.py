"""The fast PNG codec behind `folders`: 8-bit grey or RGB, as https://www.w3.org/TR/png-3/ has it.

You need not read it to understand the rest; the files are PNGs like any other. Pillow takes six times as long
to write one (120 µs to 20 of one core, medians of 5 × 2,000 digits) and to read one, nearly all of it before
the first pixel.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnist_core._atomic import PART, write_many
from mnist_core.cores import cores

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_BATCH = 500  # files that a thread writes between two reports of progress
_THREADS = 4  # more do not help


def encode(pixels: NDArray[np.uint8]) -> bytes:
    """Return a picture, uint8 (height, width) or (height, width, 3), as a PNG."""
    return _encode(_add_filter_bytes(pixels[None])[0], pixels.shape)


def read(file: Path, shape: tuple[int, ...]) -> bytes:
    """Return the first bytes of a file: all of one that `decode` can read, and of any other not many more."""
    with file.open("rb") as opened:
        return opened.read(2 * _size(shape) + 1000)


def decode(content: bytes, shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
    """Return the picture, uint8 `shape`, of a PNG as `encode` makes it; None for any other file."""
    head, tail = _head(shape), _chunk(b"IEND", b"")
    idat = content[len(head) + 8 : len(content) - len(tail) - 4]
    if content != head + _chunk(b"IDAT", idat) + tail:
        return None
    inflate = zlib.decompressobj()
    try:
        filtered = inflate.decompress(idat, _size(shape) + 1)  # a few bytes can stand for gigabytes
    except zlib.error:
        return None
    if not inflate.eof or inflate.unused_data or len(filtered) != _size(shape):
        return None
    rows = np.frombuffer(filtered, np.uint8).reshape(shape[0], -1)
    return None if rows[:, 0].any() else rows[:, 1:].reshape(shape)


def _size(shape: tuple[int, ...]) -> int:
    """Return the bytes of a picture's rows, each with its filter byte."""
    return shape[0] * (prod(shape[1:]) + 1)


def write_all(pixels: NDArray[np.uint8], rows: list[int], folder: Path, names: list[str]) -> Iterator[int]:
    """Write the PNGs of some rows, each atomically, and yield how many are done.

    In threads, since zlib and the disk release the interpreter's lock.

    Args:
        pixels: uint8 (N, height, width), or (N, height, width, 3).
        rows: which of them to write.
        folder: where; the folders that are part of the names must exist.
        names: N names below the folder.
    """

    def write(start: int) -> int:
        part = f"{folder}/.{start}{PART}"
        some = rows[start : start + _BATCH]
        for row, filtered in zip(some, _add_filter_bytes(pixels[some]), strict=True):
            write_many(part, f"{folder}/{names[row]}", _encode(filtered, pixels.shape[1:]))
        return len(some)

    done = 0
    pool = ThreadPoolExecutor(min(cores(), _THREADS))
    try:
        for count in pool.map(write, range(0, len(rows), _BATCH)):
            done += count
            yield done
    finally:
        pool.shutdown(cancel_futures=True)


def _add_filter_bytes(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Put the byte 0, for "not filtered", before each row: uint8 (N, height, 1 + bytes of a row)."""
    return np.pad(pixels.reshape(*pixels.shape[:2], -1), [(0, 0), (0, 0), (1, 0)])


def _encode(filtered: NDArray[np.uint8], shape: tuple[int, ...]) -> bytes:
    # Digits are so small that more compression costs time and saves next to nothing.
    idat = zlib.compress(filtered.tobytes(), 1)
    return _head(shape) + _chunk(b"IDAT", idat) + _chunk(b"IEND", b"")


@cache
def _head(shape: tuple[int, ...]) -> bytes:
    height, width, *channels = shape
    kind = 2 if channels else 0  # RGB, or grey
    return SIGNATURE + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0))


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
