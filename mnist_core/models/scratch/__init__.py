"""A digit recogniser in plain tensors, every step of its training written out: read `net.py`."""

from __future__ import annotations

from dataclasses import dataclass

from mnist_core.models.base import Adapted, ModelKind, register
from mnist_core.recipes import Choice, Range, Space


@dataclass(frozen=True)
class Recipe(Adapted):
    """How a net is trained."""

    hidden: tuple[int, ...]
    """Outputs of each hidden layer; without any, the net is the linear model."""
    epochs: int
    lr: float = 0.1
    """Learning rate of the first epoch."""
    falling: bool = True
    """Whether the learning rate falls in a straight line, to lr / epochs in the last epoch."""
    momentum: float = 0.9
    """How much of one step goes into the next."""
    shift: int = 1
    """Pixels by which a mini-batch may be moved, up or down and left or right."""
    batch_size: int = 128


PRESETS = {
    "fast": Recipe(hidden=(256, 128), epochs=12),
    "balanced": Recipe(hidden=(512, 256), epochs=30),
    "best": Recipe(hidden=(512, 256), epochs=60, shift=2),
    "linear": Recipe(hidden=(), epochs=15, lr=0.5, momentum=0.0, shift=0),
}
"""`linear` is the first of the lesson's two steps, a model without hidden layers."""


def space(recipe: Recipe) -> Space:
    """Return what a search may change of a recipe; its epochs stay near, because a preset says how long."""
    return {
        "epochs": Range(max(2, recipe.epochs * 2 // 3), recipe.epochs * 4 // 3, "passes", whole=True),
        "lr": Range(0.01, 1.0, "learning rate of the first epoch", log=True),
        "momentum": Range(0.0, 0.97, "part of a step that goes into the next"),
        "shift": Range(0, 3, "pixels", whole=True),
        "batch_size": Choice((64, 128, 256)),
    }


def work(recipe: Recipe) -> float:
    """Return how long a recipe trains, in any unit: within a fifth of what two CPU cores took."""
    return recipe.epochs * (1 + 512 / recipe.batch_size)


register(
    ModelKind(
        "scratch", PRESETS, f"{__name__}.net:fit", f"{__name__}.net:build", floor=0.95, space=space, work=work
    )
)
