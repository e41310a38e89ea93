"""Random affine maps, and pictures drawn through them: the one augmentation, for every model.

Pixels are uint8 (N, rows, columns), or (N, rows, columns, 3) in colour.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

INK_SCALE = 1 / (255 * 0.3081)
"""From bytes to unit spread: 0.3081 is the standard deviation of MNIST's pixels in [0, 1]. The mean stays
where it is: background is 0, which is also what convolutions and the affine map pad with."""

MARGIN = 1 / 14
"""Part of a picture's side that a network need not read on each side if nothing is there. MNIST fits each
digit into 20 × 20 and centres its mass in 28 × 28 (LeCun), so two pixels on each side of the centre that is
read are left for the maps to move it."""

EMPTY = 0.02
"""Mean of what lies in the margin, as a part of the mean of the picture, up to which it counts as empty."""

SMALLEST = 20
"""Shortest side that is read as it is; a shorter one is enlarged to `ENLARGED` pixels."""
ENLARGED = 24


@dataclass(frozen=True)
class Frame:
    """Which part of a picture a network reads, and in how many pixels.

    Attributes:
        sides: rows and columns of the picture.
        crop: rows and columns of its centre that are read.
        read: rows and columns that the network gets.
    """

    sides: tuple[int, int]
    crop: tuple[int, int]
    read: tuple[int, int]

    @property
    def padding(self) -> str:
        """What lies outside the picture: nothing if its edge is empty, else the edge's own pixels."""
        return "border" if self.crop == self.sides else "zeros"

    @property
    def enlarged(self) -> bool:
        """Whether the network reads more pixels than there are."""
        return self.read != self.crop

    def narrow(self, ink: Tensor, down: int = 0, right: int = 0) -> Tensor:
        """Cut what is read (N, C, *read) out of pictures (N, C, *sides), some pixels off the centre."""
        (rows, columns), (tall, wide) = self.read, ink.shape[2:]
        top, left = (tall - rows) // 2 + down, (wide - columns) // 2 + right
        outside = max(-top, -left, top + rows - tall, left + columns - wide)
        if outside > 0:  # only if the whole picture is read
            ink = F.pad(ink, [outside] * 4, mode="replicate")
            top, left = top + outside, left + outside
        return ink[:, :, top : top + rows, left : left + columns]

    def enlarge(self, ink: Tensor) -> Tensor:
        """Enlarge pictures (N, C, *sides) if the network reads more pixels than there are."""
        if not self.enlarged:
            return ink
        return F.interpolate(ink, size=self.read, mode="bilinear", align_corners=False)


def frame_of(sides: tuple[int, int], *, whole: bool = False) -> Frame:
    """Return what a network reads of pictures: the centre, or the `whole`; small pictures are enlarged."""
    margin = _margin(sides)
    if whole or min(sides) < SMALLEST:
        rows, columns = (ENLARGED if side < SMALLEST else side for side in sides)
        return Frame(sides, sides, (rows, columns))
    crop = sides[0] - 2 * margin, sides[1] - 2 * margin
    return Frame(sides, crop, crop)


def _margin(sides: tuple[int, int]) -> int:
    return round(min(sides) * MARGIN)


