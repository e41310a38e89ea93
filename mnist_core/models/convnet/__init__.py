"""A convolutional network for 28 × 28 digits that two CPU cores train in seven to twelve seconds.

    24 × 24  centre of the picture
    12 × 12  5×5 convolution, stride 2        16 channels
     6 × 6   3×3 convolution, 2×2 max pool    24
     6 × 6   3×3 convolution                  48
     6 × 6   3×3 convolution                  64
     1 × 1   maximum over the picture, linear without bias, 10 logits

Preset `fast` on 42,000 digits takes 7 to 12 s on two EPYC cores and scores 0.99545 ± 0.00029 on 28,000 others
(mean and standard deviation of n = 20 seeds; tests/bench/LOG.md has the records, and the measurement behind
every other figure in this package).

One pass over all digits and eight over the hardest, one cycle of AdamW (Smith, arXiv 1803.09820), label
smoothing, a moving average of the weights, and every training digit drawn through one random affine map that
also crops it. If the network is unsure of a digit, it looks a second time.

Read `net.py` and `fit.py`, and `../augment.py` for the maps. `_cpu.py`, `_cuda.py` and `_winograd.py` make
training faster, not different.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from mnist_core.models.base import Adapted, ModelKind, register
from mnist_core.recipes import Choice, Range, Space

MILD, STRONG = (0.17, 0.1, 0.1, 0.1), (0.25, 0.15, 0.15, 0.12)
"""Half-widths of the uniform augmentation: rotation in radians, scale and shear as factors, shift in halves
of the picture's side. The strong one pays if there are enough epochs."""


@dataclass(frozen=True)
class Recipe(Adapted):
    """How a ConvNet is trained."""

    widths: tuple[int, ...]
    """Output channels of each convolution, at `width` 1."""
    epochs: int
    """Passes over digits: the first `full_epochs` over all of them, the others over the hardest."""
    ema_decay: float
    """Decay of the moving average of the weights, per step."""
    width: float = 1.0
    """How many channels the convolutions have, as a part of `widths`."""
    batch_size: int = 128
    lr: float = 1e-2
    """Peak of the learning rate."""
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.98)
    label_smoothing: float = 0.05
    warm_up: float = 0.2
    """Part of all steps in which the learning rate rises to its peak; a cosine takes it down from there."""
    final_lr: float = 0.01
    """Where the cosine ends, as a part of the peak."""
    augmentation: tuple[float, float, float, float] = MILD
    full_epochs: int = 1
    """Passes over all digits, 1 or more."""
    hard: float = 1.0
    """Part of the digits that a pass after the full ones takes: those with the greatest recent loss."""
    others: float = 0.1
    """Part of such a pass that is drawn from all digits, so that what was easy is not forgotten."""
    shifts: bool = True
    """Whether the trained network reads five crops of a digit of which it is unsure."""
    upright: bool = False
    """Whether it straightens each digit before it reads it."""

    @property
    def channels(self) -> tuple[int, ...]:
        """Output channels of each convolution: multiples of 8, which vector units take whole."""
        return tuple(8 * max(1, round(self.width * count / 8)) for count in self.widths)


PRESETS = {
    "fast": Recipe(widths=(16, 24, 48, 64), epochs=9, hard=0.15, ema_decay=0.98),
    "balanced": Recipe(widths=(24, 48, 96, 96), epochs=11, hard=0.3, ema_decay=0.99, augmentation=STRONG),
    "best": Recipe(
        widths=(24, 48, 96, 96), epochs=17, full_epochs=2, hard=0.4, others=0.3, ema_decay=0.99,
        augmentation=STRONG,
    ),
}  # fmt: skip
PRESETS["wide"] = replace(PRESETS["best"], widths=(48, 96, 192, 192))
"""Four times the work for slightly fewer errors: for a GPU, and for ensembles."""


def space(recipe: Recipe) -> Space:
    """Return what a search may change of a recipe; a preset says how long, so its epochs stay near."""
    epochs = recipe.epochs
    return {
        "epochs": Range(max(2, epochs * 2 // 3), epochs * 4 // 3, "passes", whole=True),
        "full_epochs": Range(1, max(2, min(4, epochs // 3)), "passes over all rows", whole=True),
        "width": Range(0.5, 1.5, "channels, as a part of the preset's"),
        "hard": Range(0.1, 1.0, "part of all rows", log=True),
        "others": Range(0.0, 0.5, "part of a pass over the hardest"),
        "lr": Range(2e-3, 4e-2, "peak of the learning rate", log=True),
        "warm_up": Range(0.05, 0.5, "part of all steps"),
        "weight_decay": Range(3e-3, 0.5, "per step and learning rate", log=True),
        "label_smoothing": Range(0.0, 0.15, "probability shared by all classes"),
        "ema_decay": Range(0.9, 0.995, "per step"),
        "amount": Range(0.0, 2.0, "strength of augmentation, as a part of the preset's"),
        "mirror": Choice((False, True)),
        "batch_size": Choice((64, 128, 256)),
        "upright": Choice((False, True)),
    }


def work(recipe: Recipe) -> float:
    """Return how long a recipe trains, in any unit: within a sixth of what was measured on two CPU cores."""
    passes = recipe.full_epochs + (recipe.epochs - recipe.full_epochs) * recipe.hard
    return passes * recipe.width**1.5 * recipe.batch_size**-0.2


register(
    ModelKind(
        "convnet",
        PRESETS,
        f"{__name__}.fit:fit",
        f"{__name__}.net:build",
        floor=0.99,
        teachable=True,
        space=space,
        work=work,
    )
)
