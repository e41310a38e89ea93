"""resnet18 as fastai's `vision_learner` makes and trains it, and the same network in plain torch.

fastai (and with it torchvision) is imported only by training. The original notebooks' own recipe is in
`origin.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from mnist_core.models.base import Adapted, ModelKind, register
from mnist_core.recipes import Choice, Range, Space


@dataclass(frozen=True)
class Recipe(Adapted):
    """How a ResNet18 is trained: fastai's one cycle of AdamW over augmented digits.

    They are turned, scaled, sheared and shifted at random, as the convnet's are.
    """

    epochs: int
    lr: float = 1e-2
    """Peak of the learning rate."""
    batch_size: int = 128
    weight_decay: float = 0.02
    label_smoothing: float = 0.05
    side: int = 32
    """Side of the pictures that the network reads, in pixels: the digit's centre of 24 × 24, enlarged."""
    augmentation: tuple[float, float, float, float] = (0.17, 0.1, 0.1, 0.1)
    """Half-widths of the random maps: rotation in radians, scale, shear, shift in halves of the side."""
    pretrained: bool = False
    """Start from torchvision's ImageNet weights, fetched once into torch's hub folder, and `fine_tune`: an
    epoch for the head alone, then `epochs` for all layers."""
    fine_tune_lr: float = 2e-3
    """What `fine_tune` takes instead of `lr`: fastai's default."""


PRESETS = {
    "fast": Recipe(epochs=6),
    "balanced": Recipe(epochs=12),
    "best": Recipe(epochs=24),
}


def space(recipe: Recipe) -> Space:
    """Return what a search may change of a recipe; its epochs stay near, because a preset says how long."""
    return {
        "epochs": Range(max(2, recipe.epochs * 2 // 3), recipe.epochs * 4 // 3, "passes", whole=True),
        "lr": Range(2e-3, 4e-2, "peak of the learning rate", log=True),
        "weight_decay": Range(2e-3, 0.2, "per step and learning rate", log=True),
        "label_smoothing": Range(0.0, 0.15, "probability shared by all classes"),
        "amount": Range(0.0, 2.0, "strength of augmentation, as a part of the preset's"),
        "mirror": Choice((False, True)),
        "batch_size": Choice((64, 128, 256)),
    }


def work(recipe: Recipe) -> float:
    """Return how long a recipe trains, in any unit: within a seventh of what two CPU cores took."""
    return recipe.epochs * (1 + 64 / recipe.batch_size)


register(
    ModelKind(
        "resnet18", PRESETS, f"{__name__}.fit:fit", f"{__name__}.net:build", floor=0.99, pretrained=True,
        space=space, work=work,
    )
)  # fmt: skip
