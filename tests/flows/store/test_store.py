"""The store, in a folder and in S3: create-only objects, digests, lists; and what it says in trouble."""

import multiprocessing
import os
import resource
import signal
import time

import pytest

from flows.store import s3 as s3_module
from flows.store.base import StoreError
from flows.store.folder import Folder
from flows.store.lists import append, get_json, get_object, latest, put_json, put_object
from flows.store.open import open_store


@pytest.fixture
def folder(tmp_path):
    """An empty store in a folder that does not exist yet."""
    return open_store(str(tmp_path / "store"))


@pytest.fixture
def bucket(s3):
    """An empty store in a bucket, over HTTP."""
    return open_store(f"s3://{s3.bucket}/some/prefix")


@pytest.fixture(params=["folder", "bucket"])
def store(request):
    """An empty store of either kind."""
    return request.getfixturevalue(request.param)


def overwrite(store, key, data):
    """Change an object from outside."""
    if isinstance(store, Folder):
        (store.root / key).write_bytes(data)
    else:
        store._s3.put_object(Bucket=store.name, Key=store.prefix + key, Body=data)


def test_an_object_is_written_once(store):
    """The first writer of a key wins, the second is told, and the bytes stay the first one's."""
    assert store.put("a/b.json", b"first")
    assert not store.put("a/b.json", b"second")
    assert store.get("a/b.json") == b"first"
    assert list(store.keys("a/")) == ["a/b.json"]


def test_a_large_object_arrives_whole_with_progress(store, tmp_path):
    """A file of more parts than one comes back whole; the bytes told add up; again is harmless."""
    path = tmp_path / "large"
    path.write_bytes(os.urandom(20_000_000))
    told = []

    digest = put_object(store, path, told.append)

    assert sum(told) == 20_000_000
    assert len(told) > 2
    assert put_object(store, path.read_bytes()) == digest
    assert get_object(store, digest) == path.read_bytes()
    assert list(store.keys("objects/")) == [f"objects/{digest}"]


def test_an_upload_renews_the_time_of_what_is_there(store):
    """What was uploaded again is as young as what is new."""
    digest = put_object(store, b"weights")
    before = store.keys("objects/")[f"objects/{digest}"]
    time.sleep(1.1)  # S3 tells whole seconds
    put_object(store, b"weights")

    assert store.keys("objects/")[f"objects/{digest}"] > before


def test_delete_takes_only_what_is_old_enough(store):
    """An object written at or after the given time stays; one that is not there is no error."""
    store.put("a/x", b"x")
    written = store.keys("a/")["a/x"]

    assert not store.delete("a/x", before=written)
    assert store.delete("a/x", before=written + 1)
    assert not store.delete("a/x", before=written + 1)
    assert store.get("a/x") is None


def test_what_is_not_there_is_none(store):
    """A missing object or list is no error."""
    assert store.get("nothing") is None
    assert store.keys("nothing/") == {}
    assert latest(store, "nothing/") == (0, None)


def test_a_changed_byte_is_found(store):
    """An object whose bytes no longer match its digest is refused, by name."""
    digest = put_object(store, b"weights")
    overwrite(store, f"objects/{digest}", b"Weights")

    with pytest.raises(StoreError, match=f"{digest}.*changed"):
        get_object(store, digest)
    with pytest.raises(StoreError, match="missing"):
        get_object(store, "0" * 64)


def test_json_of_another_format_is_refused(store):
    """An entry that this code did not write is an error, not a surprise later."""
    store.put("x.json", b'{"format": 1}')
    store.put("y.json", b"no json")

    for key in ("x.json", "y.json"):
        with pytest.raises(StoreError, match="format 2"):
            get_json(store, key)


def test_each_entry_tells_its_writer(store):
    """Two puts of the same value differ by their writer, so that one's own first try can be told."""
    put_json(store, "a.json", {"value": 1})
    put_json(store, "b.json", {"value": 1})

    a, b = get_json(store, "a.json"), get_json(store, "b.json")
    assert a["value"] == b["value"] == 1
    assert a["writer"] != b["writer"]


def _append_twenty(root: str, name: str) -> None:
    store = open_store(root)
    for i in range(20):
        while not append(store, "list/", latest(store, "list/")[0], {"by": name, "i": i}):
            pass


