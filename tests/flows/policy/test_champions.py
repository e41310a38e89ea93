"""What the last entry of the list of champions says about all of them, as tables of cases."""

import pytest

from flows.policy.champions import (
    KEPT,
    REFERENCE,
    champions_before,
    fallback,
    following_entry,
    recent,
    references,
    unchecked,
    was_champion,
)
from flows.records import Demotion


def last(*names, checked=()):
    """The last entry of a list: `a-b` makes a champion and demotes b, `-b` leaves none, `a!` was chosen."""
    entry = None
    for number, name in enumerate(names, 1):
        version, _, demoted = name.partition("-")
        entry = following_entry(
            entry, number, version=version.rstrip("!") or None, reason="", at="2026-11-23T00:00:00+00:00",
            demoted=demoted or None, cause=Demotion.ROLLBACK if demoted else None,
            chosen=version.endswith("!"), checked=checked,
        )  # fmt: skip
    return entry


@pytest.mark.parametrize(
    ("names", "version", "before"),
    [
        ([], "a", []),
        (["a"], "a", []),
        (["a", "b", "c"], "c", ["b", "a"]),
        (["a", "b", "c"], "b", ["a"]),
        (["a", "b"], "never", []),
        (["a", "b", "a-b", "c"], "c", ["a"]),
        (["a", "b", "a-b"], "a", []),
        (["a", "b", "a-b"], "b", []),
        (["a", "b", "c", "a-c"], "a", []),  # b was pruned: what stood between is not before it
        (["a", "b", "c", "c-b"], "c", ["a"]),  # an alarm about an earlier one
        (["a", "b", "a!"], "a", ["b"]),
        (["a", "b", "a-b", "b!"], "b", ["a"]),
        (["a", "-a", "b"], "b", []),
    ],
)
def test_champions_before_a_version(names, version, before):
    """The latest first, each once, without those that were demoted."""
    assert champions_before(last(*names), version) == before


@pytest.mark.parametrize(
    ("names", "gone", "expected"),
    [
        ([], "", None),
        (["a"], "", None),
        (["a", "b"], "", "a"),
        (["a", "b", "a-b"], "", None),
        (["a", "b", "a-b", "c"], "", "a"),
        (["a", "b", "c"], "b", "a"),
        (["a", "b", "c"], "ab", None),
    ],
)
def test_the_champion_that_a_rollback_goes_back_to(names, gone, expected):
    """The last one before the champion that is still stored and was not demoted."""
    assert fallback(last(*names), lambda name: name not in gone) == expected


def test_who_was_champion_and_who_was_demoted():
    """A version that never was champion is neither; a demotion names its entry until a person undoes it."""
    entry = last("a", "b", "a-b")

    assert [was_champion(entry, name) for name in "abc"] == [True, True, False]
    assert entry.demotions == {"b": 3}
    assert last("a", "b", "a-b", "b!").demotions == {}
    assert not was_champion(None, "a")


def test_after_the_first_champion_is_demoted_there_is_none():
    """Nobody is champion until the next promotion, which has nobody before it."""
    entry = last("a", "-a")

    assert (entry.version, recent(entry), entry.demotions) == (None, [], {"a": 2})
    assert recent(last("a", "-a", "b")) == ["b"]


def test_an_entry_names_a_bounded_number_of_champions():
    """However long the list is, its last entry has the same size."""
    names = [f"v{number}" for number in range(200)]

    entry = last(*names)

    assert recent(entry) == names[: -KEPT - 2 : -1]
    assert len(unchecked(entry)) == KEPT + 1


@pytest.mark.parametrize(
    ("names", "checked", "expected"),
    [
        (["a"], "", ["a"]),
        (["a", "b"], "", ["b", "a"]),
        (["a", "b"], "a", ["b"]),
        (["a", "b", "a-b"], "", ["a"]),
        (["a", "-a"], "", []),
    ],
)
def test_champions_whose_score_is_to_be_compared(names, checked, expected):
    """The current one, and each earlier one until a run has compared its score."""
    assert unchecked(last(*names, checked=checked)) == expected


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], []),
        (["a"], []),
        (["a", "b", "c"], ["a", "b"]),
        (["a", "b!", "c", "d"], ["b", "c"]),  # a person decided on another level
        (["a", "b", "c!"], []),
        (["a", "b!", "a-b", "d", "e"], ["a", "d"]),  # that was undone
    ],
)
def test_the_champions_that_show_a_drift(names, expected):
    """The first one, later ones if it cannot be read; none before a version that a person chose."""
    assert list(references(last(*names))) == expected


def test_a_drift_is_measured_from_the_champion_of_30_promotions_ago():
    """Not from the first, and not from the best: that one was selected."""
    names = [f"v{number}" for number in range(100)]

    assert next(references(last(*names))) == names[-1 - REFERENCE] == "v69"
