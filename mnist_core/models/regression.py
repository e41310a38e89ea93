"""The digit as one number: the origin's regression, in plain tensors. A lesson, and no way to win.

His net 784-150-150-150-130-1 with ReLU learns to put out the digit itself, by mean squared error, and the
number is rounded: 0.84817 on Kaggle, less than a linear model that tells classes apart (`scratch.LINEAR`).

A digit is a name, not an amount. To a regression a 3 that could be an 8 lies between them, at 5 or 6, and
nothing keeps a number within 0..9: some round to 10, 11 or -1. `to_csv` refuses these, or clips when asked.

`Regression.numbers` and `round_numbers` give his labels. As a model of this library, with ten logits, it says
of each digit how near the number is, so that the likeliest is the number rounded and clipped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mnist_core.digits import CLASSES
from mnist_core.models.scratch import Recipe, Scratch, init_layers, network, train

ORIGIN = Recipe(
    hidden=(150, 150, 150, 130), epochs=40, peak_lr=0.01, falling=False, momentum=0.0, shift=0, batch=64
)
"""The origin's layers, loss, plain SGD and epochs. His learning rate and batch size are not known; these
reach his level, where twice the rate with 256 digits a batch diverged for one seed of four. The rate does not
fall, which is why the accuracy jumps from epoch to epoch, as his did."""

PRESETS = {
    "fast": ORIGIN,
    "balanced": Recipe(**(vars(ORIGIN) | {"epochs": 80})),
    "best": Recipe(**(vars(ORIGIN) | {"epochs": 160})),
}


class Regression(Scratch):
    """Digits in, one number each; as logits, how near each of the ten digits is to it."""

    name = "scratch-regression"

    def numbers(self, pixels: Tensor) -> Tensor:
        """Give the number, float32 (N,), that the net reads in each of the pixels uint8 (N, 28, 28)."""
        return network(pixels, self.layers())[:, 0]

    def forward(self, pixels: Tensor) -> Tensor:
        """Give logits, float32 (N, 10), of pixels uint8 (N, 28, 28): -(number - digit)² / 2 for each digit.

        Squared error is what one minimises who believes that the number is the digit and noise of spread 1;
        these are the logits of that belief. The largest is the number's rounded and clipped digit.
        """
        digits = torch.arange(CLASSES, device=pixels.device)
        return -((self.numbers(pixels)[:, None] - digits) ** 2) / 2


def round_numbers(outputs: Tensor | np.ndarray) -> np.ndarray:
    """Round a regression's outputs, (N,) or (N, 1), to labels int64 (N,), as the origin had them.

    They may be 10, 11 or -1: `to_csv` refuses these, or clips them when asked.
    """
    if isinstance(outputs, Tensor):
        outputs = outputs.detach().cpu().numpy()
    return np.rint(outputs).reshape(-1).astype(np.int64)


def squared_error(outputs: Tensor, labels: Tensor) -> Tensor:
    """Give the mean squared difference between outputs (N, 1) and labels int64 (N,).

    The last axis is taken off first: (N, 1) minus (N,) would be all N × N differences.
    """
    return ((outputs[:, 0] - labels) ** 2).mean()


def origin_split(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Give the origin's own split of `count` rows: the first 80 % to train on, the last 20 % to validate."""
    rows = np.arange(count)
    return rows[: count * 4 // 5], rows[count * 4 // 5 :]


def build(sizes: dict[str, Any]) -> Regression:
    """Make an untrained Regression of the `sizes` that another one carries."""
    return Regression(init_layers(sizes["hidden"], 1, torch.Generator()))


def fit(
    pixels: np.ndarray,
    labels: np.ndarray,
    recipe: Recipe = ORIGIN,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int, str], None] | None = None,
    valid: tuple[np.ndarray, np.ndarray] | None = None,
) -> Regression:
    """Train a regression from scratch: `scratch.fit` with another loss, the same arguments and errors.

    All the digits given are trained on. The origin's recipe keeps its own split:

        train, valid = origin_split(len(digits))
        fit(digits.pixels[train], digits.labels[train], valid=(digits.pixels[valid], digits.labels[valid]))
    """
    layers = train(
        pixels, labels, recipe,
        seed=seed, device=device, progress=progress, valid=valid,
        outputs=1, loss_of=squared_error, labels_of=lambda outputs: outputs[:, 0].round(),
    )  # fmt: skip
    return Regression(layers)
