"""What a night costs."""

import pytest

from flows.policy.cost import Prices, in_words, night_cost, step_costs

HERE = {"download": 36.0, "train": 360.0, "submit": 72.0}
ON_POOL = {"start": 180.0, "read": 36.0, "train": 360.0, "submit": 72.0}


@pytest.mark.parametrize(
    ("seconds", "prices", "costs"),
    [
        (HERE, Prices(), {}),
        ({}, Prices(cpu=1.0), {}),
        (HERE, Prices(cpu=0.1), {"download": 0.001, "train": 0.01, "submit": 0.002}),
        (HERE, Prices(cpu=0.1, gpu=9.0), {"download": 0.001, "train": 0.01, "submit": 0.002}),
        (ON_POOL, Prices(cpu=0.1, gpu=1.0), {"start": 0.005, "read": 0.011, "train": 0.11, "submit": 0.002}),
        (ON_POOL | {"explore": 72.0}, Prices(gpu=0.5), {
            "start": 0.0, "read": 0.005, "train": 0.05, "submit": 0.0, "explore": 0.01,
        }),
        (ON_POOL, Prices(gpu=1.0), {"start": 0.0, "read": 0.01, "train": 0.1, "submit": 0.0}),
    ],
)  # fmt: skip
def test_each_step_costs_its_seconds_on_its_machines(seconds, prices, costs):
    """The CPU pool's machine runs all night; the GPU pool's is added if the night waited for one."""
    assert step_costs(seconds, prices) == pytest.approx(costs)
    assert night_cost(seconds, prices) == (pytest.approx(sum(costs.values())) if costs else None)


@pytest.mark.parametrize(
    ("dollars", "words"),
    [(0, "$0.00"), (0.00001, "under $0.0001"), (0.0042, "$0.0042"), (0.1, "$0.10"), (12.345, "$12.35")],
)
def test_an_amount_shows_what_matters(dollars, words):
    """A night of a fraction of a cent does not read as free."""
    assert in_words(dollars) == words
