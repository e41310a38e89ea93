"""The mean of several networks as one network, and the training of all members on the same rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mnist_core.models import base
from mnist_core.models.convnet.fit import fit_each
from mnist_core.models.ensemble import Recipe, member
from mnist_core.models.network import Network
from mnist_core.progress import Progress
from mnist_core.spec import DIGIT_RECOGNIZER


class Ensemble(Network):
    """Digits in, logits out: the logarithm of the members' mean probability, over a temperature.

    Args:
        members: networks, each pixels uint8 (N, 28, 28) to logits (N, 10).
        temperature: above 1 makes the probabilities more even, below 1 more confident; the labels stay.
    """

    name = "ensemble"

    def __init__(self, members: Sequence[Network], temperature: float = 1.0) -> None:
        super().__init__()
        self.sizes = {
            "members": [{"model": member.name, "sizes": member.sizes} for member in members],
            "temperature": temperature,
        }
        self.members = nn.ModuleList(members)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Rows, columns and channels of a picture."""
        return self.first.shape

    @property
    def class_count(self) -> int:
        """Number of logits."""
        return self.first.class_count

    @property
    def first(self) -> Network:
        """The first member."""
        first = self.members[0]
        assert isinstance(first, Network)
        return first

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the logits, float32 (N, 10), of pixels uint8 (N, 28, 28), 0 background, 255 full ink."""
        each = torch.stack([member(pixels) for member in self.members]).log_softmax(2)
        return (each.logsumexp(0) - math.log(len(self.members))) / self.sizes["temperature"]


def build(sizes: Mapping[str, Any]) -> Ensemble:
    """Make an untrained Ensemble of the `sizes` that another one carries."""
    members = [base.build(member["model"], member["sizes"]) for member in sizes["members"]]
    return Ensemble(members, sizes["temperature"])


def fit(
    pixels: np.ndarray,
    labels: np.ndarray,
    recipe: Recipe,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
    classes: int = DIGIT_RECOGNIZER.class_count,
) -> Ensemble:
    """Train the members, all on the same rows: one after another, but on a GPU side by side.

    The nightly job trains each member separately instead, on other rows, and puts them together with
    `Ensemble`, so that it knows how good they are together on rows that they have not seen.

    Args:
        pixels, labels, device, classes: as `convnet.fit.fit` takes them.
        recipe: one of `PRESETS`, or another.
        seed: member k is trained with seed + k.
        progress: as `convnet.fit.fit` calls it, over the batches of all members; the note names the member.

    Raises:
        ModelError: a member's loss is no longer finite.
    """
    recipes = [member(recipe, number)[1] for number in range(recipe.members)]
    seeds = range(seed, seed + recipe.members)
    members = fit_each(pixels, labels, recipes, seeds, device=device, progress=progress, classes=classes)
    return Ensemble(members).eval()
