"""What the list of champions says, as tables of cases."""

import pytest

from flows.policy.champions import champions_before, demotions, fallback, was_champion
from flows.records import ChampionEntry, Demotion


def entries(*names):
    """A list of champions; `a-b` makes a champion again and demotes b."""
    found = []
    for name in names:
        version, _, demoted = name.partition("-")
        cause = Demotion.ROLLBACK if demoted else None
        facts = {"demoted": demoted or None, "cause": cause}
        found.append(ChampionEntry(version=version, reason="", at="2026-11-23T00:00:00+00:00", **facts))
    return found


@pytest.mark.parametrize(
    ("names", "version", "before"),
    [
        ([], "a", []),
        (["a"], "a", []),
        (["a", "b", "c"], "c", ["b", "a"]),
        (["a", "b", "c"], "b", ["a"]),
        (["a", "b"], "never", []),
        (["a", "b", "a-b", "c"], "c", ["a", "a"]),
        (["a", "b", "a-b"], "a", []),
    ],
)
def test_champions_before_a_version(names, version, before):
    """The latest first, without those that were demoted."""
    assert champions_before(entries(*names), version) == before


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
    assert fallback(entries(*names), lambda name: name not in gone) == expected


def test_who_was_champion_and_who_was_demoted():
    """A version that never was champion is neither."""
    champions = entries("a", "b", "a-b")

    assert [was_champion(champions, name) for name in "abc"] == [True, True, False]
    assert list(demotions(champions)) == ["b"]
    assert demotions([]) == {}
