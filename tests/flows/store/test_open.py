"""Addresses of stores: which kind they name, and which are refused."""

import pytest

from flows.store.folder import Folder
from flows.store.open import check_address, open_store
from flows.store.s3 import Bucket


def test_a_path_is_a_folder(tmp_path, monkeypatch):
    """A path without a scheme opens a folder, and a relative one is made absolute at once."""
    monkeypatch.chdir(tmp_path)

    for address in (str(tmp_path / "a"), "a"):
        check_address(address)
        store = open_store(address)
        assert isinstance(store, Folder)
        assert store.location("x") == str(tmp_path / "a" / "x")


def test_s3_is_a_bucket(s3):
    """`s3://` opens a bucket; slashes around the prefix do not matter, and the prefix may be missing."""
    for address, location in {
        f"s3://{s3.bucket}/some/prefix": f"s3://{s3.bucket}/some/prefix/x",
        f"s3://{s3.bucket}/some/prefix/": f"s3://{s3.bucket}/some/prefix/x",
        f"s3://{s3.bucket}": f"s3://{s3.bucket}/x",
    }.items():
        check_address(address)
        store = open_store(address)
        assert isinstance(store, Bucket)
        assert store.location("x") == location


@pytest.mark.parametrize(
    ("address", "fault"),
    [
        ("s3:/bucket", "must be `s3://bucket/prefix`"),
        ("s3://", "must be `s3://bucket/prefix`"),
        ("s3://Bucket/prefix", "must be `s3://bucket/prefix`"),
        ("s3://bucket/a prefix", "must be `s3://bucket/prefix`"),
        ("gs://bucket/prefix", "must be a folder or `s3://bucket/prefix`"),
        ("a file", "is a file, but must be a folder"),
    ],
)
def test_an_address_that_no_store_can_have_is_refused(tmp_path, monkeypatch, address, fault):
    """The error says how the address of a store looks."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a file").write_text("")

    with pytest.raises(ValueError, match=fault):
        check_address(address)


def test_a_folder_may_have_a_colon_in_its_name(tmp_path):
    """Only a known scheme, or `//` behind a colon, makes an address something else than a path."""
    check_address(str(tmp_path / "a:b"))
    check_address("a:b")

    assert isinstance(open_store("a:b"), Folder)
