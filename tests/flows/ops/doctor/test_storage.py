"""Checks of the store, in a folder and against a real S3 server with faults."""

import pytest

from flows.ops.doctor.finding import State
from flows.ops.doctor.storage import check_store
from flows.store.base import PROBE
from flows.store.s3 import Bucket

PERMISSIONS = [f"store: {name}" for name in ("write", "read", "create-only", "list", "delete")]


def test_a_folder_is_left_as_it_was(run, tmp_path):
    """Each permission has its finding, and neither the object nor its folder stays."""
    found = run(check_store)

    assert {name: finding.state for name, finding in found.items()} == dict.fromkeys(PERMISSIONS, State.OK)
    assert list((tmp_path / "home" / "store").rglob("*")) == []


def test_a_bucket_is_left_as_it_was(run, keys):
    """The same of S3, but for the one object that a bucket is tested with by every run."""
    found = run(check_store)

    assert {name: finding.state for name, finding in found.items()} == dict.fromkeys(PERMISSIONS, State.OK)
    assert keys() == [f"store/{PROBE}"]


def test_a_bucket_that_does_not_exist_is_named(run, bucket, monkeypatch):
    """The remedy names the bucket's setting."""
    monkeypatch.setenv("MNIST_STORE", "s3://a-bucket-that-nobody-made")

    found = run(check_store)

    assert found["store: write"].state is found["store: list"].state is State.FAILED
    assert "NoSuchBucket" in found["store: write"].found
    assert "MNIST_STORE" in found["store: write"].remedy


@pytest.mark.parametrize(
    ("passed", "permission", "state", "right"),
    [
        (1, "write", State.FAILED, "s3:PutObject"),
        (2, "read", State.FAILED, "s3:PutObject"),
        (5, "list", State.FAILED, "s3:PutObject"),
        (6, "delete", State.WARNING, "s3:DeleteObject"),
    ],
)
def test_a_missing_permission_is_named(run, bucket, keys, passed, permission, state, right):
    """The others are still checked; nightly runs do without the permission to delete."""
    Bucket(bucket.bucket, "store").prepare()
    bucket.faults[:] = [*[""] * passed, "403"]

    found = run(check_store)

    bad = {name: finding.state for name, finding in found.items() if finding.state is not State.OK}
    assert bad == {f"store: {permission}": state}
    assert right in found[f"store: {permission}"].remedy
    assert len(keys()) == 1 + (permission == "delete")


def test_a_store_that_overwrites_is_refused(run, bucket, keys):
    """A server that does not honour create-only would let two runs submit."""
    bucket.faults[:] = ["overwrite", "overwrite"]

    found = run(check_store)

    assert found["store: write"].state is State.FAILED
    assert "two runs could both submit" in found["store: write"].remedy
    assert keys() == [f"store/{PROBE}"]


@pytest.mark.parametrize(
    ("rule", "is_found"),
    [
        ({"Expiration": {"Days": 90}, "Filter": {"Prefix": ""}}, True),
        ({"Expiration": {"Days": 90}, "Filter": {"Prefix": "store/kaggle"}}, True),
        ({"Expiration": {"Days": 90}, "Filter": {"Prefix": "logs/"}}, False),
        ({"Expiration": {"Days": 90}, "Filter": {"Prefix": ""}, "Status": "Disabled"}, False),
        ({"NoncurrentVersionExpiration": {"NoncurrentDays": 30}, "Filter": {"Prefix": ""}}, False),
    ],
)
def test_a_bucket_that_deletes_by_age_is_found(run, bucket, rule, is_found):
    """A rule for current objects would take the list of champions away; one for old versions of them not."""
    bucket.client.put_bucket_lifecycle_configuration(
        Bucket=bucket.bucket,
        LifecycleConfiguration={"Rules": [{"ID": "ninety", "Status": "Enabled", **rule}]},
    )

    found = run(check_store)

    assert ("store: lifecycle" in found) is is_found
    if is_found:
        assert "rule ninety" in found["store: lifecycle"].found
