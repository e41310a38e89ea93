"""The network: convolutions, and a second look at the digits of which it is unsure."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from mnist_core.models.augment import INK_SCALE, draw, frame_of, lean, straightened, to_ink
from mnist_core.models.network import Network, sizes_of
from mnist_core.spec import DIGIT_RECOGNIZER

SURE, FADE = 0.8, 0.1
"""Probability of the best class from which one look is enough, and how far below it only the second counts.
Fifteen networks made as many errors on 8,400 digits each as with five crops of every digit."""

NEIGHBOURS = [(0, -1), (0, 1), (-1, 0), (1, 0)]
"""Where the second look crops: pixels down and right of the centre."""

WIDE = 9
"""Longest side of the maps that the third and later convolutions read; larger ones are pooled first."""


class ConvNet(Network):
    """Digits in, logits out.

    Args:
        widths: output channels of each convolution, two or more.
        shifts: whether, when it is not training, it takes a second look at a digit for which no class has
            a probability of `SURE`: the mean logits of five crops, the centre and one pixel off it on each
            side, mixed with those of the centre if the probability is less than `FADE` below. These are 1
            to 4 of 100 digits; fifteen networks made a tenth fewer errors with it.
        upright: whether it shears each digit first so that it does not lean. Alone it is as good or slightly
            worse; it errs on other digits, which helps an ensemble. Pictures in colour are not sheared.
        shape: rows, columns and channels of the pictures.
        classes: number of classes.
        whole: whether it reads the whole picture, and not its centre.
    """

    name = "convnet"

    def __init__(
        self,
        widths: tuple[int, ...],
        shifts: bool = False,
        upright: bool = False,
        shape: tuple[int, int, int] = DIGIT_RECOGNIZER.shape,
        classes: int = DIGIT_RECOGNIZER.class_count,
        whole: bool = False,
    ) -> None:
        super().__init__()
        rows, columns, channels = shape
        upright = upright and channels == 1
        self.sizes = {"widths": list(widths), "shifts": shifts, "upright": upright}
        self.sizes |= sizes_of(shape, classes) | ({"whole": True} if whole else {})
        self.shifts, self.upright = shifts, upright
        self.frame = frame_of((rows, columns), whole=whole)
        first, second, *others = widths
        blocks = [
            _convolution(channels, first, kernel=5, stride=2),
            _convolution(first, second, pool=True),
        ]
        side = -(-max(self.frame.read) // 2) // 2
        for inputs, outputs in pairwise([second, *others]):
            blocks.append(_convolution(inputs, outputs, pool=side > WIDE))
            side = side // 2 if side > WIDE else side
        self.layers = nn.Sequential(
            *blocks, nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(widths[-1], classes, bias=False)
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the logits, float32 (N, 10), of pixels uint8 (N, 28, 28), 0 background, 255 full ink."""
        ink, frame = to_ink(pixels) * INK_SCALE, self.frame
        if self.upright:
            identity = torch.eye(2, 3, device=ink.device).expand(ink.shape[0], 2, 3)
            ink = draw(ink, straightened(identity, lean(pixels)), frame.sides, frame.padding)
        ink = frame.enlarge(ink)
        logits = self.logits(frame.narrow(ink))
        if self.training or not self.shifts or pixels.shape[0] == 0:
            return logits
        confidence = logits.softmax(1).amax(1)
        # The least sure is always among them, of whatever weight: some runtimes take no batch of 0 pictures.
        least = torch.arange(logits.shape[0], device=logits.device) == confidence.argmin()
        unsure = ((confidence < SURE) | least).nonzero()[:, 0]
        centre = logits[unsure]
        crops = [frame.narrow(ink[unsure], down, right) for down, right in NEIGHBOURS]
        around = self.logits(torch.cat(crops)).reshape(len(NEIGHBOURS), unsure.shape[0], logits.shape[1])
        mean = (centre + around.sum(0)) / (1 + len(NEIGHBOURS))
        # A weight that fades in, so that no rounding error decides between the two.
        doubt = ((SURE - confidence[unsure]) / FADE).clamp(0, 1)[:, None]
        return logits.index_copy(0, unsure, centre.lerp(mean, doubt))

    def logits(self, ink: Tensor) -> Tensor:
        """Return the logits, float32 (N, 10), of pictures float32 (N, 1, *frame.read), cropped and scaled."""
        return self.layers(ink).float()


def build(sizes: Mapping[str, Any]) -> ConvNet:
    """Make an untrained ConvNet of the `sizes` that another one carries."""
    others = {name: sizes[name] for name in ("shape", "classes", "whole") if name in sizes}
    return ConvNet(tuple(sizes["widths"]), sizes["shifts"], sizes["upright"], **others)


def _convolution(
    inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1, pool: bool = False
) -> nn.Sequential:
    """Return convolution → (2×2 max pool) → batch normalisation → ReLU; pooling first halves their work."""
    convolution = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
    pools = [nn.MaxPool2d(2)] if pool else []
    return nn.Sequential(convolution, *pools, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))
