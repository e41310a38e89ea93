"""The network in plain torch, with parameters named and ordered as fastai's model has them.

So trained weights move over one to one: `body` is torchvision's resnet18 up to its last block (He et al.,
arXiv 1512.03385), `head` is fastai's `create_head`.

    32 × 32  the picture's centre of 24 × 24, enlarged
     8 × 8   7×7 convolution, stride 2, and 3×3 max pool, stride 2;  layer1, 4 convolutions   64 channels
     4 × 4   layer2, 4 convolutions                                                          128
     2 × 2   layer3, 4 convolutions                                                          256
     1 × 1   layer4, 4 convolutions                                                          512
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mnist_core.models.augment import draw, to_ink
from mnist_core.models.network import Network, sizes_of
from mnist_core.spec import DIGIT_RECOGNIZER

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Of red, green and blue in [0, 1]: what fastai's `imagenet_stats` and torchvision's weights expect."""


class ResNet18(Network):
    """Digits in, logits out.

    Args:
        crop: rows and columns of the picture's centre that the network reads, or one number for both
            (default: the whole picture).
        side: what that is enlarged to, in pixels (default: not enlarged).
        shape: rows, columns and channels of the pictures.
        classes: number of classes.
    """

    name = "resnet18"
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        crop: int | Sequence[int] | None = None,
        side: int | Sequence[int] | None = None,
        shape: tuple[int, int, int] = DIGIT_RECOGNIZER.shape,
        classes: int = DIGIT_RECOGNIZER.class_count,
    ) -> None:
        super().__init__()
        self.crop = _both(shape[:2] if crop is None else crop)
        self.side = _both(self.crop if side is None else side)
        for whole, part, length in zip(shape, self.crop, self.side, strict=False):
            if not 1 <= part <= whole or not 1 <= length <= 8 * whole:
                raise ValueError(
                    f"crop {part} is not within 1..{whole}, or side {length} not within 1..{8 * whole}"
                )
        self.sizes = {"crop": _short(self.crop), "side": _short(self.side), **sizes_of(shape, classes)}
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1))
        self.body = nn.Sequential(
            nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1),
            nn.Sequential(Block(64, 64), Block(64, 64)),
            nn.Sequential(Block(64, 128, stride=2), Block(128, 128)),
            nn.Sequential(Block(128, 256, stride=2), Block(256, 256)),
            nn.Sequential(Block(256, 512, stride=2), Block(512, 512)),
        )
        self.head = nn.Sequential(
            MaxAndMean(),
            nn.Flatten(),
            nn.BatchNorm1d(1024),
            nn.Dropout(0.25),
            nn.Linear(1024, 512, bias=False),
            nn.ReLU(inplace=True),
            nn.BatchNorm1d(512),
            nn.Dropout(0.5),
            nn.Linear(512, classes, bias=False),
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the logits, float32 (N, 10), of pixels uint8 (N, 28, 28), 0 background, 255 full ink."""
        return self.head(self.body(self.pictures(pixels))).float()

    def pictures(self, pixels: Tensor) -> Tensor:
        """Turn pixels uint8 (N, 28, 28) into what `body` takes: float32 (N, 3, side, side), normalised."""
        (rows, columns), (tall, wide) = self.crop, self.shape[:2]
        ink = to_ink(pixels) / 255
        if self.side == self.crop:
            top, left = (tall - rows) // 2, (wide - columns) // 2
            ink = ink[:, :, top : top + rows, left : left + columns]
        else:
            centre = torch.tensor([[columns / wide, 0, 0], [0, rows / tall, 0]], device=pixels.device)
            padding = "border" if self.crop == (tall, wide) else "zeros"
            ink = draw(ink, centre.expand(pixels.shape[0], 2, 3), self.side, padding)
        return (ink - self.mean) / self.std


def _both(side: int | Sequence[int]) -> tuple[int, int]:
    rows, columns = (side, side) if isinstance(side, int) else side
    return rows, columns


def _short(sides: tuple[int, int]) -> int | list[int]:
    return sides[0] if sides[0] == sides[1] else list(sides)


class Block(nn.Module):
    """torchvision's BasicBlock: two 3×3 convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (N, inputs, H, W), or halve H and W with stride 2."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + shortcut)


class MaxAndMean(nn.Module):
    """fastai's AdaptiveConcatPool2d: a channel's maximum, then its mean."""

    def forward(self, x: Tensor) -> Tensor:
        """Turn (N, C, H, W) into (N, 2 C, 1, 1)."""
        return torch.cat([x.amax((2, 3), keepdim=True), x.mean((2, 3), keepdim=True)], dim=1)


def build(sizes: Mapping[str, Any]) -> ResNet18:
    """Make an untrained ResNet18 of the `sizes` that another one carries; `{}` reads the whole picture."""
    return ResNet18(**sizes)
