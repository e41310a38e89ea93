"""The competition's files on this machine: downloaded once, and kept while the server lists the same."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from flows.kaggle.client import Client, ListedFile
from flows.kaggle.errors import CompetitionError
from flows.records import Record, RecordError
from flows.store.folder import free_bytes
from mnist_core._atomic import atomic_write, what_helps
from mnist_core.progress import Progress
from mnist_core.spec import DIGIT_RECOGNIZER, SPECS, CompetitionSpec

NAME_DIGITS = 16
"""Hex digits of the data digest that name a folder of data, and a namespace."""
READING = (
    "classes", "shape", "transposed", "value_range", "label_column", "id_column", "pixel_column",
    "first_pixel", "header", "delimiter", "ignore", "submission_header", "first_id",
)  # fmt: skip
"""What a specification says of the meaning of the files, so that the same files may be other data."""
KEEP_DATA_S = 7 * 86400
"""Seconds for which replaced files are kept since a run last began with them: it may still read them."""


@dataclass(frozen=True)
class Data:
    """The competition's files on this machine.

    Attributes:
        folder: holds the files that `spec` names.
        digest: sha256, in hex, over the sha256 of the training and of the test file.
        spec: the competition whose files these are, with the rows that they have.
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
    """Return the sha256, in hex, over the sha256 of the training and of the test file in a folder.

    If the specification reads them in another way than a built-in one of its name, that is a part of it: what
    was made of one reading is never mixed with what was made of another.
    """
    total = hashlib.sha256()
    for name in (spec.train_file, spec.test_file):
        with (folder / name).open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    if _reading(spec) != _reading(SPECS.get(spec.name)):
        total.update(_reading(spec).encode())
    return total.hexdigest()


def _reading(spec: CompetitionSpec | None) -> str:
    return json.dumps([getattr(spec, name, None) for name in READING])


class _Current(Record):
    """What the last download brought, and what the server listed then.

    Attributes:
        rows: of the training and of the test file; None if an earlier version of this program did not count.
    """

    digest: str
    listed: list[ListedFile]
    rows: tuple[int, int] | None = None


