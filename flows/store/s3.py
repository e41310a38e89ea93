"""A store in an S3 bucket, or in a server that speaks S3."""

import math
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from flows.environment import TRUST, certificate_fault
from flows.store.base import PROBE, PROBE_TEXT, Page, StoreError, Written
from flows.store.proxy import follow_proxy

CONNECT_TIMEOUT_S = 5
ATTEMPTS = 5
"""Of a request, in all; boto3 waits between them, up to 20 s."""
CONFLICT_WAITS_S = (0.1, 0.3, 1.0, 3.0)
"""Before a put is repeated that S3 refused because another one was under way (409)."""
ONE_PART_BYTES = 8 << 20
"""Largest object that is uploaded in one request."""
MESSAGE = 300
"""Longest text of a server that an error repeats, in characters."""
RETRYABLE = {409, 429, 500, 502, 503, 504}
"""Answers after which a later try may succeed. 501 is not among them: the server will not learn it."""
_ACCESS = (
    "grant the job's role s3:GetObject, s3:PutObject and s3:ListBucket, and for `prune` s3:DeleteObject; "
    "if the bucket's policy requires an encryption header, make that encryption the bucket's default instead"
)
_ENCRYPTION = "make the encryption that the server requires the bucket's default: no request names one"
_REGION = "set AWS_DEFAULT_REGION to the region of the bucket"
_HOST_STYLE = "set `s3 =` and below it `  addressing_style = virtual` in the file that AWS_CONFIG_FILE names"
_CREATE_ONLY = (
    "use a server that honours `If-None-Match: *`, such as S3 or SeaweedFS: without it two runs could both "
    "submit, and a version could be overwritten"
)
REMEDIES = {
    "NoSuchBucket": "make that bucket, or correct MNIST_STORE",
    "AccessDenied": _ACCESS,
    "InvalidAccessKeyId": "check AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "check AWS_SECRET_ACCESS_KEY",
    "RequestTimeTooSkewed": "set this machine's clock",
    "ExpiredToken": "renew the AWS credentials, which have expired",
    "PermanentRedirect": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "IllegalLocationConstraintException": _REGION,
    "InvalidRegionName": _REGION,
    "NotImplemented": "use a server that speaks more of S3, such as S3 itself or SeaweedFS",
    "InvalidEncryptionAlgorithmError": _ENCRYPTION,
    "InvalidEncryptionMethodError": _ENCRYPTION,
    "ServerSideEncryptionConfigurationNotFoundError": _ENCRYPTION,
    "SecondLevelDomainForbidden": _HOST_STYLE,  # of Alibaba's
    "PathStyleDomainForbidden": _HOST_STYLE,  # of Tencent's
}
"""By S3's error code."""


