"""Content-addressed objects, small JSON objects and numbered lists, in a folder and in S3."""

import multiprocessing

import pytest

from flows.store.base import StoreError
from flows.store.lists import FORMAT, append, get_json, get_object, latest, put_json, put_object
from flows.store.open import open_store


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
def test_json_of_another_format_is_refused(store, content):
    """An object that this program did not write is refused by name, not misread."""
    store.put("x.json", content)

    with pytest.raises(StoreError, match=rf"x\.json is not a JSON object of format {FORMAT}") as caught:
        get_json(store, "x.json")

    assert "MNIST_STORE" in caught.value.remedy


def test_each_object_names_its_writer(store):
    """Two puts of the same value differ by their writer, so that one's own first try can be recognised."""
    put_json(store, "a.json", {"value": 1})
    put_json(store, "b.json", {"value": 1})

    a, b = get_json(store, "a.json"), get_json(store, "b.json")
    assert a["value"] == b["value"] == 1
    assert a["writer"] != b["writer"]


def test_an_empty_list_has_no_entry(store):
    """A list that nobody has written to is at number 0."""
    assert latest(store, "list/") == (0, None)
    assert get_json(store, "list/000001.json") is None


def test_the_highest_number_is_current(store):
    """An entry is appended after the one that the writer has seen, or not at all."""
    assert append(store, "list/", 0, {"value": "first"})
    assert append(store, "list/", 1, {"value": "second"})
    assert not append(store, "list/", 1, {"value": "late"})

    number, entry = latest(store, "list/")
    assert (number, entry["value"]) == (2, "second")


def _append_twenty(address, name):
    store = open_store(address)
    for i in range(20):
        while not append(store, "list/", latest(store, "list/")[0], {"by": name, "i": i}):
            pass


def test_a_numbered_list_has_one_writer_for_each_number(store):
    """Four processes that append at once lose nothing, overwrite nothing and leave no gap."""
    spawn = multiprocessing.get_context("spawn")
    address = store.location("")
    writers = [spawn.Process(target=_append_twenty, args=(address, f"w{n}")) for n in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)

    assert [writer.exitcode for writer in writers] == [0, 0, 0, 0]
    entries = [get_json(store, key) for key in store.keys("list/")]
    assert len(entries) == 80
    assert latest(store, "list/")[0] == 80
    assert {(e["by"], e["i"]) for e in entries} == {(f"w{n}", i) for n in range(4) for i in range(20)}