class Downloads:
    """The data of one competition below a folder.

    Args:
        client: the server that they come from.
        spec: which files the competition has.
        folder: theirs alone; made by the first download.
    """

    def __init__(self, client: Client, spec: CompetitionSpec, folder: Path) -> None:
        self._client = client
        self._spec = spec
        self.folder = folder

    def get(self, progress: Progress | None = None) -> Data:
        """Return the competition's files, downloaded unless the server lists the same ones as last time.

        Raises:
            CompetitionError: the server failed, its zip is cut, unsafe or incomplete, or the disk is full.
        """
        listed = sorted(self._client.files(), key=lambda file: file.name)
        missing = set(self._spec.files) - {file.name for file in listed}
        if missing:
            names = " and no ".join(sorted(missing))
            raise CompetitionError(
                f"{self._client.server}: competition {self._spec.name} has no {names}",
                "check MNIST_COMPETITION and MNIST_KAGGLE",
            )
        kept = self._kept(listed)
        if kept is not None:
            return kept
        if not self._client.takes_files():
            raise CompetitionError(
                f"{self._client.server}: {self._spec.name} takes submissions from notebooks only, no file",
                "enter another competition, or practise on its data: give its labelled rows as "
                "MNIST_PRACTICE_DATA and set MNIST_KAGGLE to practice",
                answered=True,
            )
        with disk_explained(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / "lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # one download at a time; the next process finds its files
                return self._kept(listed) or self._download(listed, progress)

    def _kept(self, listed: list[ListedFile]) -> Data | None:
        """Return the files of last time if the server still lists the same ones and no byte has changed."""
        path = self.folder / "current.json"
        try:
            current = _Current.from_json(json.loads(path.read_text()), str(path))
            folder = self._data_folder(current.digest)
            same = current.listed == listed and data_digest(folder, self._spec) == current.digest
        except (OSError, ValueError, RecordError):
            return None
        if not same:
            return None
        with contextlib.suppress(OSError):  # the folder may be another user's, or on a read-only disk
            os.utime(folder)  # a run reads it from now on
        return self._data(folder, current.digest, current.rows)

    def _data(self, folder: Path, digest: str, rows: tuple[int, int] | None) -> Data:
        """Return the files with the rows that they have; those that are stated are checked by the readers."""
        spec = self._spec
        if spec.train_rows is None or spec.test_rows is None:
            train, test = rows or self._rows(folder)
            spec = replace(spec, train_rows=spec.train_rows or train, test_rows=spec.test_rows or test)
        return Data(folder, digest, spec)

    def _rows(self, folder: Path) -> tuple[int, int]:
        from mnist_core.spec_csv import count_rows

        spec = self._spec
        return count_rows(folder / spec.train_file, spec), count_rows(folder / spec.test_file, spec)

    def _download(self, listed: list[ListedFile], progress: Progress | None) -> Data:
        for leftover in self.folder.glob("unpack-*"):  # of a process that was killed
            shutil.rmtree(leftover)
        self._check_room(listed)
        # The folder is kept between tries: the client resumes a download that was cut.
        archive = self._client.download(self.folder / "partial", progress)
        data = self._unpack(archive, {file.name: file.size for file in listed})
        with atomic_write(self.folder / "current.json") as file:
            current = _Current(digest=data.digest, listed=listed, rows=self._rows(data.folder))
            file.write(json.dumps(current.to_json()).encode())
        archive.unlink(missing_ok=True)
        for other in self.folder.glob("[0-9a-f]" * NAME_DIGITS):
            if other != data.folder and other.stat().st_mtime < time.time() - KEEP_DATA_S:
                shutil.rmtree(other, ignore_errors=True)
        return data

    def _check_room(self, listed: list[ListedFile]) -> None:
        needed = 2 * sum(file.size for file in listed)
        if free_bytes(self.folder) < needed:
            problem = f"{self.folder}: less than {needed // 1_000_000} MB free"
            raise CompetitionError(problem, "free disk space there, or set MNIST_HOME to another disk")

    def _unpack(self, archive: Path, sizes: Mapping[str, int]) -> Data:
        """Move the files of a zip to the folder that their digest names; remove a zip that is bad."""
        unpacked = Path(tempfile.mkdtemp(dir=self.folder, prefix="unpack-"))
        try:
            unzip(archive, unpacked, {name: sizes[name] for name in self._spec.files})
            digest = data_digest(unpacked, self._spec)
            folder = self._data_folder(digest)
            shutil.rmtree(folder, ignore_errors=True)  # files that were changed, or they would have been kept
            unpacked.rename(folder)
        except CompetitionError:
            archive.unlink(missing_ok=True)  # the next try must not find the same bad zip
            raise
        finally:
            shutil.rmtree(unpacked, ignore_errors=True)
        return self._data(folder, digest, None)

    def _data_folder(self, digest: str) -> Path:
        return self.folder / digest[:NAME_DIGITS]


def unzip(archive: Path, folder: Path, sizes: Mapping[str, int]) -> None:
    """Unpack some files from a zip that has all of them and no path that leaves its folder.

    Args:
        archive: the zip.
        folder: where they go.
        sizes: of each file in bytes, as the server lists it; a larger one is refused before it is unpacked.
    """
    try:
        with zipfile.ZipFile(archive) as bundle:
            for name in bundle.namelist():
                if name.startswith(("/", "\\")) or ".." in Path(name.replace("\\", "/")).parts:
                    raise _bad_zip(archive, f"the path {name!r} leaves the folder")
            for name, size in sizes.items():
                if name not in bundle.namelist():
                    raise _bad_zip(archive, f"{name} is missing")
                _check_member(archive, bundle.getinfo(name), size)
                with bundle.open(name) as source, (folder / name).open("xb") as target:
                    shutil.copyfileobj(source, target, 1 << 20)  # reading to the end checks the CRC
    except (zipfile.BadZipFile, EOFError, RuntimeError, ValueError, OSError, zlib.error) as error:
        # A damaged table at the end may send the reader to a place that no file has: EINVAL.
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        raise CompetitionError(f"{archive}: {error}", "it was removed, run again", retryable=True) from None


def _check_member(archive: Path, member: zipfile.ZipInfo, size: int) -> None:
    """Check that a file of a zip can be unpacked, and to no more bytes than the server lists.

    Raises:
        CompetitionError: it cannot; the message names it.
    """
    if member.flag_bits & 1:
        raise _bad_zip(archive, f"{member.filename} is encrypted")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _bad_zip(archive, f"{member.filename} is compressed by method {member.compress_type}")
    if member.file_size > size:  # and reading stops there
        found = f"{member.file_size:,} bytes instead of the {size:,} that the server lists"
        raise _bad_zip(archive, f"{member.filename} unpacks to {found}")


def _bad_zip(archive: Path, fault: str) -> CompetitionError:
    problem = f"{archive}: {fault}; nothing was unpacked"
    return CompetitionError(problem, "check MNIST_COMPETITION and MNIST_KAGGLE")


@contextlib.contextmanager
def disk_explained(folder: Path) -> Iterator[None]:
    """Make an error of the disk one that names what helps."""
    try:
        yield
    except OSError as error:
        raise CompetitionError(
            f"{error.filename or folder}: {error.strerror or error}",
            what_helps(error, "MNIST_HOME"),
        ) from error
