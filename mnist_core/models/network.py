"""What every network is: pixels in, logits out, and a name and sizes by which `build` makes another."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from mnist_core.cores import thread_map
from mnist_core.spec import DIGIT_RECOGNIZER

Recipe = TypeVar("Recipe", bound=Any)


class Network(nn.Module):
    """Base of the networks of all models.

    Attributes:
        name: of its model (`ModelKind.name`).
        sizes: plain JSON values; `build(name, sizes)` makes an untrained network that the weights of this one
            fit. `shape` (rows, columns, channels) and `classes` are among them unless they are those of
            digit-recognizer.
    """

    name: ClassVar[str]
    sizes: dict[str, Any]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Rows, columns and channels of a picture."""
        return picture_of(self.sizes)[0]

    @property
    def class_count(self) -> int:
        """Number of logits."""
        return picture_of(self.sizes)[1]

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the logits, float32 (N, 10), of pixels uint8 (N, 28, 28), 0 background, 255 full ink.

        For another competition they have its number of classes, and its picture's shape.
        """
        raise NotImplementedError


def sizes_of(shape: tuple[int, int, int], classes: int) -> dict[str, Any]:
    """Return the sizes of a network that reads pictures of a shape; {} for those of digit-recognizer."""
    own = {"shape": list(shape), "classes": classes}
    usual = {"shape": list(DIGIT_RECOGNIZER.shape), "classes": DIGIT_RECOGNIZER.class_count}
    return {name: value for name, value in own.items() if value != usual[name]}


def picture_of(sizes: Mapping[str, Any]) -> tuple[tuple[int, int, int], int]:
    """Return the shape of a picture and the number of classes that a network's sizes say."""
    rows, columns, channels = sizes.get("shape", DIGIT_RECOGNIZER.shape)
    return (rows, columns, channels), sizes.get("classes", DIGIT_RECOGNIZER.class_count)


def shape_of(pixels: np.ndarray | Tensor) -> tuple[int, int, int]:
    """Return rows, columns and channels of pictures uint8 (N, rows, columns) or (N, rows, columns, 3)."""
    rows, columns = pixels.shape[1:3]
    return rows, columns, 1 if pixels.ndim == 3 else pixels.shape[3]


def lengthened(recipe: Recipe, rows: int) -> Recipe:
    """Return a recipe with more epochs if on these rows it would take fewer steps than on its `least_rows`.

    It takes about as many, to the nearest epoch.
    """
    steps, least = (max(1, count // recipe.batch_size) for count in (rows, recipe.least_rows))
    if steps >= least:
        return recipe
    longer = {"epochs": round(recipe.epochs * least / steps)}
    if hasattr(recipe, "full_epochs"):
        longer["full_epochs"] = round(recipe.full_epochs * least / steps)
    return replace(recipe, **longer)


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
