"""What prune may delete, as tables of cases."""

import pytest

from flows.policy.retention import objects_to_delete, versions_to_delete

WRITTEN = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0, "e": 5.0}


@pytest.mark.parametrize(
    ("given", "deleted"),
    [
        ({}, ["a", "b", "c", "d"]),
        ({"keep": 3}, ["a", "b"]),
        ({"keep": 9}, []),
        ({"champions": ["a"]}, ["b", "c", "d"]),
        ({"champions": ["c", "b", "a"]}, ["a", "d"]),
        ({"champions": ["b", "a"], "keep_champions": 1}, ["a", "c", "d"]),
        ({"before": 4.0}, ["a", "b", "c"]),
        ({"before": 4.5}, ["a", "b", "c", "d"]),
        ({"members": {"e": ("a", "b")}}, ["c", "d"]),
        ({"members": {"a": ("b",)}}, ["a", "b", "c", "d"]),
        ({"champions": ["d"], "members": {"d": ("a",)}}, ["b", "c"]),
        ({"champions": ["gone"]}, ["a", "b", "c", "d"]),
    ],
)
def test_versions_that_may_be_deleted(given, deleted):
    """Kept are recent champions, the last versions, what is young, and the members of all these."""
    arguments = {"champions": [], "members": {}, "keep": 1, "keep_champions": 2, "before": 100.0} | given

    assert versions_to_delete(WRITTEN, **arguments) == deleted


def test_versions_of_one_time_are_deleted_in_the_order_of_their_names():
    """A tie in time is broken the same way each time."""
    same = {"b": 1.0, "a": 1.0, "c": 1.0}

    found = versions_to_delete(same, [], {}, keep=1, keep_champions=1, before=2.0)

    assert found == ["a", "b"]


@pytest.mark.parametrize(
    ("named", "before", "deleted"),
    [
        (set(), 10.0, ["x", "y"]),
        ({"x"}, 10.0, ["y"]),
        (set(), 2.0, ["x"]),
        (set(), 1.0, []),
        ({"x", "y", "z"}, 10.0, []),
    ],
)
def test_objects_that_may_be_deleted(named, before, deleted):
    """An object goes if no version names it and it is older than a day."""
    assert objects_to_delete({"x": 1.0, "y": 2.0}, named, before=before) == deleted
