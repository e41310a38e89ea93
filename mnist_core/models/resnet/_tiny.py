"""Convolutions of tiny pictures in less time.

resnet18 is made for pictures 7 × as wide; here it ends on 1 × 1 pixel, where eight of a 3×3 kernel's nine
taps meet nothing but padding. Training leaves them out.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

TINY = 2
"""Sides of pictures up to which a convolution trains faster as a `TinyConv`."""


class TinyConv(nn.Module):
    """A convolution of tiny pictures as one matrix product: the same function, trained in less time.

    It has only the kernel's taps that meet a pixel at all: on a 1 × 1 picture one of nine. The others would
    get a gradient of zero; here they are neither multiplied nor changed.

    Args:
        convolution: square, without bias; it is not changed before `fill`.
        side: of the pictures that come in, pixels.
    """

    places: Tensor

    def __init__(self, convolution: nn.Conv2d, side: int) -> None:
        super().__init__()
        kernel, stride, padding = (
            convolution.kernel_size[0],
            convolution.stride[0],
            int(convolution.padding[0]),
        )
        self.side = (side + 2 * padding - kernel) // stride + 1
        tap, source, target = torch.arange(kernel), torch.arange(side), torch.arange(self.side)
        line = (tap[:, None, None] - padding + target * stride == source[:, None]).float()
        places = torch.einsum("yac,xbd->yxabcd", line, line).reshape(kernel**2, side**2, self.side**2)
        self.seen = places.any(2).any(1)
        self.register_buffer("places", places[self.seen], persistent=False)
        """[tap, pixel in, pixel out]: 1 where the tap leads from the one to the other, else 0."""
        self.weight = nn.Parameter(convolution.weight.detach().flatten(2).permute(2, 1, 0)[self.seen])
        """[tap, channel in, channel out]."""

    def forward(self, x: Tensor) -> Tensor:
        """Turn (N, C, H, W) into what the convolution makes of it."""
        taps, inputs, outputs = self.weight.shape
        _, pixels_in, pixels_out = self.places.shape
        matrix = self.weight[0]
        if taps > 1:
            matrix = self.places.flatten(1).T @ self.weight.flatten(1)
            matrix = matrix.view(pixels_in, pixels_out, inputs, outputs).transpose(1, 2)
            matrix = matrix.reshape(pixels_in * inputs, pixels_out * outputs)
        rows = x.permute(0, 2, 3, 1).reshape(len(x), -1)  # no copy of what is channels_last
        return (rows @ matrix).view(len(x), self.side, self.side, outputs).permute(0, 3, 1, 2)

    @torch.no_grad()
    def fill(self, weight: Tensor) -> Tensor:
        """Return the kernel (O, I, K, K) with the taps trained here; the others are those of `weight`."""
        filled = weight.flatten(2).clone()
        filled[:, :, self.seen] = self.weight.permute(2, 1, 0)
        return filled.view_as(weight)


def shrink(body: nn.Sequential, side: int) -> dict[str, TinyConv]:
    """Replace each 3×3 convolution of a resnet18's `body` that reads tiny pictures by a TinyConv.

    Args:
        body: is changed.
        side: of the pictures that come in, pixels.

    Returns:
        The new ones by name.
    """
    side = math.ceil(side / 4)  # after the first convolution and the pool
    tiny = {}
    for layer in range(4, 8):
        blocks: Any = body[layer]
        for number, block in enumerate(blocks):
            for name in ("conv1", "conv2"):
                convolution = getattr(block, name)
                if side <= TINY:
                    tiny[f"{layer}.{number}.{name}"] = TinyConv(convolution, side)
                    setattr(block, name, tiny[f"{layer}.{number}.{name}"])
                side = math.ceil(side / convolution.stride[0])
    return tiny
