"""A store in an S3 bucket, or in a server that speaks S3."""

import math
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import BinaryIO
from urllib.parse import urlsplit

from flows.store.base import StoreError, Written

CONNECT_TIMEOUT_S = 5
ATTEMPTS = 5
"""Of a request, in all; boto3 waits between them, up to 20 s."""
CONFLICT_WAITS_S = (0.1, 0.3, 1.0, 3.0)
"""Before a put is repeated that S3 refused because another one was under way (409)."""
REMEDIES = {
    "NoSuchBucket": "make that bucket, or correct MNIST_STORE",
    "AccessDenied": "grant the job's role s3:GetObject, s3:PutObject and s3:ListBucket, and for `prune` "
    "s3:DeleteObject",
    "InvalidAccessKeyId": "check AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "check AWS_SECRET_ACCESS_KEY",
    "RequestTimeTooSkewed": "set this machine's clock",
    "ExpiredToken": "renew the AWS credentials, which have expired",
    "PermanentRedirect": "set AWS_DEFAULT_REGION to the region of the bucket",
}
"""By S3's error code."""


class Bucket:
    """A store in an S3 bucket.

    The usual AWS variables apply, `AWS_ENDPOINT_URL` too. Objects are encrypted by the server (SSE-S3).

    Args:
        name: the bucket's name.
        prefix: of all keys, without slashes around it; may be empty.

    Attributes:
        read_timeout_s: how long S3 may be silent.
    """

    address = "`s3://bucket/prefix`"
    read_timeout_s: float = 60

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
                    read_timeout=self.read_timeout_s,
                    retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
                ),
            )

    @classmethod
    def check(cls, address: str) -> None:
        """Raise ValueError unless an address has a valid bucket and prefix."""
        if not re.fullmatch(r"s3://[a-z0-9.-]{3,63}(/[\w./=-]*)?", address):
            raise ValueError(f"must be {cls.address}")

    @classmethod
    def open(cls, address: str) -> "Bucket":
        """Return the store of an address as `s3://bucket/prefix`."""
        url = urlsplit(address)
        return cls(url.netloc, url.path.strip("/"))

    def put(self, key: str, data: bytes) -> bool:
        """Write an object unless its key is taken; see `Store.put`.

        If an answer was lost and the request repeated, S3 refuses the repetition because of our own first
        try. The bytes show whose they are: each entry carries its writer.
        """
        from botocore.exceptions import ClientError

        with self._explained(key):
            for number, wait_s in enumerate((*CONFLICT_WAITS_S, None)):
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
                        repeated = number > 0 or facts.get("RetryAttempts", 0) > 0
                        return repeated and self.get(key) == data
                    if facts["HTTPStatusCode"] != 409 or wait_s is None:
                        raise
                    time.sleep(wait_s)
        raise AssertionError

    def upload(self, key: str, file: BinaryIO, written: Written | None = None) -> None:
        """Write a content-addressed object; a large one goes up in parts, some at once."""
        with self._explained(key):
            self._s3.upload_fileobj(
                file,
                self.name,
                self.prefix + key,
                ExtraArgs={"ServerSideEncryption": "AES256"},
                Callback=written,
            )

    def get(self, key: str) -> bytes | None:
        """Return an object's bytes, or None if there is no such object."""
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
                except (HTTPClientError, IncompleteReadError):  # boto3 repeats requests, but not reading
                    if attempt == ATTEMPTS:
                        raise
        raise AssertionError

    def keys(self, prefix: str) -> dict[str, float]:
        """Return the keys below a prefix, from all pages; S3 lists in the order of the keys' bytes."""
        with self._explained(prefix):
            pages = self._s3.get_paginator("list_objects_v2").paginate(
                Bucket=self.name, Prefix=self.prefix + prefix
            )
            return {
                entry["Key"].removeprefix(self.prefix): entry["LastModified"].timestamp()
                for page in pages
                for entry in page.get("Contents", ())
            }

    def age(self, key: str) -> float | None:
        """Return for how many seconds an object has existed, by its time and that of the same answer."""
        from botocore.exceptions import ClientError

        with self._explained(key):
            try:
                answer = self._s3.head_object(Bucket=self.name, Key=self.prefix + key)
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                    return None
                raise
            try:
                now = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
                return max(0.0, float((now - answer["LastModified"]).total_seconds()))
            except (KeyError, TypeError, ValueError):  # a server, or a proxy before it, that sends no time
                return None

    def delete(self, key: str, before: float = math.inf) -> bool:
        """Delete an object that was written before a time; return whether it was deleted."""
        from botocore.exceptions import ClientError

        named = {"Bucket": self.name, "Key": self.prefix + key}
        with self._explained(key):
            try:
                if self._s3.head_object(**named)["LastModified"].timestamp() >= before:
                    return False
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                    return False
                raise
            self._s3.delete_object(**named)
        return True

    def delete_partials(self, before: float) -> None:
        """Do nothing: the bucket's own lifecycle rule ends unfinished uploads."""

    def remove_empty(self, prefix: str) -> None:
        """Do nothing: a prefix exists only as long as an object has it."""

    def location(self, key: str) -> str:
        """Return an object's address as `s3://bucket/prefix/key`."""
        return f"s3://{self.name}/{self.prefix}{key}"

    def console_url(self, key: str) -> str | None:
        """Return the page of an object in the AWS console."""
        return f"https://s3.console.aws.amazon.com/s3/object/{self.name}?prefix={self.prefix}{key}"

    @property
    def clock_url(self) -> str | None:
        """S3 itself, which refuses requests that were signed 15 minutes off its own time."""
        return str(self._s3.meta.endpoint_url)

    @contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        from botocore import exceptions

        try:
            yield
        except exceptions.ClientError as error:
            code = error.response["Error"]["Code"]
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            retryable = status >= 500 or status in (409, 429)
            remedy = REMEDIES.get(code, "check MNIST_STORE, and the policy of its bucket")
            raise StoreError(
                f"{self.location(key)}: S3 answered {status} {code}",
                "try again later" if retryable else remedy,
                retryable=retryable,
            ) from None
        except exceptions.BotoCoreError as error:
            lost = (exceptions.HTTPClientError, exceptions.ConnectionError, exceptions.IncompleteReadError)
            raise StoreError(
                f"{self.location(key)}: {' '.join(str(error).split())}",
                "check the AWS variables (credentials, region, AWS_ENDPOINT_URL) and the network",
                retryable=isinstance(error, lost),
            ) from None
