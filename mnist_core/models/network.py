"""What every network is: pixels in, logits out, and a name and sizes by which `build` makes another."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mnist_core.cores import thread_map


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


def measure_batch_norm(net: Network, pixels: Tensor, batch_size: int, threads: int = 1) -> None:
    """Set the statistics of all batch normalisations to their means over batches of pixels uint8 (N, 28, 28).

    Those gathered in training are of augmented digits and of weights that were still changing.

    Args:
        net: in training mode, in which it normalises by the batch at hand.
        pixels: that it sees.
        batch_size: of each batch, or fewer.
        threads: on which batches run side by side; more than one only if the network draws no random numbers.
    """
    batches = pixels.tensor_split(math.ceil(len(pixels) / batch_size))  # equal, as each counts alike
    threads = min(threads, len(batches))
    nets = [net, *(copy.deepcopy(net) for _ in range(1, threads))]
    with thread_map(threads) as run_each:
        list(run_each(_measure, nets, (batches[number::threads] for number in range(threads))))
    shares = [len(batches[number::threads]) / len(batches) for number in range(threads)]
    with torch.no_grad():
        for layers in zip(*(_norms(each) for each in nets), strict=True):
            for name in ("running_mean", "running_var"):
                means = [getattr(layer, name) * share for layer, share in zip(layers, shares, strict=True)]
                getattr(layers[0], name).copy_(sum(means[1:], means[0]))


def _norms(net: nn.Module) -> list[nn.BatchNorm1d | nn.BatchNorm2d]:
    return [layer for layer in net.modules() if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)]


def _measure(net: Network, batches: Sequence[Tensor]) -> None:
    """Set the statistics of a network's batch normalisations to their means over some batches."""
    norms = _norms(net)
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean instead of a moving one
    with torch.no_grad():
        for batch in batches:
            net(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
