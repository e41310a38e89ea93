"""Content-addressed objects, records and numbered lists, in a folder and in S3."""

import bisect
import json
import math
import multiprocessing
import threading

import pytest

from flows.records import Record, RecordError
from flows.store.base import Page, StoreError
from flows.store.lists import (
    FORMAT,
    NAME,
    append,
    get_object,
    get_record,
    last_number,
    latest,
    names_of,
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
    reader = open_store(store.location(""))

    with pytest.raises(StoreError, match=f"{digest} has changed"):
        get_object(reader, digest)
    with pytest.raises(StoreError, match="0000 is missing"):
        get_object(reader, "0" * 64)


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


@pytest.mark.parametrize("seen", [2, 3, 900])
def test_a_list_that_is_shorter_than_what_was_met_of_it_is_searched_again(store, seen):
    """A backup was restored, and a night's own entry still knows the higher number."""
    append(store, "list/", 0, Entry(value="first"))
    store.seen["list/"] = seen

    assert last_number(store, "list/") == 1
    assert latest(store, "list/", Entry) == (1, Entry(value="first"))
    assert append(store, "list/", 1, Entry(value="second"))


OTHERS = [
    ".DS_Store",
    "000001 (conflicted copy).json",
    "000001.json~",
    "0000012.json",
    "notes.txt",
    "zz/a.json",
]
"""Names that other programs leave in a list; some sort before its entries, some between, some after."""


def test_what_is_not_a_number_is_not_an_entry(store, caplog):
    """Files that other programs left in a list do not stop the runs, and are warned of once."""
    append(store, "list/", 0, Entry(value="first"))
    for name in OTHERS:
        store.put(f"list/{name}", b"x")

    assert append(store, "list/", last_number(store, "list/"), Entry(value="second"))
    assert last_number(open_store(store.location("")), "list/") == 2
    assert latest(store, "list/", Entry) == (2, Entry(value="second"))
    assert list(names_of(store, "list/", NAME)) == ["000001.json", "000002.json"]
    [warning] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert store.location("list/") in warning
    assert ".DS_Store" in warning


def test_a_folder_marker_of_the_console_is_not_an_entry(bucket, s3, caplog):
    """S3's console makes a folder as an empty object whose name ends in a slash."""
    s3.client.put_object(Bucket=s3.bucket, Key="some/prefix/list/", Body=b"")

    assert latest(bucket, "list/", Entry) == (0, None)
    assert "list/: ignoring a folder marker, which" in caplog.text
    assert append(bucket, "list/", 0, Entry(value="first"))


class Pages:
    """The names of a long list, in pages; counts how many were asked for."""

    def __init__(self, count: int, others: int = 0) -> None:
        self.seen: dict[str, int] = {}
        self.pages = 0
        self._names = sorted(
            [f"{i:06d}.json" for i in range(1, count + 1)] + [f"x{i}" for i in range(others)]
        )

    def location(self, key: str) -> str:
        """Return a key as it is."""
        return key

    def names(self, _prefix: str, after: str = "") -> Page:
        """Return up to 1000 names."""
        self.pages += 1
        first = bisect.bisect_right(self._names, after)
        return Page(self._names[first : first + 1000], first + 1000 < len(self._names))


@pytest.mark.parametrize("count", [0, 1, 999, 1000, 1001, 2000, 3650, 10_950, 65_536, 250_000])
@pytest.mark.parametrize("others", [0, 2500])
def test_the_last_number_of_a_long_list_takes_few_requests(count, others):
    """Found in O(log n) pages by a process that starts, and in one by a process that knew it."""
    store = Pages(count, others)

    assert last_number(store, "list/") == count
    assert store.pages <= 4 + 2 * math.log2(max(count / 1000, 1))
    pages = store.pages
    assert last_number(store, "list/") == count
    assert store.pages == pages + 1


def test_a_bucket_is_searched_in_pages(bucket, s3):
    """A list of more pages than one: the search ends at its last entry on every server."""
    bucket.page_keys = 3
    for number in range(1, 29):
        s3.client.put_object(Bucket=s3.bucket, Key=f"some/prefix/list/{number:06d}.json", Body=b"")
    s3.requests.clear()

    assert last_number(bucket, "list/") == 28
    assert len(s3.requests) <= 8


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