class Bucket:
    """A store in an S3 bucket.

    The usual AWS variables apply, `AWS_ENDPOINT_URL` too. No header asks for what S3 does by default, such as
    encryption: other servers that speak S3 refuse some of them.

    Args:
        name: the bucket's name.
        prefix: of all keys, without slashes around it; may be empty.

    Attributes:
        read_timeout_s: how long S3 may be silent.
        page_keys: how many keys S3 lists at once.
    """

    address = "`s3://bucket/prefix`"
    nights_prune = False
    read_timeout_s: float = 60
    page_keys: int = 1000

    def __init__(self, name: str, prefix: str) -> None:
        import boto3
        from botocore.config import Config

        self.name = name
        self.prefix = f"{prefix}/" if prefix else ""
        self.seen: dict[str, int] = {}
        self.records: dict[str, bytes] = {}
        self.objects: dict[str, bytes] = {}
        self._ready = False
        with self._explained(""):
            self._s3 = boto3.Session().client(
                "s3",
                config=Config(
                    connect_timeout=CONNECT_TIMEOUT_S,
                    read_timeout=self.read_timeout_s,
                    retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
                    # Our digests check what was read; over https boto3's own checksums would follow the data
                    # as a trailer, which other servers refuse.
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                ),
            )
            follow_proxy(self._s3)

        self._s3.meta.events.register_first("needs-retry.s3", _stop_if_untrusted)

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

    def prepare(self) -> None:
        """Refuse a server that ignores `If-None-Match`; see `Store.prepare`.

        The server must refuse to overwrite an object that is there permanently: one request, if an earlier
        process has made it.
        """
        if self._ready:
            return
        if self._create(PROBE, PROBE_TEXT) and self._create(PROBE, PROBE_TEXT):
            raise StoreError(
                f"{self.location(PROBE)}: the server overwrote an object though it was asked not to "
                "(`If-None-Match: *`)",
                _CREATE_ONLY,
            )
        self._ready = True

    def put(self, key: str, data: bytes) -> bool:
        """Write an object unless its key is taken; see `Store.put`.

        If an answer was lost and the request repeated, by boto3 or by a gateway that says nothing of it, the
        server refuses the repetition because of our own first try. So the bytes decide whose they are.
        """
        self.prepare()
        return self._create(key, data) or self.get(key) == data

    def _create(self, key: str, data: bytes) -> bool:
        """Write an object; return False if the server says that the key is taken."""
        from botocore.exceptions import ClientError

        with self._explained(key, NotImplemented=_CREATE_ONLY):
            for wait_s in (*CONFLICT_WAITS_S, None):
                try:
                    self._s3.put_object(Bucket=self.name, Key=self.prefix + key, Body=data, IfNoneMatch="*")
                    return True
                except ClientError as error:
                    status = error.response["ResponseMetadata"]["HTTPStatusCode"]
                    if status == 412:
                        return False
                    if status != 409 or wait_s is None:
                        raise
                    time.sleep(wait_s)
        raise AssertionError

    def upload(self, key: str, file: BinaryIO, written: Written | None = None) -> bool:
        """Write a content-addressed object; a large one goes up in parts, some at once."""
        self.prepare()
        start = file.tell()
        data = file.read(ONE_PART_BYTES + 1)
        if len(data) <= ONE_PART_BYTES and self._create(key, data):
            if written is not None:
                written(len(data))
            return True
        file.seek(start)
        with self._explained(key):
            self._s3.upload_fileobj(file, self.name, self.prefix + key, Callback=written)
        return False

    def get(self, key: str) -> bytes | None:
        """Return an object's bytes, or None if it does not exist."""
        from botocore.exceptions import ClientError, HTTPClientError, IncompleteReadError

        with self._explained(key):
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    answer = self._s3.get_object(Bucket=self.name, Key=self.prefix + key)
                except ClientError as error:
                    code = error.response["Error"]["Code"]
                    if code == "NoSuchKey":
                        return None
                    if code == "404" and attempt < ATTEMPTS:  # the answer was cut off before its code
                        continue
                    raise
                try:
                    return bytes(answer["Body"].read())
                except (HTTPClientError, IncompleteReadError):  # boto3 repeats requests, but not reading
                    if attempt == ATTEMPTS:
                        raise
        raise AssertionError

    def read(self, key: str, start: int, stop: int, version: str) -> bytes | None:
        """Return bytes `start` to `stop - 1` of an object, or None if it is gone or has another ETag."""
        from botocore.exceptions import ClientError, HTTPClientError, IncompleteReadError

        with self._explained(key):
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    answer = self._s3.get_object(
                        Bucket=self.name,
                        Key=self.prefix + key,
                        Range=f"bytes={start}-{stop - 1}",
                        IfMatch=version,
                    )
                except ClientError as error:
                    if error.response["ResponseMetadata"]["HTTPStatusCode"] in (404, 412, 416):
                        return None
                    raise
                try:
                    content = bytes(answer["Body"].read())
                except (HTTPClientError, IncompleteReadError):  # boto3 repeats requests, but not reading
                    if attempt == ATTEMPTS:
                        raise
                    continue
                return content if len(content) == stop - start and answer["ETag"] == version else None
        raise AssertionError

    def list_objects(self, prefix: str) -> Iterator[tuple[str, int, str]]:
        """Yield key, size and ETag of the objects below a prefix, in the order of the keys' bytes."""
        with self._explained(prefix):
            pages = self._s3.get_paginator("list_objects_v2").paginate(
                Bucket=self.name, Prefix=self.prefix + prefix, PaginationConfig={"PageSize": self.page_keys}
            )
            for page in pages:
                for entry in page.get("Contents", ()):
                    yield entry["Key"].removeprefix(self.prefix), entry["Size"], entry["ETag"]

    def stat(self, key: str) -> tuple[int, str] | None:
        """Return size and ETag of an object, or None if it does not exist."""
        found = self._head(key)
        return None if found is None else (found["ContentLength"], found["ETag"])

    def exists(self, key: str) -> bool:
        """Return whether there is such an object."""
        return self._head(key) is not None

    def _head(self, key: str) -> dict[str, Any] | None:
        """Return what S3 says of an object, or None if it does not exist."""
        from botocore.exceptions import ClientError

        with self._explained(key):
            try:
                found: dict[str, Any] = self._s3.head_object(Bucket=self.name, Key=self.prefix + key)
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                    return None
                raise
        return found

    def names(self, prefix: str, after: str = "") -> Page:
        """Return a page of the names below a prefix that sort after another one, in one request."""
        start = {"StartAfter": self.prefix + prefix + after} if after else {}
        with self._explained(prefix):
            answer = self._s3.list_objects_v2(
                Bucket=self.name, Prefix=self.prefix + prefix, MaxKeys=self.page_keys, **start
            )
        names = [entry["Key"].removeprefix(self.prefix + prefix) for entry in answer.get("Contents", ())]
        return Page(names, answer["IsTruncated"])

    def keys(self, prefix: str) -> dict[str, float]:
        """Return the keys below a prefix, from all pages; S3 lists in the order of the keys' bytes."""
        with self._explained(prefix):
            pages = self._s3.get_paginator("list_objects_v2").paginate(
                Bucket=self.name, Prefix=self.prefix + prefix, PaginationConfig={"PageSize": self.page_keys}
            )
            return {
                entry["Key"].removeprefix(self.prefix): entry["LastModified"].timestamp()
                for page in pages
                for entry in page.get("Contents", ())
            }

    def age(self, key: str) -> float | None:
        """Return for how many seconds an object has existed, by its time and that of the same answer."""
        answer = self._head(key)
        if answer is None:
            return None
        now = _sent_at(answer)
        return None if now is None else max(0.0, now - answer["LastModified"].timestamp())

    def now(self) -> float:
        """Return the time at which S3 answers."""
        with self._explained(""):
            now = _sent_at(self._s3.list_objects_v2(Bucket=self.name, Prefix=self.prefix, MaxKeys=1))
        if now is None:
            raise StoreError(
                f"{self.location('')}: S3 sent no date, so nothing is known to be old",
                "let the server, and each proxy before it, send the header `Date`",
            )
        return now

    def delete(self, key: str, before: float = math.inf) -> bool:
        """Delete an object that was written before a time; return whether it was deleted."""
        found = self._head(key)
        if found is None or found["LastModified"].timestamp() >= before:
            return False
        with self._explained(key):
            self._s3.delete_object(Bucket=self.name, Key=self.prefix + key)
        return True

    def delete_partials(self, before: float) -> None:
        """End the uploads in parts that killed writers began before a time, if that is permitted."""
        with self._optional(), self._explained(""):
            pages = self._s3.get_paginator("list_multipart_uploads").paginate(
                Bucket=self.name, Prefix=f"{self.prefix}objects/"
            )
            for upload in [upload for page in pages for upload in page.get("Uploads", ())]:
                if upload["Initiated"].timestamp() < before:
                    self._s3.abort_multipart_upload(
                        Bucket=self.name, Key=upload["Key"], UploadId=upload["UploadId"]
                    )

    def expiry(self) -> str | None:
        """Return the rule of the bucket that deletes current objects below the prefix by their age."""
        rules: list[dict[str, Any]] = []
        with self._optional(), self._explained(""):
            rules = self._s3.get_bucket_lifecycle_configuration(Bucket=self.name).get("Rules", [])
        for rule in rules:
            chosen = rule.get("Filter", rule)
            prefix = chosen.get("And", chosen).get("Prefix", "")
            expires = {"Days", "Date"} & rule.get("Expiration", {}).keys()
            overlaps = prefix.startswith(self.prefix) or self.prefix.startswith(prefix)
            if rule.get("Status") == "Enabled" and expires and overlaps:
                return f"rule {rule.get('ID', 'without a name')} of bucket {self.name}"
        return None

    @staticmethod
    @contextmanager
    def _optional() -> Iterator[None]:
        """Pass over a call that the server does not have, or that the role does not permit."""
        try:
            yield
        except StoreError as error:
            if error.retryable:
                raise

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
    def _explained(self, key: str, **remedies: str) -> Iterator[None]:
        """Raise S3's errors as `StoreError`; `remedies` by code come before `REMEDIES`."""
        from botocore import exceptions

        try:
            yield
        except exceptions.ClientError as error:
            said = error.response["Error"]
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            message = " ".join(said.get("Message", "").split())[:MESSAGE]
            retryable = status in RETRYABLE
            remedy = (REMEDIES | remedies).get(
                said["Code"], "check MNIST_STORE, and the policy of its bucket"
            )
            raise StoreError(
                f"{self.location(key)}: S3 answered {status} {said['Code']}"
                + (f" ({message})" if message else ""),
                "try again later" if retryable else remedy,
                retryable=retryable,
            ) from None
        except exceptions.SSLError as error:
            fault = certificate_fault(error)
            if fault is None:
                raise StoreError(
                    f"{self.location(key)}: the TLS connection broke", "try again later", retryable=True
                ) from None
            raise StoreError(
                f"{self.location(key)}: the certificate of S3 is not trusted ({fault})", TRUST
            ) from None
        except exceptions.BotoCoreError as error:
            lost = (exceptions.HTTPClientError, exceptions.ConnectionError, exceptions.IncompleteReadError)
            raise StoreError(
                f"{self.location(key)}: {' '.join(str(error).split())}",
                "check the AWS variables (credentials, region, AWS_ENDPOINT_URL), the network, and "
                "HTTPS_PROXY or ALL_PROXY if one is set",
                retryable=isinstance(error, lost),
            ) from None


def _stop_if_untrusted(caught_exception: Exception | None = None, **_: Any) -> None:
    """Let boto3 not repeat a request to a server whose certificate is not trusted."""
    if caught_exception is not None and certificate_fault(caught_exception) is not None:
        raise caught_exception


def _sent_at(answer: dict[str, Any]) -> float | None:
    """Return when a server sent an answer, by its own clock; None if it does not say so."""
    try:
        return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"]).timestamp()
    except (KeyError, TypeError, ValueError):
        return None
