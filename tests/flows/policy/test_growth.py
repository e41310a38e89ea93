"""How an ensemble grows: which member holds out which fold, who replaces whom, and their mean."""

import numpy as np
import pytest

from flows.held_out import HeldOut
from flows.policy.growth import combine, grow, member_number

FOLDS = 5


def held_out(fold, wrong=(), sure=0.9):
    """A member's predictions for the 10 rows of its fold, all of class 0, with these rows wrong."""
    probabilities = np.full((10, 10), (1 - sure) / 9, np.float32)
    probabilities[:, 0] = sure
    for row in wrong:
        probabilities[row, [0, 1]] = probabilities[row, [1, 0]]
    return HeldOut(np.arange(10) + 10 * fold, np.zeros(10, np.int64), probabilities)


@pytest.mark.parametrize(
    ("before", "tonight", "limit", "members", "note"),
    [
        ([], ["a"], 5, ["a"], ""),
        (["a", "b"], ["better"], 5, ["a", "b", "better"], ""),
        (["a", "b", "c"], ["better"], 3, ["better", "b", "c"], "better replaces a: 1 errors"),
        (["a", "b", "c"], ["worse"], 3, ["a", "b", "c"], "worse is not used: "),
        (["a", "b", "c"], ["other"], 3, ["a", "b", "c"], "no member of the full ensemble holds out its fold"),
        (["a", "b"], ["a"], 2, ["a", "b"], ""),
        (["d"], ["same"], 1, ["same"], "same replaces d: 1 errors on its fold instead of 1"),
        (["a", "b"], ["c", "better"], 3, ["better", "b", "c"], "better replaces a"),
    ],
)
def test_a_full_ensemble_takes_a_member_only_if_it_is_not_worse(before, tonight, limit, members, note):
    """Beyond the limit a new one replaces one of its own fold, the one whose loss hurts least."""
    out = {
        "a": held_out(0, wrong=[1, 2, 3]), "b": held_out(1), "c": held_out(0, wrong=[1], sure=0.8),
        "better": held_out(0, wrong=[2]), "worse": held_out(0, wrong=[1, 2, 3, 4, 5], sure=0.99),
        "other": held_out(2), "d": held_out(3, wrong=[1]), "same": held_out(3, wrong=[2]),
    }  # fmt: skip

    growth = grow(before, tonight, out, limit)

    assert list(growth.members) == members
    assert note in " ".join(growth.notes)
    assert bool(growth.notes) is bool(note)


def test_a_row_is_predicted_by_the_members_that_held_it_out():
    """Their mean, and the share of the rows with several members on which these agree."""
    members = [held_out(0), held_out(0, wrong=[4], sure=0.99), held_out(1, wrong=[7])]

    together, agreement = combine(members)

    assert together.rows.tolist() == list(range(20))
    assert np.flatnonzero(together.predicted != together.labels).tolist() == [4, 17]
    assert together.errors == 2
    assert agreement == 0.9
    assert combine(members[1:])[1] is None


def test_members_are_numbered_from_the_champions():
    """A night's members hold out the folds that follow."""
    numbers = [member_number(n, "2026-11-22", size=2, limit=15, per_night=2) for n in (1, 2)]

    assert numbers == [2, 3]


@pytest.mark.parametrize("size", [15, 16])
def test_every_fold_has_its_turn_in_a_full_ensemble(size):
    """If the champion is full, the night's date counts on: five nights of two reach each fold twice."""
    numbers = [
        member_number(member, f"2026-11-{day}", size=size, limit=15, per_night=2)
        for day in range(21, 26)
        for member in (1, 2)
    ]

    assert sorted(number % FOLDS for number in numbers) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert numbers == list(range(numbers[0], numbers[0] + 10))
