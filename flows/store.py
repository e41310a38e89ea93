"""Create-only objects and numbered lists: the one primitive that all of the job's memory rests on.

An object is written once and never overwritten. What changes is a numbered list
(`champions/000001.json`, `champions/000002.json`, …): the highest number holds, two writers can not
both take one, and the history is free. Large files are content-addressed under `objects/<sha256>`.

A store is a folder or an S3 bucket. Both have the same calls: `put`, `upload`, `get`, `keys`, `delete`,
`location`. `upload` and `delete` are for content-addressed objects and for `prune` alone.
"""

import errno
import hashlib
import io
import json
import math
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from mnist_core.errors import MnistError

CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 5, 60
ATTEMPTS = 5
"""Of a request to S3, in all; boto3 waits between them, up to 20 s."""
CONFLICT_WAITS_S = (0.1, 0.3, 1.0, 3.0)
"""Before a put is tried again that S3 refused because another was under way (409)."""
CHUNK_BYTES = 1 << 20
PARTIAL = ".partial"
"""How the name of a file ends that is not whole yet."""

Progress = Callable[[int], None]
"""Called with the bytes that were written since the last call."""


class StoreError(MnistError):
    """The store can not be read or written, or holds something that is not what was put there."""


class Folder:
    """A store in a folder.

    Args:
        root: the folder; made when the first object is put.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, key: str, data: bytes) -> bool:
        """Write an object unless its key is taken.

        Returns:
            True: written, whole and on disk; False: the key was taken, and nothing changed.
        """
        target = self.root / key
        with self._explained(key), _partial(target, io.BytesIO(data)) as partial:
            try:
                os.link(partial, target)  # atomic, and refuses a key that is taken
            except FileExistsError:
                return False
            _sync_folder(target.parent)
        return True

    def upload(self, key: str, file: BinaryIO, progress: Progress | None = None) -> None:
        """Write a content-addressed object, from the file's position to its end; again renews its time."""
        target = self.root / key
        with self._explained(key), _partial(target, file, progress) as partial:
            partial.replace(target)  # atomic; where there was one, it had the same bytes
            _sync_folder(target.parent)

    def get(self, key: str) -> bytes | None:
        """An object's bytes; None where there is none."""
        with self._explained(key):
            try:
                return (self.root / key).read_bytes()
            except FileNotFoundError:
                return None

    def keys(self, prefix: str) -> dict[str, float]:
        """The keys below a prefix that ends in `/`, sorted, with the times of writing (s since 1970)."""
        found = {}
        with self._explained(prefix):
            for path in (self.root / prefix).rglob("*"):
                with suppress(FileNotFoundError):  # deleted since it was listed
                    if path.is_file() and path.suffix != PARTIAL:
                        found[path.relative_to(self.root).as_posix()] = path.stat().st_mtime
        return dict(sorted(found.items()))

    def delete(self, key: str, before: float = math.inf) -> bool:
        """Delete an object that was written before a time; False where it was not, or is not there."""
        with self._explained(key):
            try:
                if (self.root / key).stat().st_mtime >= before:
                    return False
                (self.root / key).unlink()
            except FileNotFoundError:
                return False
        return True

    def delete_partials(self, before: float) -> None:
        """Delete what killed writers left half-written before a time; no call shows it."""
        with self._explained(""):
            for path in self.root.rglob(f".*{PARTIAL}"):
                with suppress(FileNotFoundError):
                    if path.stat().st_mtime < before:
                        path.unlink()

    def location(self, key: str) -> str:
        """Where a person finds an object."""
        return str(self.root / key)

    @contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            remedy = "make room there" if full else "check that MNIST_STORE names a folder you can write"
            explained = StoreError(f"{self.root / key}: {error.strerror or error}; {remedy}")
            explained.retryable = True
            raise explained from error


