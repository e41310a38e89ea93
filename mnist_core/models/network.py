"""What every network is: pixels in, logits out, and a name and sizes by which `build` makes another."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn


class Network(nn.Module):
    """Base of the networks of all models.

    Attributes:
        name: of its model (`ModelKind.name`).
        sizes: plain JSON values; `build(name, sizes)` makes an untrained network that the weights of this one
            fit.
    """

    name: ClassVar[str]
    sizes: dict[str, Any]

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the logits, float32 (N, 10), of pixels uint8 (N, 28, 28), 0 background, 255 full ink."""
        raise NotImplementedError


def measure_batch_norm(net: Network, pixels: Tensor, batch_size: int) -> None:
    """Set the statistics of all batch normalisations to their means over batches of pixels uint8 (N, 28, 28).

    Those gathered in training are of augmented digits and of weights that were still changing.

    Args:
        net: in training mode, in which it normalises by the batch at hand.
    """
    norms = [layer for layer in net.modules() if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean instead of a moving one
    with torch.no_grad():
        for batch in pixels.tensor_split(math.ceil(len(pixels) / batch_size)):  # equal, as each counts alike
            net(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
