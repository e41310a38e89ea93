"""The files that a job reads: in a folder, below an `s3://` prefix, or those that a list names.

Opened for reading at any place, never fetched whole. A file that is not the one that was listed is refused: a
file is known by its size and time of change, an object by its ETag.

Workers import this file: it needs neither Prefect nor pydantic.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from flows.environment import SettingsError
from flows.store.s3 import Bucket
from mnist_core.errors import DataError
from mnist_core.shard_files import FORMATS, format_of

SCHEME = "s3://"
LISTS = (".txt", ".json")
"""How the name of a file ends that lists others."""
AHEAD_BYTES = 8 << 20
"""Bytes that one request reads: what follows will be asked for next."""


class ChangedInputError(DataError):
    """A file that has changed, or is gone, since the job was planned."""


@dataclass(frozen=True)
class Input:
    """A file as it was when it was listed.

    Attributes:
        address: its path or `s3://` address.
        size: in bytes.
        version: what changes with its content.
    """

    address: str
    size: int
    version: str

    @property
    def format(self) -> str:
        """Its format, by its name."""
        found = format_of(self.address)
        if found is None:
            raise DataError(f"{self.address}: is not {_FORMATS}", "give files of these formats")
        return found


_FORMATS = ", ".join(f".{name}" for name in FORMATS)


def list_inputs(address: str) -> list[Input]:
    """Return the files of an address, in the order of their names.

    Args:
        address: a folder or prefix, whose files of a known format count; one file; or a list of files: a text
            file with an address a line, or a JSON list. Addresses in it may be relative to it.

    Raises:
        SettingsError: there is none.
    """
    found = list(_listed(address) if address.endswith(LISTS) else _found(address))
    if not found:
        raise SettingsError(
            f"--input {address}: has no file whose name ends in {_FORMATS}", "name another one"
        )
    return found


def _found(address: str) -> Iterator[Input]:
    if not address.startswith(SCHEME):
        yield from _local(Path(address))
        return
    bucket, key = _bucket(address)
    if format_of(key) is not None:
        found = bucket.stat(key)
        if found is None:
            raise SettingsError(f"--input {address}: does not exist", "correct the address")
        yield Input(address, *found)
        return
    prefix = key.rstrip("/") + "/" if key.rstrip("/") else ""
    for name, size, version in bucket.list_objects(prefix):
        if format_of(name) is not None and not _is_hidden(name.removeprefix(prefix)):
            yield Input(bucket.location(name), size, version)


def _local(path: Path) -> Iterator[Input]:
    if path.is_file():
        if format_of(path.name) is not None:
            yield _input_of(path.absolute())
        return
    if not path.is_dir():
        raise SettingsError(f"--input {path}: does not exist", "correct the path")
    for found in sorted(path.absolute().rglob("*")):
        if (
            format_of(found.name)
            and found.is_file()
            and not _is_hidden(found.relative_to(path.absolute()).as_posix())
        ):
            yield _input_of(found)


def _is_hidden(name: str) -> bool:
    """Return whether a path has a part that other readers of such folders pass over, too."""
    return any(part.startswith((".", "_")) for part in name.split("/"))


def _input_of(path: Path) -> Input:
    status = path.stat()
    return Input(str(path), status.st_size, str(status.st_mtime_ns))


def _listed(address: str) -> Iterator[Input]:
    base = address.rpartition("/")[0]
    for name in _names(address):
        own = name if name.startswith((SCHEME, "/")) or not base else f"{base}/{name}"
        found = list(_found(own))
        if not found:
            raise SettingsError(f"--input {address}: {name} is not {_FORMATS}", "correct the list")
        yield from found


def _names(address: str) -> list[str]:
    try:
        if address.startswith(SCHEME):
            bucket, key = _bucket(address)
            content = bucket.get(key)
            if content is None:
                raise SettingsError(f"--input {address}: does not exist", "correct the address")
        else:
            content = Path(address).read_bytes()
        if not address.endswith(".json"):
            lines = (line.strip() for line in content.decode().splitlines())
            return [line for line in lines if line and not line.startswith("#")]
        names = json.loads(content)
    except OSError as error:
        raise SettingsError(f"--input {address}: {error.strerror}", "correct the path") from None
    except ValueError as error:
        raise SettingsError(f"--input {address}: {error}", "correct the list") from None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise SettingsError(f"--input {address}: is not a JSON list of addresses", "correct the list")
    return names


def open_input(found: Input) -> BinaryIO:
    """Open a file that was listed.

    Raises:
        ChangedInputError: it is not the file that was listed. Of an object each read may raise it.
    """
    if found.address.startswith(SCHEME):
        return cast(BinaryIO, io.BufferedReader(_Object(found), AHEAD_BYTES))
    try:
        file = Path(found.address).open("rb")  # noqa: SIM115  (the caller closes it)
    except FileNotFoundError:
        raise _changed(found, "is gone") from None
    except OSError as error:
        raise DataError(f"{found.address}: cannot be read: {error.strerror}") from error
    if _input_of(Path(found.address)) != found:
        file.close()
        raise _changed(found, "has changed")
    return file


def _changed(found: Input, what: str) -> ChangedInputError:
    return ChangedInputError(
        f"{found.address}: {what} since the job was planned",
        "put the file back as it was, or start another job with another --output",
    )


def _bucket(address: str) -> tuple[Bucket, str]:
    name, _, key = address.removeprefix(SCHEME).partition("/")
    try:
        Bucket.check(f"{SCHEME}{name}")
    except ValueError as error:
        raise SettingsError(f"--input {address}: {error}", "correct the address") from None
    return Bucket(name, ""), key


class _Object(io.RawIOBase):
    """An object in S3, read by ranges of bytes."""

    def __init__(self, found: Input) -> None:
        self._input, self._at = found, 0
        self._bucket, self._key = _bucket(found.address)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._input.size}[whence]
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        stop = min(self._at + len(buffer), self._input.size)
        if stop <= self._at:
            return 0
        content = self._bucket.read(self._key, self._at, stop, self._input.version)
        if content is None:
            raise _changed(self._input, "has changed or is gone")
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)
