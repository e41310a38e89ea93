"""Empty stores of each kind."""

from collections.abc import Callable
from typing import Any

import pytest

from flows.store.base import Store
from flows.store.folder import Folder
from flows.store.open import open_store
from flows.store.s3 import Bucket


@pytest.fixture
def folder(tmp_path: Any) -> Folder:
    """An empty store in a folder that does not exist yet."""
    return Folder(tmp_path / "store")


@pytest.fixture
def bucket(s3: Any) -> Bucket:
    """An empty store in a bucket of each of the S3 servers, over HTTP."""
    return Bucket(s3.bucket, "some/prefix")


@pytest.fixture
def used(bucket: Bucket, s3: Any) -> Bucket:
    """The same, which has shown that it honours create-only: the next request is the first of a test."""
    bucket.prepare()
    s3.requests.clear()
    return bucket


@pytest.fixture(params=["moto", "seaweedfs"])
def s3(request: pytest.FixtureRequest, start_s3: Callable[[str], Any]) -> Any:
    """Each of the S3 servers, with an empty bucket."""
    return start_s3(request.param)


@pytest.fixture(params=["folder", "moto", "seaweedfs"])
def store(request: pytest.FixtureRequest, start_s3: Callable[[str], Any], tmp_path: Any) -> Store:
    """An empty store of each kind, opened by its address."""
    if request.param == "folder":
        return open_store(str(tmp_path / "store"))
    return open_store(f"s3://{start_s3(request.param).bucket}/some/prefix")


@pytest.fixture
def overwrite() -> Callable[[Store, str, bytes], None]:
    """Change an object from outside, as no call of a store does."""

    def change(store: Store, key: str, data: bytes) -> None:
        if isinstance(store, Folder):
            (store.root / key).write_bytes(data)
        else:
            import boto3

            bucket, _, prefix = store.location("").removeprefix("s3://").partition("/")
            boto3.client("s3").put_object(Bucket=bucket, Key=prefix + key, Body=data)

    return change