class Bucket:
    """A store in an S3 bucket, or in a server that speaks S3.

    The usual AWS variables hold, `AWS_ENDPOINT_URL` too. Objects are encrypted by the server (SSE-S3).

    Args:
        name: the bucket's.
        prefix: of all keys, without slashes around it; may be empty.
    """

    def __init__(self, name: str, prefix: str) -> None:
        import boto3
        from botocore.config import Config

        self.name = name
        self.prefix = f"{prefix}/" if prefix else ""
        with self._explained(""):
            self._s3 = boto3.Session().client(
                "s3",
                config=Config(
                    connect_timeout=CONNECT_TIMEOUT_S,
                    read_timeout=READ_TIMEOUT_S,
                    retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
                ),
            )

    def put(self, key: str, data: bytes) -> bool:
        """Write an object unless its key is taken.

        Where an answer was lost and the request repeated, S3 refuses the repetition because of our own
        first try. The bytes tell: each entry carries its writer.

        Returns:
            True: written, whole; False: the key was taken, and nothing changed.
        """
        from botocore.exceptions import ClientError

        with self._explained(key):
            for wait in (*CONFLICT_WAITS_S, None):
                try:
                    self._s3.put_object(
                        Bucket=self.name,
                        Key=self.prefix + key,
                        Body=data,
                        IfNoneMatch="*",
                        ServerSideEncryption="AES256",
                    )
                    return True
                except ClientError as error:
                    facts = error.response["ResponseMetadata"]
                    if facts["HTTPStatusCode"] == 412:
                        repeated = facts.get("RetryAttempts", 0) or wait != CONFLICT_WAITS_S[0]
                        return bool(repeated) and self.get(key) == data
                    if facts["HTTPStatusCode"] != 409 or wait is None:
                        raise
                    time.sleep(wait)
        raise AssertionError

    def upload(self, key: str, file: BinaryIO, progress: Progress | None = None) -> None:
        """Write a content-addressed object, from the file's position to its end; again renews its time.

        A large one goes up in parts, some at once; it is seen when all have arrived.
        """
        with self._explained(key):
            self._s3.upload_fileobj(
                file,
                self.name,
                self.prefix + key,
                ExtraArgs={"ServerSideEncryption": "AES256"},
                Callback=progress,
            )

    def get(self, key: str) -> bytes | None:
        """An object's bytes; None where there is none."""
        from botocore.exceptions import ClientError, HTTPClientError, IncompleteReadError

        with self._explained(key):
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    answer = self._s3.get_object(Bucket=self.name, Key=self.prefix + key)
                except ClientError as error:
                    if error.response["Error"]["Code"] == "NoSuchKey":
                        return None
                    raise
                try:
                    return bytes(answer["Body"].read())
                except (HTTPClientError, IncompleteReadError):  # boto3 repeats requests, not reading
                    if attempt == ATTEMPTS:
                        raise
        raise AssertionError

    def keys(self, prefix: str) -> dict[str, float]:
        """The keys below a prefix that ends in `/`, sorted, with the times of writing (s since 1970).

        All pages are asked; S3 lists in the order of the keys' bytes.
        """
        with self._explained(prefix):
            pages = self._s3.get_paginator("list_objects_v2").paginate(
                Bucket=self.name, Prefix=self.prefix + prefix
            )
            return {
                entry["Key"].removeprefix(self.prefix): entry["LastModified"].timestamp()
                for page in pages
                for entry in page.get("Contents", ())
            }

    def delete(self, key: str, before: float = math.inf) -> bool:
        """Delete an object that was written before a time; False where it was not, or is not there."""
        from botocore.exceptions import ClientError

        place = {"Bucket": self.name, "Key": self.prefix + key}
        with self._explained(key):
            try:
                if self._s3.head_object(**place)["LastModified"].timestamp() >= before:
                    return False
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                    return False
                raise
            self._s3.delete_object(**place)
        return True

    @property
    def url(self) -> str:
        """Where S3, or what speaks it, answers."""
        return str(self._s3.meta.endpoint_url)

    def delete_partials(self, before: float) -> None:
        """Unfinished uploads are ended by the bucket's own lifecycle rule."""

    def location(self, key: str) -> str:
        """Where a person finds an object."""
        return f"s3://{self.name}/{self.prefix}{key}"

    @contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        from botocore.exceptions import (
            BotoCoreError,
            ClientError,
            ConnectionError,
            HTTPClientError,
            IncompleteReadError,
        )

        try:
            yield
        except ClientError as error:
            code, status = (
                error.response["Error"]["Code"],
                error.response["ResponseMetadata"]["HTTPStatusCode"],
            )
            again = status >= 500 or status in (409, 429)
            remedy = (
                "try again later" if again else _S3_REMEDIES.get(code, "check MNIST_STORE and its policy")
            )
            explained = StoreError(f"{self.location(key)}: S3 answered {status} {code}; {remedy}")
            explained.retryable = again
            raise explained from None
        except BotoCoreError as error:
            explained = StoreError(
                f"{self.location(key)}: {' '.join(str(error).split())}; check the AWS variables "
                "(credentials, region, AWS_ENDPOINT_URL) and the network"
            )
            explained.retryable = isinstance(error, (HTTPClientError, ConnectionError, IncompleteReadError))
            raise explained from None


