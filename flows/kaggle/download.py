"""The competition's files on this machine."""

import contextlib
import hashlib
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from flows.kaggle.errors import CompetitionError
from mnist_core.spec import DIGIT_RECOGNIZER, CompetitionSpec

PLACE_DIGITS = 16
"""Hex digits of the data digest that name a place."""
KEEP_DATA_S = 7 * 86400
"""Seconds for which files stay that the competition has replaced."""


@dataclass(frozen=True)
class Data:
    """The competition's files on this machine.

    Attributes:
        folder: holds the files that the specification names.
        digest: sha256, in hex, over the sha256 of the training and test files.
        spec: rows, columns and classes of the competition.
    """

    folder: Path
    digest: str
    spec: CompetitionSpec = DIGIT_RECOGNIZER

    @property
    def train_csv(self) -> Path:
        """The labelled rows."""
        return self.folder / self.spec.train_file

    @property
    def test_csv(self) -> Path:
        """The rows without labels."""
        return self.folder / self.spec.test_file


def data_digest(folder: Path, spec: CompetitionSpec = DIGIT_RECOGNIZER) -> str:
    """Return sha256, in hex, over the sha256 of the training and test files in a folder."""
    total = hashlib.sha256()
    for name in (spec.train_file, spec.test_file):
        with (folder / name).open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def unpack(archive: Path, folder: Path, spec: CompetitionSpec = DIGIT_RECOGNIZER) -> None:
    """Unpack the three files of a zip that holds them, whole, and nothing that leaves its folder."""
    try:
        with zipfile.ZipFile(archive) as bundle:
            names = bundle.namelist()
            unsafe = [
                n for n in names if n.startswith(("/", "\\")) or ".." in Path(n.replace("\\", "/")).parts
            ]
            missing = [name for name in spec.files if name not in names]
            if unsafe or missing:
                fault = f"the path {unsafe[0]!r} leaves it" if unsafe else f"{missing[0]} is missing"
                raise CompetitionError(f"{archive}: {fault}; nothing was unpacked, check MNIST_COMPETITION")
            for name in spec.files:
                with bundle.open(name) as source, (folder / name).open("xb") as target:
                    shutil.copyfileobj(source, target, 1 << 20)  # reading to the end checks the CRC
    except (zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise CompetitionError(f"{archive}: {error}; it is removed, run again", retryable=True) from None


@contextlib.contextmanager
def disk_explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CompetitionError(
            f"{error.filename or folder}: {error.strerror or error}; make room there, or set MNIST_HOME to a "
            "folder you can write"
        ) from error
