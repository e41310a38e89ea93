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
    """An empty store in a bucket, over HTTP."""
    return Bucket(s3.bucket, "some/prefix")


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Any) -> Store:
    """An empty store of either kind, opened by its address."""
    if request.param == "folder":
        return open_store(str(tmp_path / "store"))
    return open_store(f"s3://{request.getfixturevalue('s3').bucket}/some/prefix")


@pytest.fixture
def overwrite(request: pytest.FixtureRequest) -> Callable[[Store, str, bytes], None]:
    """Change an object from outside, as no call of a store does."""

    def change(store: Store, key: str, data: bytes) -> None:
        if isinstance(store, Folder):
            (store.root / key).write_bytes(data)
        else:
            bucket, _, prefix = store.location("").removeprefix("s3://").partition("/")
            request.getfixturevalue("s3").client.put_object(Bucket=bucket, Key=prefix + key, Body=data)

    return change