_S3_REMEDIES = {
    "NoSuchBucket": "make that bucket, or mend MNIST_STORE",
    "AccessDenied": "the job's role may not do this; it needs s3:GetObject, s3:PutObject and s3:ListBucket, "
    "and for `prune` s3:DeleteObject",
    "InvalidAccessKeyId": "check AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "check AWS_SECRET_ACCESS_KEY",
    "RequestTimeTooSkewed": "set this machine's clock",
    "ExpiredToken": "its credentials have run out; renew them",
    "PermanentRedirect": "the bucket is in another region; set AWS_DEFAULT_REGION to it",
}

Store = Folder | Bucket


def open_store(place: str) -> Store:
    """The store that MNIST_STORE names: a folder, or `s3://bucket/prefix`."""
    if place.startswith("s3://"):
        url = urlsplit(place)
        return Bucket(url.netloc, url.path.strip("/"))
    return Folder(Path(place).absolute())


def put_object(store: Store, source: Path | bytes, progress: Progress | None = None) -> str:
    """Put a content-addressed object; putting it again is harmless and renews its time.

    Returns:
        Its sha256 in hex, by which `get_object` finds it.
    """
    with source.open("rb") if isinstance(source, Path) else io.BytesIO(source) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        store.upload(f"objects/{digest}", file, progress)
    return digest


def get_object(store: Store, digest: str) -> bytes:
    """The bytes of a content-addressed object, checked against their digest.

    Raises:
        StoreError: the object is missing or its bytes have changed.
    """
    key = f"objects/{digest}"
    data = store.get(key)
    if data is None:
        raise StoreError(f"{store.location(key)} is missing; train that version again with --fresh")
    if hashlib.sha256(data).hexdigest() != digest:
        raise StoreError(
            f"{store.location(key)} has changed since it was written (its sha256 differs); "
            "remove it and train its version again with --fresh"
        )
    return data


def put_json(store: Store, key: str, value: dict[str, Any]) -> bool:
    """`Store.put` for a small JSON object; the keys `format` and `writer` are added."""
    entry = {**value, "format": 1, "writer": uuid.uuid4().hex}
    return store.put(key, (json.dumps(entry, indent=1, sort_keys=True) + "\n").encode())


def get_json(store: Store, key: str) -> dict[str, Any] | None:
    """A small JSON object; None where there is none.

    Raises:
        StoreError: what lies there is no JSON object of this format.
    """
    data = store.get(key)
    if data is None:
        return None
    try:
        value = json.loads(data)
        known = value["format"] == 1
    except (ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise StoreError(f"{store.location(key)} is no JSON object of format 1; it was changed from outside")
    return dict(value)


def latest(store: Store, prefix: str) -> tuple[int, dict[str, Any] | None]:
    """The number and the entry that hold in a numbered list; (0, None) where it is empty."""
    numbers = [int(key.removeprefix(prefix).removesuffix(".json")) for key in store.keys(prefix)]
    if not numbers:
        return 0, None
    return max(numbers), get_json(store, f"{prefix}{max(numbers):06d}.json")


def append(store: Store, prefix: str, after: int, entry: dict[str, Any]) -> bool:
    """Write the entry that follows number `after` of a list; False where another writer came first."""
    return put_json(store, f"{prefix}{after + 1:06d}.json", entry)


def free_bytes(folder: Path) -> int:
    """Bytes free on the disk that holds `folder`, which need not exist yet."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


@contextmanager
def _partial(target: Path, source: BinaryIO, progress: Progress | None = None) -> Iterator[Path]:
    """A file beside `target` with all that `source` holds, on disk; it is gone afterwards."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.parent / f".{uuid.uuid4().hex}{PARTIAL}"
    try:
        with partial.open("xb") as file:
            while chunk := source.read(CHUNK_BYTES):
                file.write(chunk)
                if progress is not None:
                    progress(len(chunk))
            file.flush()
            os.fsync(file.fileno())
        yield partial
    finally:
        partial.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
