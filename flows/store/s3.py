"""A store in an S3 bucket, or in a server that speaks S3."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from flows.store.base import Progress, StoreError

CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 5, 60
ATTEMPTS = 5
"""Of a request to S3, in all; boto3 waits between them, up to 20 s."""
CONFLICT_WAITS_S = (0.1, 0.3, 1.0, 3.0)
"""Before a put is tried again that S3 refused because another was under way (409)."""


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
