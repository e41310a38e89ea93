"""The network, its loss and its training; what differs from `scratch` and nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mnist_core.models.network import picture_of, shape_of
from mnist_core.models.regression import ORIGINAL
from mnist_core.models.scratch import Recipe
from mnist_core.models.scratch.net import Objective, Scratch, init_layers, network, train
from mnist_core.progress import Progress
from mnist_core.spec import DIGIT_RECOGNIZER


class Regression(Scratch):
    """Digits in, one number each; as logits, how close each of the ten digits is to it."""

    name = "scratch-regression"

    def numbers(self, pixels: Tensor) -> Tensor:
        """Return the number, float32 (N,), that the net reads in each of the pixels uint8 (N, 28, 28)."""
        return network(pixels, self.layers())[:, 0]

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits, float32 (N, 10), of pixels uint8 (N, 28, 28): -(number - digit)² / 2 for each digit.

        Minimising the squared error means to assume that the number is the digit plus noise of spread 1;
        these are the logits under that assumption. The largest is that of the number rounded and clipped.
        """
        digits = torch.arange(self.class_count, device=pixels.device)
        return -((self.numbers(pixels)[:, None] - digits) ** 2) / 2


def squared_error(outputs: Tensor, labels: Tensor) -> Tensor:
    """Return the mean squared difference between outputs (N, 1) and labels int64 (N,).

    The last axis is dropped first: (N, 1) minus (N,) would be all N × N differences.
    """
    return ((outputs[:, 0] - labels) ** 2).mean()


SQUARED_ERROR = Objective(1, squared_error, lambda outputs: outputs[:, 0].round())


def build(sizes: Mapping[str, Any]) -> Regression:
    """Make an untrained Regression of the `sizes` that another one carries."""
    shape, classes = picture_of(sizes)
    return Regression(init_layers(math.prod(shape), sizes["hidden"], 1, torch.Generator()), shape, classes)


def fit(
    pixels: np.ndarray,
    labels: np.ndarray,
    recipe: Recipe = ORIGINAL,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
    valid: tuple[np.ndarray, np.ndarray] | None = None,
    classes: int = DIGIT_RECOGNIZER.class_count,
) -> Regression:
    """Train a regression from scratch: `scratch.net.fit` with another loss, the same arguments and errors.

    The original notebook trained on the first four fifths of the rows and validated on the others (`valid`).
    """
    layers = train(
        pixels, labels, recipe, seed=seed, device=device, progress=progress, valid=valid,
        objective=SQUARED_ERROR,
    )  # fmt: skip
    return Regression(layers, shape_of(pixels), classes)
