"""Labelled rows to be dealt: the 70,000 digits, a CSV file, or arrays in an npz file.

A CSV file is dealt line by line, as it stands: the training file has its lines, the test file has them
without the label. So whatever the specification says of columns, order and numbers holds for the dealt files.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infra.practice.errors import PracticeError
from mnist_core.digits import Digits, format_csv
from mnist_core.spec import CompetitionSpec

MNIST = Path(__file__).parent / "data" / "mnist.npz"
SHA256 = "06af5dfe73b70e3bc1c36439982b18a8d76803db9b544f6fdf838a37fbb01b64"

TRAIN_SHARES = (4132, 4684, 4177, 4351, 4072, 3795, 4137, 4401, 4063, 4188)
"""Rows of each digit 0..9 in Kaggle's train.csv; a smaller competition keeps their proportions."""
BOM = b"\xef\xbb\xbf"
NAMES = (("pixels", "labels"), ("images", "labels"), ("x", "y"))
"""Names of the two arrays in an npz file, pictures and labels."""

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Labelled:
    """Labelled rows.

    Attributes:
        labels: int64 (N,), each the number of a class.
        shares: in which proportions the classes are dealt to the training file.
        format: rows and whether they have their label → the lines of a file with these rows.
        ids: of rows, as the test file has them; None if they are counted there.
    """

    labels: NDArray[np.int64]
    shares: Sequence[int]
    format: Callable[[Rows, bool], Iterator[bytes]]
    ids: Callable[[Rows], list[str]] | None = None


# The 70,000 digits. Only this file and the benchmarks open the one that holds all labels.


def digits(spec: CompetitionSpec, npz: Path | None = None) -> Labelled:
    """Return the 70,000 digits of MNIST."""
    labels = read_labels(npz).astype(np.int64)

    def lines(rows: Rows, labelled: bool) -> Iterator[bytes]:
        pixels = read_pixels(npz)[rows].reshape(-1, *spec.picture_shape)
        return format_csv(Digits(pixels, labels[rows] if labelled else None, spec))

    return Labelled(labels, TRAIN_SHARES, lines)


def read_pixels(npz: Path | None = None) -> NDArray[np.uint8]:
    """Return all digits, uint8 (70000, 784): MNIST's 60,000 for training, then its 10,000 for testing."""
    with _open(npz) as mnist:
        pixels = np.concatenate([mnist["x_train"], mnist["x_test"]])
    return pixels.reshape(len(pixels), -1)


def read_labels(npz: Path | None = None) -> NDArray[np.uint8]:
    """Return all labels, uint8 (70000,), in the order of the pixels."""
    with _open(npz) as mnist:
        return np.concatenate([mnist["y_train"], mnist["y_test"]])


def _open(npz: Path | None) -> np.lib.npyio.NpzFile:
    path = npz or MNIST
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise PracticeError(
            f"{path}: cannot read the practice competition's digits ({error.strerror}); they come with a "
            "checkout of the repository and are not in container images",
            "run from a checkout, or set MNIST_KAGGLE to `live` or to a server's address",
        ) from error
    if hashlib.sha256(raw).hexdigest() != SHA256:
        raise PracticeError(
            f"{path} is damaged (its sha256 differs)", f"restore it with `git checkout {path.name}`"
        )
    opened: np.lib.npyio.NpzFile = np.load(io.BytesIO(raw))
    return opened


# Somebody's own rows


def read(path: Path, spec: CompetitionSpec) -> Labelled:
    """Return the rows of a labelled file.

    Raises:
        PracticeError: it cannot be read, a column is missing, or a label is not one of the classes.
    """
    try:
        found = (_read_npz if path.suffix == ".npz" else _read_csv)(path, spec)
    except (OSError, ValueError, LookupError, csv.Error) as error:
        raise PracticeError(
            f"{path}: cannot be read as labelled rows ({error})",
            "give a CSV file as the specification describes it, or an npz file with `pixels` and `labels`",
        ) from error
    missing = [name for name, count in zip(spec.classes, found.shares, strict=True) if count < 2]
    if missing:
        raise PracticeError(
            f"{path}: fewer than two rows of class {missing[0]}",
            "add rows, or take the class out of the specification",
        )
    return found