def test_a_numbered_list_has_one_writer_for_each_number(store):
    """Four processes that append at once lose nothing, overwrite nothing and leave no gap."""
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=_append_twenty, args=(store.location(""), f"w{n}")) for n in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)

    assert [writer.exitcode for writer in writers] == [0, 0, 0, 0]
    entries = [get_json(store, key) for key in store.keys("list/")]
    assert len(entries) == 80
    assert latest(store, "list/")[0] == 80
    assert {(e["by"], e["i"]) for e in entries} == {(f"w{n}", i) for n in range(4) for i in range(20)}


def _put_until_killed(root: str) -> None:
    store, i = open_store(root), 0
    while True:
        store.put(f"big/{i}", bytes([i % 256]) * 3_000_000)
        i += 1


def test_a_killed_writer_leaves_no_half_object(folder):
    """After kill -9 in the middle of writing, what the store shows is whole."""
    spawn = multiprocessing.get_context("spawn")
    writer = spawn.Process(target=_put_until_killed, args=(str(folder.root),))
    writer.start()
    while not folder.keys("big/"):
        assert writer.is_alive()
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()

    for key in folder.keys("big/"):
        data = folder.get(key)
        assert len(data) == 3_000_000
        assert len(set(data)) == 1


def test_a_full_disk_is_one_error_and_nothing_half_written(folder):
    """Where no more can be written, the error says so, and the store shows no part of the object."""
    folder.put("before", b"x")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(StoreError, match=r"big.*make room"):
            folder.put("big", bytes(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)

    assert folder.get("big") is None
    assert [path.name for path in folder.root.iterdir()] == ["before"]


def test_a_folder_that_can_not_be_made_is_named(tmp_path):
    """A store below a file says which path and which setting."""
    (tmp_path / "file").write_text("")

    with pytest.raises(StoreError, match="MNIST_STORE"):
        open_store(str(tmp_path / "file" / "store")).put("a", b"")


def test_an_object_in_s3_is_encrypted_and_lies_below_the_prefix(bucket, s3):
    """Server-side encryption is asked for, and the location is the object's URL."""
    bucket.put("a/b.json", b"x")

    found = s3.client.head_object(Bucket=s3.bucket, Key="some/prefix/a/b.json")
    assert found["ServerSideEncryption"] == "AES256"
    assert bucket.location("a/b.json") == f"s3://{s3.bucket}/some/prefix/a/b.json"


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

    assert append(bucket, "list/", 0, {"by": "me"})
    assert not append(bucket, "list/", 0, {"by": "another"})
    assert get_json(bucket, "list/000001.json")["by"] == "me"
    assert s3.faults == []


def test_a_lost_answer_does_not_make_anothers_entry_ours(bucket, s3):
    """Where the key was taken before, a repeated put is still told that it came second."""
    append(bucket, "list/", 0, {"by": "another"})
    s3.faults += ["lost"]

    assert not append(bucket, "list/", 0, {"by": "me"})
    assert get_json(bucket, "list/000001.json")["by"] == "another"


@pytest.mark.parametrize("fault", ["500", "503", "reset", "cut"])
def test_a_get_and_a_list_survive_what_s3_does(bucket, s3, fault):
    """An object and a list are whole, or asked for again; so is what an upload sends."""
    s3.faults += [fault] if fault != "cut" else []
    digest = put_object(bucket, b"weights" * 100_000)
    s3.faults += [fault]
    assert get_object(bucket, digest) == b"weights" * 100_000
    s3.faults += [fault]
    assert list(bucket.keys("objects/")) == [f"objects/{digest}"]
    assert s3.faults == []


def test_s3_that_stays_down_is_an_error_that_may_pass(bucket, s3, monkeypatch):
    """After the last attempt the error names the object and says that a later run may succeed."""
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0)
    for fault, words in (("503", "503 SlowDown"), ("reset", "AWS_ENDPOINT_URL")):
        s3.faults[:] = [fault] * s3_module.ATTEMPTS
        with pytest.raises(StoreError, match=f"some/prefix/a.*{words}") as caught:
            bucket.put("a", b"x")
        assert caught.value.retryable
    assert bucket.get("a") is None


def test_a_bucket_that_is_not_there_is_named(s3):
    """A missing bucket says which setting names it, and that trying again will not help."""
    with pytest.raises(
        StoreError, match=r"s3://absent/a: S3 answered 404 NoSuchBucket.*MNIST_STORE"
    ) as caught:
        open_store("s3://absent").put("a", b"")
    assert not caught.value.retryable


def test_missing_credentials_are_named(s3, monkeypatch, tmp_path):
    """Without credentials the error names the AWS variables."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))

    with pytest.raises(StoreError, match="credentials"):
        open_store(f"s3://{s3.bucket}").put("a", b"")
