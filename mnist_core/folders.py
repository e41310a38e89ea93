"""Digits in folders of PNGs: written without loss, and read in the order that a submission needs."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnist_core import _png
from mnist_core._atomic import PART
from mnist_core.digits import Digits, read_csv
from mnist_core.errors import DataError
from mnist_core.picture_files import DamagedPictureError, open_picture, take_unchanged
from mnist_core.progress import Progress
from mnist_core.spec import DIGIT_RECOGNIZER, CompetitionSpec

HALVES = ("training", "testing")
"""The two halves of fastai's `mnist_png`, each with a folder for each class."""
UNFINISHED = ".unfinished"
"""A file that marks a folder of PNGs as incomplete: without it, it would read as a smaller data set."""


def read_digits(
    source: Path, spec: CompetitionSpec = DIGIT_RECOGNIZER, *, progress: Progress | None = None
) -> Digits:
    """Read digits from whatever holds them: a CSV file, with or without labels, or a folder of PNGs.

    Raises:
        DataError: as `read_train` and `read_pngs`.
    """
    if source.is_dir():
        return read_pngs(source, spec, progress=progress)
    return read_csv(source, spec)


def write_pngs(digits: Digits, folder: Path, *, progress: Progress | None = None) -> int:
    """Write a lossless PNG for each digit: `<folder>/<class>/<i>.png`, or `<folder>/<i>.png` without labels.

    If the competition's test file has ids, the digits without labels are `<folder>/<id>.png`. In classes and
    ids, what cannot be part of a file's name is written as in a URL: `a/b` becomes `a%2Fb`.

    After an interruption the same call resumes: it writes only what is missing or was cut short. Each PNG is
    written atomically.

    Args:
        digits: i is the row, counted from 0.
        folder: created if missing. It may hold some of these PNGs, and nothing else.
        progress: called with digits done, digits in all, and "write".

    Returns:
        How many PNGs were written; the others were there.

    Raises:
        DataError: the folder holds something else than these digits, and then nothing was written; or it
            cannot be written to.
    """
    classes = tuple(map(_file_name, digits.spec.classes)) if digits.labels is not None else ()
    names = [f"{i}.png" for i in range(len(digits))]
    if digits.labels is None and digits.ids is not None:
        names = [f"{_file_name(name)}.png" for name in digits.ids]
    if digits.labels is not None:
        names = [
            f"{classes[label]}/{name}" for label, name in zip(digits.labels.tolist(), names, strict=True)
        ]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        there = _names(folder, classes)
        if strange := sorted(there - set(names)):
            raise DataError(
                f"{folder}: holds {strange[0]}, which is not one of these digits",
                "name a new folder, or empty this one",
            )
        missing = [
            i
            for i, name in enumerate(names)
            if name not in there or _is_cut(folder / name, digits.pixels[i], digits.spec)
        ]
        if missing or (folder / UNFINISHED).exists():
            _write_missing(digits, missing, folder, names, classes, progress)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written: {error.strerror or error}") from error
    return len(missing)


