"""Content-addressed objects, records and numbered lists, in a folder and in S3."""

import json
import multiprocessing
import threading

import pytest

from flows.records import Record, RecordError
from flows.store.base import StoreError
from flows.store.lists import (
    FORMAT,
    append,
    get_object,
    get_record,
    last_number,
    latest,
    put_object,
    put_record,
)
from flows.store.open import open_store


class Entry(Record):
    """A record with two fields."""

    value: str
    number: int = 0


def test_an_object_is_found_by_its_content(store, tmp_path):
    """A file and the same bytes have the same digest and are one object."""
    path = tmp_path / "weights"
    path.write_bytes(b"weights")

    digest = put_object(store, path)

    assert put_object(store, b"weights") == digest
    assert get_object(store, digest) == b"weights"
    assert list(store.keys("objects/")) == [f"objects/{digest}"]


def test_a_changed_or_missing_object_is_refused(store, overwrite):
    """An object whose bytes do not match its digest is an error that names it, and so is a missing one."""
    digest = put_object(store, b"weights")
    overwrite(store, f"objects/{digest}", b"Weights")

    with pytest.raises(StoreError, match=f"{digest} has changed"):
        get_object(store, digest)
    with pytest.raises(StoreError, match="0000 is missing"):
        get_object(store, "0" * 64)


@pytest.mark.parametrize("content", [b'{"format": 1}', b"not json", b"[]", b"{}"])
def test_an_object_of_another_format_is_refused(store, content):
    """An object that this program did not write is refused by name, not misread."""
    store.put("x.json", content)

    with pytest.raises(StoreError, match=rf"x\.json is not a JSON object of format {FORMAT}") as caught:
        get_record(store, "x.json", Entry)

    assert "MNIST_STORE" in caught.value.remedy


def test_a_record_comes_back_as_it_was_put(store):
    """A record is written once; the second writer of its key learns that, and changes nothing."""
    assert put_record(store, "x.json", Entry(value="first", number=1))
    assert not put_record(store, "x.json", Entry(value="second"))

    assert get_record(store, "x.json", Entry) == Entry(value="first", number=1)


def test_a_wrong_field_is_named(store):
    """A record with a missing or wrong field is an error that names the object and the field."""
    store.put("x.json", json.dumps({"format": FORMAT, "value": "v", "number": "many"}).encode())

    with pytest.raises(RecordError, match=r"x\.json: Entry with a wrong field 'number'"):
        get_record(store, "x.json", Entry)


def test_each_object_names_its_writer(store):
    """Two puts of the same record differ by their writer: so one's own first try can be recognised."""
    put_record(store, "a.json", Entry(value="same"))
    put_record(store, "b.json", Entry(value="same"))

    a, b = json.loads(store.get("a.json")), json.loads(store.get("b.json"))
    assert a.pop("writer") != b.pop("writer")
    assert a == b == {"value": "same", "number": 0, "format": FORMAT}


def test_an_empty_list_has_no_entry(store):
    """A list that nobody has written to is at number 0."""
    assert latest(store, "list/", Entry) == (0, None)
    assert last_number(store, "list/") == 0
    assert get_record(store, "list/000001.json", Entry) is None


def test_the_highest_number_is_current(store):
    """An entry is appended after the one that the writer has seen, or not at all."""
    assert append(store, "list/", 0, Entry(value="first"))
    assert append(store, "list/", 1, Entry(value="second"))
    assert not append(store, "list/", 1, Entry(value="late"))

    assert latest(store, "list/", Entry) == (2, Entry(value="second"))
    assert last_number(store, "list/") == 2


def _append_twenty(address, name):
    store = open_store(address)
    for i in range(20):
        while not append(store, "list/", last_number(store, "list/"), Entry(value=name, number=i)):
            pass


def test_what_is_not_a_number_is_not_an_entry(store):
    """A file that another program left in a list does not stop the runs."""
    store.put("list/000001.json", b"{}")
    store.put("list/.0123.partial", b"half")

    assert last_number(store, "list/") == 1


def test_a_numbered_list_has_one_writer_for_each_number(store):
    """Four writers that append at once lose nothing, overwrite nothing and leave no gap."""
    address = store.location("")
    if address.startswith("s3://"):  # of which each thread has connections of its own
        writers = [threading.Thread(target=_append_twenty, args=(address, f"w{n}")) for n in range(4)]
    else:
        spawn = multiprocessing.get_context("spawn")
        writers = [spawn.Process(target=_append_twenty, args=(address, f"w{n}")) for n in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)

    entries = [get_record(store, key, Entry) for key in store.keys("list/")]
    assert len(entries) == 80
    assert last_number(store, "list/") == 80
    assert {(e.value, e.number) for e in entries} == {(f"w{n}", i) for n in range(4) for i in range(20)}
