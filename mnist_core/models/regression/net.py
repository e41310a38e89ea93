"""The network, its loss and its training; what differs from `scratch` and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mnist_core.models.regression import ORIGIN
from mnist_core.models.scratch import Recipe
from mnist_core.models.scratch.net import CLASSES, Scratch, init_layers, network, train
from mnist_core.progress import Progress


class Regression(Scratch):
    """Digits in, one number each; as logits, how near each of the ten digits is to it."""

    name = "scratch-regression"

    def numbers(self, pixels: Tensor) -> Tensor:
        """Return the number, float32 (N,), that the net reads in each of the pixels uint8 (N, 28, 28)."""
        return network(pixels, self.layers())[:, 0]

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits, float32 (N, 10), of pixels uint8 (N, 28, 28): -(number - digit)² / 2 for each digit.

        Squared error is what one minimises who believes that the number is the digit and noise of spread 1;
        these are the logits of that belief. The largest is the number's rounded and clipped digit.
        """
        digits = torch.arange(CLASSES, device=pixels.device)
        return -((self.numbers(pixels)[:, None] - digits) ** 2) / 2


def round_numbers(outputs: Tensor | np.ndarray) -> np.ndarray:
    """Round a regression's outputs, (N,) or (N, 1), to labels int64 (N,), as the original notebook did.

    They may be 10, 11 or -1: `to_csv` refuses these, or clips them if it is asked to.
    """
    if isinstance(outputs, Tensor):
        outputs = outputs.detach().cpu().numpy()
    return np.rint(outputs).reshape(-1).astype(np.int64)


def squared_error(outputs: Tensor, labels: Tensor) -> Tensor:
    """Return the mean squared difference between outputs (N, 1) and labels int64 (N,).

    The last axis is taken off first: (N, 1) minus (N,) would be all N × N differences.
    """
    return ((outputs[:, 0] - labels) ** 2).mean()


def origin_split(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the original split of `count` rows: the first 80 % to train on, the last 20 % to validate."""
    rows = np.arange(count)
    return rows[: count * 4 // 5], rows[count * 4 // 5 :]


def build(sizes: Mapping[str, Any]) -> Regression:
    """Make an untrained Regression of the `sizes` that another one carries."""
    return Regression(init_layers(sizes["hidden"], 1, torch.Generator()))


def fit(
    pixels: np.ndarray,
    labels: np.ndarray,
    recipe: Recipe = ORIGIN,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
    valid: tuple[np.ndarray, np.ndarray] | None = None,
) -> Regression:
    """Train a regression from scratch: `scratch.net.fit` with another loss, the same arguments and errors.

    All the digits given are trained on. The original recipe has its own split:

        train, valid = origin_split(len(digits))
        fit(digits.pixels[train], digits.labels[train], valid=(digits.pixels[valid], digits.labels[valid]))
    """
    layers = train(
        pixels, labels, recipe,
        seed=seed, device=device, progress=progress, valid=valid,
        outputs=1, loss_of=squared_error, labels_of=lambda outputs: outputs[:, 0].round(),
    )  # fmt: skip
    return Regression(layers)