def read_pngs(
    folder: Path, spec: CompetitionSpec = DIGIT_RECOGNIZER, *, progress: Progress | None = None
) -> Digits:
    """Read a folder of pictures of the competition's size that `write_pngs` or another program wrote.

    Three layouts: folders named by class give the labels; folders `training` and `testing` with such folders
    in them (fastai's `mnist_png`) are read one after the other; pictures without folders have no labels. File
    names are free. If they are numbers, these give the order; else it is by label, then by name. Without
    labels a submission rests on the order, so there no number may be missing, unless the competition has ids,
    which the names then are. Files whose names start with a dot are ignored.

    Args:
        folder: with one of these layouts.
        spec: the shape of a picture, and the classes.
        progress: called with digits done, digits in all, and "read".

    Raises:
        DataError: there is no picture, a file is not a picture of 28 × 28, the folder holds something else, a
            number is missing or there twice, or writing the folder was interrupted; the message names the
            file.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder")
    files = _pictures(folder, spec)
    if not files:
        raise DataError(f"{folder}: holds no PNG")
    pixels = np.empty((len(files), *spec.picture_shape), np.uint8)
    for i, (file, _) in enumerate(files):
        digit = (
            _png.decode(_png.read(file, spec.picture_shape), spec.picture_shape) if file.is_file() else None
        )
        if digit is None:
            digit = open_picture(file, lambda image: take_unchanged(image, spec))
        pixels[i] = digit
        if progress and ((i + 1) % 1000 == 0 or i + 1 == len(files)):
            progress(i + 1, len(files), "read")
    labels = [label for _, label in files if label is not None]
    if labels or spec.id_column is None:
        return Digits(pixels, np.array(labels, np.int64) if labels else None, spec)
    return Digits(pixels, None, spec, tuple(_read_name(file.stem) for file, _ in files))


def _write_missing(
    digits: Digits,
    missing: list[int],
    folder: Path,
    names: list[str],
    classes: tuple[str, ...],
    progress: Progress | None,
) -> None:
    (folder / UNFINISHED).touch()
    for name in classes:
        (folder / name).mkdir(exist_ok=True)
    done = len(digits) - len(missing)
    for written in _png.write_all(digits.pixels, missing, folder, names):
        if progress:
            progress(done + written, len(digits), "write")
    for left_over in folder.glob(f".*{PART}"):  # by a process that was killed
        left_over.unlink()
    (folder / UNFINISHED).unlink()


def _is_cut(file: Path, digit: NDArray[np.uint8], spec: CompetitionSpec) -> bool:
    """Tell whether a file is only the beginning of this digit's PNG; False if it is the digit.

    Raises:
        DataError: it is another digit, or something else.
    """
    content = _png.read(file, spec.picture_shape)
    there = _png.decode(content, spec.picture_shape)
    if there is not None and np.array_equal(there, digit):
        return False
    if _png.encode(digit).startswith(content):
        return True
    if not content.strip(b"\0"):  # NULs, or nothing: the disk lost its power
        return True
    if _png.SIGNATURE.startswith(content[:8]):
        try:
            if np.array_equal(open_picture(file, lambda image: take_unchanged(image, spec)), digit):
                return False  # by another program, or another zlib
        except DamagedPictureError:
            return True
        except DataError:
            pass  # another size or mode
    raise DataError(f"{file}: holds something else than this digit", "name a new folder, or empty this one")


def _names(folder: Path, classes: tuple[str, ...]) -> set[str]:
    """Return what a folder and its folders named by class hold, as names below the folder."""
    names = set()
    for entry in _entries(folder):
        if entry.name in classes and entry.is_dir():
            names |= {f"{entry.name}/{inner.name}" for inner in _entries(entry)}
        else:
            names.add(entry.name)
    return names


def _entries(folder: Path) -> list[Path]:
    return [entry for entry in folder.iterdir() if not entry.name.startswith(".")]


def _pictures(folder: Path, spec: CompetitionSpec) -> list[tuple[Path, int | None]]:
    """Return the pictures of a folder with their labels, in order."""
    if (folder / UNFINISHED).exists():
        raise DataError(f"{folder}: writing it was interrupted", "run the same convert again to complete it")
    entries = _entries(folder)
    if entries and {entry.name for entry in entries} <= {*HALVES} - {*spec.classes}:
        halves = [folder / half for half in HALVES if (folder / half).is_dir()]
        return [picture for half in halves for picture in _pictures(half, spec)]
    if any(entry.is_dir() for entry in entries):
        return _labelled(entries, spec)
    files = sorted(entries, key=_by_number)
    if spec.id_column is None and all(_is_number(file) for file in files):
        _check_numbers(files)
    return [(file, None) for file in files]


def _labelled(entries: list[Path], spec: CompetitionSpec) -> list[tuple[Path, int | None]]:
    """Return the pictures in folders named by class: by number if all names are, else by class and name."""
    number_of = {_file_name(name): number for number, name in enumerate(spec.classes)}
    files: list[Path] = []
    for entry in sorted(entries):
        if entry.name not in number_of or not entry.is_dir():
            raise DataError(
                f"{entry}: expected only folders named {_listed(tuple(number_of))}, or "
                f"{' and '.join(HALVES)} with such folders in them",
                "read other folders one by one",
            )
        files += sorted(_entries(entry), key=_by_number)
    if all(_is_number(file) for file in files):
        files.sort(key=_by_number)  # stable, so that the same number in two folders does not matter
    return [(file, number_of[file.parent.name]) for file in files]


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names if len(names) <= 12 else (*names[:10], "…", names[-1]))


def _file_name(name: str) -> str:
    """Return a class or an id as the name of a file or folder."""
    quoted = re.sub("[%/\0]", lambda found: f"%{ord(found[0]):02X}", name)
    return f"%2E{quoted[1:]}" if quoted.startswith(".") else quoted


def _read_name(name: str) -> str:
    """Return the class or id that `_file_name` made a name of."""
    return re.sub("%(25|2F|2E|00)", lambda found: chr(int(found[1], 16)), name)


def _is_number(file: Path) -> bool:
    return file.stem.isascii() and file.stem.isdigit()


def _by_number(file: Path) -> list[str | int]:
    """Return a key that sorts 10.png after 9.png, and digit-10.png after digit-9.png."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"([0-9]+)", file.name))]


def _check_numbers(files: list[Path]) -> None:
    """Raise a DataError unless the numbers run from 0 or 1 without a gap; the files are sorted."""
    for expected, file in enumerate(files, start=min(int(files[0].stem), 1) if files else 0):
        number = int(file.stem)
        if number > expected:
            raise DataError(f"{file.parent}: {expected}.png is missing, but {file.name} is there")
        if number < expected:
            raise DataError(f"{file}: digit {number} is there twice")
