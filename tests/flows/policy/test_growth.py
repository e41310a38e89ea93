"""How an ensemble grows: which member holds out which fold, who replaces whom, and their mean."""

import numpy as np
import pytest

from flows.held_out import HeldOut
from flows.policy.champions import REFERENCE
from flows.policy.gate import Candidate, Limits, Reference, judge
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
        ("", "4a", 5, "4a", ""),
        ("1a 1b", "4a", 5, "1a 1b 4a", ""),
        ("1a 1b 2a", "4a", 3, "4a 1b 2a", "4a replaces 1a"),
        ("2a 1b 1a", "4a", 3, "2a 1b 4a", "4a replaces 1a"),  # the oldest, wherever it stands
        ("1b 2b 1a", "4a 4b", 3, "4b 2b 4a", "4b replaces 1b"),
        ("1b 2b", "4a", 2, "1b 2b", "no earlier member of the full ensemble holds out its fold"),
        ("1a 1b", "1a", 2, "1a 1b", ""),
        ("1a 1b", "4b 4a", 3, "4a 1b 4b", "4a replaces 1a"),
    ],
)
def test_a_full_ensemble_replaces_the_oldest_member_of_the_fold(before, tonight, limit, members, note):
    """Beyond the limit a new member replaces one of its own fold, whichever of them is better."""
    folds = {f"{night}{fold}": ord(fold) for night in range(1, 5) for fold in "ab"}

    growth = grow(before.split(), tonight.split(), folds, limit)

    assert growth.members == tuple(members.split())
    assert note in " ".join(growth.notes)
    assert bool(growth.notes) is bool(note)


def test_of_two_members_of_one_night_the_first_by_name_is_replaced():
    """A tie is broken the same way on every machine."""
    folds = dict.fromkeys(["2026-11-23-convnet-b", "2026-11-23-convnet-a", "2026-11-24-convnet-c"], 0)

    growth = grow(["2026-11-23-convnet-b", "2026-11-23-convnet-a"], ["2026-11-24-convnet-c"], folds, 2)

    assert growth.members == ("2026-11-23-convnet-b", "2026-11-24-convnet-c")


class Members:
    """Members that are all equally good: rows are hard or easy for all, and each member errs by chance."""

    rows = 200

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.ease = self.random.normal(1.5, 1.0, FOLDS * self.rows)

    def train(self, fold):
        """What a new member predicts for its fold; the true class of each row is 0."""
        rows = np.arange(self.rows) + self.rows * fold
        right = 1 / (1 + np.exp(-(self.ease[rows] + self.random.normal(0, 1.2, self.rows))))
        probabilities = np.stack([right, 1 - right], 1).astype(np.float32)
        return HeldOut(rows, np.zeros(self.rows, np.int64), probabilities)


@pytest.mark.parametrize("seed", [0, 1])
def test_in_a_year_of_members_that_do_not_improve_the_held_out_accuracy_does_not_rise(seed):
    """What is judged on some rows was not chosen by them: its errors are those of chance.

    Members chosen by their held-out rows would make the errors fall by more than half in this year.
    """
    members = Members(seed)
    by_chance = np.mean([combine([members.train(n % FOLDS) for n in range(15)])[0].errors for _ in range(20)])
    limits = Limits(floor=0, share_min=0, margin_errors=2.0, margin_rows=8, agreement=0)
    held_out, champions, errors = {}, [], []
    for night in range(365):
        before = champions[-1].members if champions else ()
        tonight = [f"{night:03d}-{fold}" for fold in range(FOLDS)]
        held_out |= {name: members.train(int(name[-1])) for name in tonight}
        growth = grow(before, tonight, {name: int(name[-1]) for name in held_out}, 15)
        whole, _ = combine([held_out[name] for name in growth.members])
        challenger = Candidate(str(night), 1.0, np.zeros(1, np.int64), whole, growth.members)
        earlier = champions[-1 - REFERENCE :][:1]
        reference = Reference(earlier[0].version, earlier[0].held_out) if earlier else None
        if judge(challenger, champions[-1] if champions else None, limits, ("0",), reference).passed:
            champions.append(challenger)
        errors.append(champions[-1].held_out.errors)
        held_out = {name: held_out[name] for name in champions[-1].members}

    assert len(champions) > 300
    assert np.mean(errors[-30:]) > by_chance - by_chance**0.5


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
