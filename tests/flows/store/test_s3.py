"""A store in S3, over HTTP: faults of the server, pages, encryption and error messages."""

import pytest

from flows.records import VersionRef
from flows.store.base import StoreError
from flows.store.lists import append, get_object, get_record, put_object
from flows.store.open import open_store
from flows.store.s3 import ATTEMPTS


def test_an_object_is_encrypted_and_lies_below_the_prefix(bucket, s3):
    """Server-side encryption is requested, and the location is the object's address."""
    bucket.put("a/b.json", b"x")

    found = s3.client.head_object(Bucket=s3.bucket, Key="some/prefix/a/b.json")
    assert found["ServerSideEncryption"] == "AES256"
    assert bucket.location("a/b.json") == f"s3://{s3.bucket}/some/prefix/a/b.json"


def test_an_object_has_a_page_in_the_console_and_s3_a_clock(bucket, s3):
    """The console's address names bucket and key; the clock is that of the endpoint."""
    console = "https://s3.console.aws.amazon.com/s3/object"

    assert bucket.console_url("a/b.json") == f"{console}/{s3.bucket}?prefix=some/prefix/a/b.json"
    assert bucket.clock_url == s3.url


def test_s3_lists_to_the_last_page(bucket, s3):
    """More keys than a page of S3 holds are all listed, and another prefix's are not."""
    for i in range(1005):
        s3.client.put_object(Bucket=s3.bucket, Key=f"some/prefix/list/{i:06d}.json", Body=b"")
    s3.client.put_object(Bucket=s3.bucket, Key="some/prefix2/list/x.json", Body=b"")

    assert list(bucket.keys("list/")) == [f"list/{i:06d}.json" for i in range(1005)]


@pytest.mark.parametrize("fault", ["500", "503", "reset", "lost", "409"])
@pytest.mark.parametrize("times", [1, 2])
def test_a_put_survives_what_s3_does(bucket, s3, fault, times):
    """A put that failed, was throttled, refused, cut, or whose answer was lost is written once, as ours."""
    s3.faults += [fault] * times

    assert append(bucket, "list/", 0, VersionRef(version="mine"))
    assert not append(bucket, "list/", 0, VersionRef(version="another's"))
    assert get_record(bucket, "list/000001.json", VersionRef).version == "mine"
    assert s3.faults == []


def test_a_lost_answer_does_not_make_anothers_entry_ours(bucket, s3):
    """If the key was taken before, a repeated put still reports that it came second."""
    append(bucket, "list/", 0, VersionRef(version="another's"))
    s3.faults += ["lost"]

    assert not append(bucket, "list/", 0, VersionRef(version="mine"))
    assert get_record(bucket, "list/000001.json", VersionRef).version == "another's"


@pytest.mark.parametrize("fault", ["500", "503", "reset", "cut"])
def test_a_get_and_a_list_survive_what_s3_does(bucket, s3, fault):
    """An object and a list arrive complete or are asked for again; so does what an upload sends."""
    s3.faults += [fault] if fault != "cut" else []
    digest = put_object(bucket, b"weights" * 100_000)
    s3.faults += [fault]
    assert get_object(bucket, digest) == b"weights" * 100_000
    s3.faults += [fault]
    assert list(bucket.keys("objects/")) == [f"objects/{digest}"]
    assert s3.faults == []


@pytest.mark.parametrize(("fault", "words"), [("503", "503 SlowDown"), ("reset", "AWS_ENDPOINT_URL")])
def test_s3_that_stays_down_is_a_retryable_error(bucket, s3, monkeypatch, fault, words):
    """After the last attempt the error names the object and says that a later run may succeed."""
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0)
    s3.faults[:] = [fault] * ATTEMPTS

    with pytest.raises(StoreError, match=f"some/prefix/a.*{words}") as caught:
        bucket.put("a", b"x")

    assert caught.value.retryable
    assert bucket.get("a") is None


def test_a_bucket_that_does_not_exist_is_named(s3):
    """A missing bucket says which setting names it, and that trying again will not help."""
    with pytest.raises(StoreError, match=r"s3://absent/a: S3 answered 404 NoSuchBucket") as caught:
        open_store("s3://absent").put("a", b"")

    assert "MNIST_STORE" in caught.value.remedy
    assert not caught.value.retryable


def test_missing_permissions_are_named(bucket, s3):
    """S3's refusal names the permissions that the job needs."""
    s3.faults += ["403"]

    with pytest.raises(StoreError, match="403 AccessDenied") as caught:
        bucket.put("a", b"x")

    assert "s3:PutObject" in caught.value.remedy


def test_missing_credentials_are_named(s3, monkeypatch, tmp_path):
    """Without credentials the error names the AWS variables."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))

    with pytest.raises(StoreError, match="check the AWS variables"):
        open_store(f"s3://{s3.bucket}").put("a", b"")