def fills_its_frame(pixels: np.ndarray | Tensor) -> bool:
    """Tell whether there is ink in the margin of pictures."""
    rows, columns = pixels.shape[1:3]
    margin = _margin((rows, columns))
    some = torch.as_tensor(pixels)[:: max(1, len(pixels) // 1000)].float()
    inner = some[:, margin : rows - margin, margin : columns - margin]
    whole = float(some.sum())
    outer = (whole - float(inner.sum())) / (some.numel() - inner.numel())
    return outer > EMPTY * whole / some.numel()


def random_maps(
    count: int,
    random: torch.Generator,
    half_widths: tuple[float, float, float, float],
    frame: Frame,
    *,
    mirror: bool = False,
) -> Tensor:
    """Draw affine maps, float32 (count, 2, 3), from the crop's coordinates to the picture's, both in [-1, 1].

    They lie on the generator's device. Each rotates, scales, shears and shifts about the centre.

    Args:
        half_widths: of the uniform distributions: rotation in radians, scale and shear as factors, shift in
            halves of the picture's side.
        frame: what is read of a picture.
        mirror: whether half of the maps exchange left and right.
    """
    most_turn, most_scale, most_shear, most_shift = half_widths
    drawn = torch.rand(5, count, generator=random, device=random.device) * 2 - 1
    turn, scale, shear, right, down = drawn.unbind()
    turn, scale, shear = turn * most_turn, 1 + scale * most_scale, shear * most_shear
    right, down = right * most_shift, down * most_shift
    (tall, wide), (rows, columns) = frame.sides, frame.crop
    crop = columns / wide  # a map that does not rotate, scale, shear or shift is the crop, pixel for pixel
    cos, sin = crop * scale * turn.cos(), crop * scale * turn.sin()
    # In halves of a side a pixel down is another length than a pixel to the right, if the sides differ.
    down_in, down_out = rows / columns, wide / tall
    across, along = cos, sin * down_out
    if mirror:
        flip = torch.randint(0, 2, (count,), generator=random, device=random.device) * 2 - 1
        across, along = across * flip, along * flip
    x_of_y, y_of_y = (shear * cos - sin) * down_in, (shear * sin + cos) * (down_in * down_out)
    return torch.stack([across, x_of_y, right, along, y_of_y, down], dim=1).view(count, 2, 3)


def scaled(
    half_widths: tuple[float, float, float, float], amount: float
) -> tuple[float, float, float, float]:
    """Return the half-widths of maps that are `amount` times as strong."""
    turn, scale, shear, shift = half_widths
    return turn * amount, scale * amount, shear * amount, shift * amount


def lean(pixels: Tensor) -> Tensor:
    """Return how far grey pictures uint8 (N, rows, columns) lean: to the right for each step down, (N,).

    It is the slope of the line that fits the ink's columns to its rows, at most 45 degrees; 0 for an empty
    picture. The step down is half of the picture's height, what it leans by is in halves of its width.
    """
    tall, wide = pixels.shape[1:]
    ink = pixels.float()
    down_place, right_place = (
        torch.arange(side, device=pixels.device) - (side - 1) / 2 for side in (tall, wide)
    )
    rows, columns = ink.sum(2), ink.sum(1)
    mass = rows.sum(1).clamp(min=1)
    down, right = rows @ down_place / mass, columns @ right_place / mass
    covariance = ink @ right_place @ down_place / mass - down * right
    variance = rows @ down_place**2 / mass - down**2
    return (covariance / variance.clamp(min=1)).clamp(-1, 1) * (tall / wide)


def straightened(maps: Tensor, leans: Tensor) -> Tensor:
    """Return the maps (N, 2, 3) that draw digits of these `leans` as `maps` would draw them upright."""
    right, down = maps.unbind(1)
    return torch.stack([right + leans[:, None] * down, down], 1)


def to_ink(pixels: Tensor) -> Tensor:
    """Turn pixels into float32 (N, channels, rows, columns), values 0..255."""
    ink = pixels[:, None] if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)
    return ink.float()


def crop_through(pixels: Tensor, maps: Tensor, frame: Frame) -> Tensor:
    """Crop pixels through affine maps (N, 2, 3) to ink float32 (N, channels, *frame.read), bilinear."""
    return draw(to_ink(pixels) * INK_SCALE, maps, frame.read, frame.padding)


def draw(ink: Tensor, maps: Tensor, sides: tuple[int, int], padding: str = "zeros") -> Tensor:
    """Draw pictures (N, C, H, W) through affine maps (N, 2, 3): (N, C, *sides), bilinear."""
    grid = F.affine_grid(maps, [ink.shape[0], ink.shape[1], *sides], align_corners=False)
    return F.grid_sample(ink, grid, padding_mode=padding, align_corners=False)