def _read_csv(path: Path, spec: CompetitionSpec) -> Labelled:
    lines = path.read_bytes().removeprefix(BOM).splitlines(keepends=True)
    header = lines.pop(0) if spec.header and lines else b""
    lines = [line for line in lines if line.strip()]
    names = _fields(header or lines[0], spec.delimiter)
    take = _taker(spec.delimiter, len(names))
    label = _place(path, names, spec.label_column, spec)
    labels = _class_numbers(path, [take(line, label)[0] for line in lines], spec, first=1)
    id_place = _id_place(names, label, spec)
    counts_ids = spec.id_column is not None and id_place is None

    def format_rows(rows: Rows, labelled: bool) -> Iterator[bytes]:
        if header:
            name = f"{spec.id_column}{spec.delimiter}".encode() if counts_ids and not labelled else b""
            yield name + (header if labelled else take(header, label)[1])
        for number, row in enumerate(rows.tolist(), spec.first_id):
            line = lines[row] if labelled else take(lines[row], label)[1]
            line = line if line.endswith(b"\n") else line + b"\n"
            yield f"{number}{spec.delimiter}".encode() + line if counts_ids and not labelled else line

    def ids(rows: Rows) -> list[str]:
        return [take(lines[row], id_place or 0)[0] for row in rows.tolist()]

    return Labelled(labels, _counts(labels, spec), format_rows, None if id_place is None else ids)


def _read_npz(path: Path, spec: CompetitionSpec) -> Labelled:
    with np.load(path, allow_pickle=False) as file:
        pair = next((pair for pair in NAMES if set(pair) <= set(file.files)), None)
        if pair is None:
            raise ValueError(f"it has {', '.join(file.files)}")
        pixels, names = file[pair[0]], file[pair[1]].ravel().astype(str).tolist()
    if len(pixels) != len(names) or pixels[0].size != spec.pixels:
        raise ValueError(f"{len(names)} labels for pictures {pixels.shape}, expected (N, {spec.pixels})")
    if spec.transposed and pixels.ndim > 2:
        pixels = pixels.swapaxes(1, 2)
    pixels = pixels.reshape(len(pixels), -1)
    labels = _class_numbers(path, names, spec, first=0)

    def format_rows(rows: Rows, labelled: bool) -> Iterator[bytes]:
        if spec.header:
            yield _line(spec.columns(labelled=labelled), spec.delimiter)
        for number, row in enumerate(rows.tolist(), spec.first_id):
            first = (
                [spec.classes[labels[row]]] if labelled else [] if spec.id_column is None else [f"{number}"]
            )
            yield _line([*first, *pixels[row].tolist()], spec.delimiter)

    return Labelled(labels, _counts(labels, spec), format_rows)


def _counts(labels: NDArray[np.int64], spec: CompetitionSpec) -> list[int]:
    return np.bincount(labels, minlength=spec.class_count).tolist()


def _class_numbers(path: Path, found: Sequence[str], spec: CompetitionSpec, first: int) -> NDArray[np.int64]:
    """Return the number of each label's class; the first one stands in line or row `first`."""
    numbers = {name: number for number, name in enumerate(spec.classes)}
    found = [name.strip() for name in found]
    for row, name in enumerate(found):
        if name not in numbers:
            raise PracticeError(
                f"{path}: row {row + first}: label {name[:40]!r} is not one of {spec.class_range}",
                "correct it, or add it to the classes of the specification",
            )
    return np.fromiter((numbers[name] for name in found), np.int64, len(found))


def _fields(line: bytes, delimiter: str) -> list[str]:
    return next(csv.reader([line.decode().rstrip("\r\n")], delimiter=delimiter, strict=True))


def _line(fields: Sequence[object], delimiter: str, end: str = "\n") -> bytes:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator=end).writerow(fields)
    return text.getvalue().encode()


def _taker(delimiter: str, columns: int) -> Callable[[bytes, int], tuple[str, bytes]]:
    """Return a function that takes the field at a place out of a line: the field, and the line without it."""
    mark = delimiter.encode()

    def take(line: bytes, place: int) -> tuple[str, bytes]:
        body = line.rstrip(b"\r\n")
        end = line[len(body) :]
        if b'"' in body:
            quoted = _fields(body, delimiter)
            return quoted.pop(place), _line(quoted, delimiter, end.decode())
        if place == columns - 1:  # a label that stands last needs no list of all pixels
            rest, _, last = body.rpartition(mark)
            return last.decode(), rest + end
        fields = body.split(mark, place + 1)
        return fields.pop(place).decode(), mark.join(fields) + end

    return take


def _place(path: Path, names: Sequence[str], column: str, spec: CompetitionSpec) -> int:
    """Return where a column stands, from 0."""
    if spec.header:
        if column not in names:
            raise PracticeError(
                f"{path}: its header has no column {column!r}", "correct the specification's [columns]"
            )
        return names.index(column)
    number = int(column)
    return number - 1 if number > 0 else len(names) + number


def _id_place(names: Sequence[str], label: int, spec: CompetitionSpec) -> int | None:
    """Return where labelled lines have an id; None if they have none, or the competition has no such column.

    Without a header the specification counts in the test file, which has no label.
    """
    if spec.id_column is None:
        return None
    if spec.header:
        return names.index(spec.id_column) if spec.id_column in names else None
    if len(names) < spec.pixels + len(spec.ignore) + 2:
        return None
    number = int(spec.id_column)
    place = number - 1 if number > 0 else len(names) - 1 + number
    return place if place < label else place + 1
