"""The digits that a command of `python -m mnist_core` names, read with a progress bar."""

from __future__ import annotations

import hashlib
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from mnist_core.errors import DataError
from mnist_core.spec import CompetitionSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mnist_core.digits import Digits
    from mnist_core.progress import Progress


def read_source(source: Path, spec: CompetitionSpec) -> Digits:
    """Return the digits of a CSV file or of a folder of PNGs."""
    from mnist_core import read_digits

    with show_progress("read") as progress:
        return read_digits(source, spec, progress=progress)


def read_labelled(source: Path, spec: CompetitionSpec) -> Digits:
    """Return the digits of a source, which must have labels."""
    digits = read_source(source, spec)
    if digits.labels is None:
        raise DataError(
            f"{source}: has no labels",
            f"use {spec.train_file}, or a folder with folders named {spec.classes[0]} to {spec.classes[-1]}",
        )
    return digits


def read_one(source: Path, row: int | None, spec: CompetitionSpec) -> tuple[NDArray[np.uint8], int | None]:
    """Return the digit of a picture, or of a row of a CSV file, and its label if it has one."""
    from mnist_core import read_digits, read_image

    if row is None:
        return read_image(source, spec), None
    digits = read_digits(source, spec)
    if row > len(digits):
        raise DataError(f"{source}: has {len(digits):,} rows, so row {row:,} does not exist")
    return digits.pixels[row - 1], None if digits.labels is None else int(digits.labels[row - 1])


def digest_of(source: Path, digits: Digits) -> str:
    """Return the sha256 of a CSV file; of a folder, that of the CSV file with the same digits."""
    from mnist_core.digits import format_csv

    if not source.is_dir():
        with source.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    found = hashlib.sha256()
    for lines in format_csv(digits):
        found.update(lines)
    return found.hexdigest()


def show_progress(title: str) -> AbstractContextManager[Progress]:
    """Show a bar on standard error while the block runs, if that is a terminal."""
    from rich.console import Console

    from mnist_core.terminal import progress_bar

    return progress_bar(title, Console(stderr=True))
