"""What a night costs: the seconds of its steps at the prices of the machines that took them."""

from collections.abc import Mapping
from dataclasses import dataclass

ON_GPU_POOL = ("read", "train", "explore")
"""Steps that the GPU pool takes, if the night waited for it."""
WAIT = "start"
"""The step in which a night waits for the GPU pool; a night that trained where it was has none."""


@dataclass(frozen=True)
class Prices:
    """US dollars per hour of a machine of each pool; 0 if they are not known."""

    cpu: float = 0.0
    gpu: float = 0.0


def step_costs(seconds: Mapping[str, float], prices: Prices) -> dict[str, float]:
    """Return the US dollars of each step; nothing if no price is known.

    The machine of the CPU pool runs for the whole night, also while it waits for the training.
    """
    if not (prices.cpu or prices.gpu):
        return {}
    gpu = ON_GPU_POOL if WAIT in seconds else ()
    return {
        step: spent / 3600 * (prices.cpu + (prices.gpu if step in gpu else 0.0))
        for step, spent in seconds.items()
    }


def night_cost(seconds: Mapping[str, float], prices: Prices) -> float | None:
    """Return the US dollars of all steps; None if no price is known."""
    costs = step_costs(seconds, prices)
    return sum(costs.values()) if costs else None


def in_words(dollars: float) -> str:
    """Return an amount such as `$0.0042` or `$1.23`: two digits that matter, and at least cents."""
    if dollars >= 0.1 or dollars == 0:
        return f"${dollars:.2f}"
    return f"${dollars:.4f}" if dollars >= 0.0001 else "under $0.0001"
