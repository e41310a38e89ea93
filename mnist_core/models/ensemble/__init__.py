"""Several networks as one: the mean of their probabilities, softened or sharpened to be calibrated.

Networks that differ in seed, in the rows that they saw and in how they see a digit make different mistakes;
their mean makes fewer than any of them (Hansen and Salamon, IEEE PAMI 12, 1990).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from mnist_core.models import convnet
from mnist_core.models.base import Adapted, ModelKind, register


@dataclass(frozen=True)
class Recipe(Adapted):
    """How an ensemble is trained."""

    members: int
    """Number of networks; each night adds as many to the champion's."""
    presets: tuple[str, str]
    """Of members 0, 2, 4 … and of members 1, 3, 5 …, which straighten digits: names in `convnet.PRESETS`."""
    epochs: int
    """Of each member."""


PRESETS = {
    name: Recipe(members, presets, convnet.PRESETS[presets[0]].epochs)
    for name, members, presets in (
        ("fast", 2, ("fast", "fast")),
        ("balanced", 2, ("balanced", "balanced")),
        ("best", 5, ("wide", "best")),
    )
}


def member(recipe: Recipe, number: int) -> tuple[str, convnet.Recipe]:
    """Return the model and the recipe of a member, numbered from 0 without end.

    Members that see digits as they are and members that see them upright err on different ones: of 42,000
    held-out digits four of preset best misread 150, four wide 141, two wide with two upright 140, four with
    four 139 (measured; see tests/bench/LOG.md).
    """
    upright = number % 2 == 1
    preset = convnet.PRESETS[recipe.presets[upright]]
    return "convnet", replace(
        preset, epochs=recipe.epochs, upright=upright,
        mirror=recipe.mirror, amount=recipe.amount, least_rows=recipe.least_rows,
    )  # fmt: skip


register(
    ModelKind("ensemble", PRESETS, f"{__name__}.net:fit", f"{__name__}.net:build", floor=0.995, member=member)
)
