"""Several networks as one: the mean of their probabilities, softened or sharpened to be calibrated.

Networks that differ in seed, in the rows that they saw and in how they see a digit make different mistakes;
their mean makes fewer than any of them (Hansen and Salamon, IEEE PAMI 12, 1990).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mnist_core.models import convnet


@dataclass(frozen=True)
class Recipe:
    """How an ensemble is trained."""

    members: int
    """Networks; so many a night adds to the champion's."""
    presets: tuple[str, str]
    """Of members 0, 2, 4 … and of members 1, 3, 5 …, which straighten digits: names in `convnet.PRESETS`."""
    epochs: int
    """Of each one."""


PRESETS = {
    name: Recipe(members, presets, convnet.PRESETS[presets[0]].epochs)
    for name, members, presets in (
        ("fast", 2, ("fast", "fast")),
        ("balanced", 2, ("balanced", "balanced")),
        ("best", 5, ("wide", "best")),
    )
}


def member(recipe: Recipe, number: int) -> convnet.Recipe:
    """Give the recipe of a member, numbered from 0 without end.

    Those that see digits as they are and those that see them upright err on different ones. Of 42,000
    held-out digits four of best miss 150, four wide 141, two wide with two upright 140, four with four 139
    (tests/bench/LOG.md).
    """
    upright = number % 2 == 1
    return replace(convnet.PRESETS[recipe.presets[upright]], epochs=recipe.epochs, upright=upright)


class Ensemble(nn.Module):
    """Digits in, logits out: the logarithm of the members' mean probability, over a temperature.

    Args:
        members: the networks, pixels uint8 (N, 28, 28) to logits (N, 10).
        temperature: above 1 makes the probabilities more even, below 1 more sure; the labels stay.
    """

    name = "ensemble"

    def __init__(self, members: Sequence[nn.Module], temperature: float = 1.0) -> None:
        super().__init__()
        self.sizes: dict[str, Any] = {
            "members": [{"model": member.name, "sizes": member.sizes} for member in members],
            "temperature": temperature,
        }
        self.members = nn.ModuleList(members)

    def forward(self, pixels: Tensor) -> Tensor:
        """Give the logits, float32 (N, 10), of pixels uint8 (N, 28, 28), 0 background, 255 full ink."""
        each = torch.stack([member(pixels) for member in self.members]).log_softmax(2)
        return (each.logsumexp(0) - math.log(len(self.members))) / self.sizes["temperature"]


def build(sizes: dict[str, Any]) -> Ensemble:
    """Make an untrained Ensemble of the `sizes` that another one carries."""
    from mnist_core import models

    return Ensemble([models.build(member) for member in sizes["members"]], sizes["temperature"])


def fit(
    pixels: np.ndarray,
    labels: np.ndarray,
    recipe: Recipe,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int, str], None] | None = None,
) -> Ensemble:
    """Train the members, all on the same rows: one after another, but on a GPU side by side.

    The nightly job trains each by itself instead, leaving out another fold, and puts them together with
    `Ensemble`: so it knows how good they are together on rows that they have not seen.

    Args:
        pixels, labels, device: as `convnet.fit` takes them.
        recipe: one of `PRESETS`, or another.
        seed: member k is trained with seed + k.
        progress: as `convnet.fit` calls it, over the batches of all members; the note names the member.

    Raises:
        ModelError: a member's loss is no longer finite.
    """
    recipes = [member(recipe, number) for number in range(recipe.members)]
    seeds = range(seed, seed + recipe.members)
    return Ensemble(convnet.fit_each(pixels, labels, recipes, seeds, device=device, progress=progress)).eval()
