"""Random affine maps, and digits drawn through them: the one augmentation, for every model that wants it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mnist_core.spec import DIGIT_RECOGNIZER

SIDE = DIGIT_RECOGNIZER.shape[0]
"""Of the square pictures, in pixels."""

CROP = 24
"""Side of the centre that the networks read: MNIST fits each digit into 20 × 20 and centres its mass in
28 × 28 (LeCun), so two pixels on each side of the digit are left for the maps to move it."""

INK_SCALE = 1 / (255 * 0.3081)
"""From bytes to unit spread: 0.3081 is the standard deviation of MNIST's pixels in [0, 1]. The mean stays
where it is: background is 0, which is also what convolutions and the affine map pad with."""


def random_maps(
    count: int, random: torch.Generator, half_widths: tuple[float, float, float, float]
) -> Tensor:
    """Draw affine maps, float32 (count, 2, 3), from the crop's coordinates to the picture's, both in [-1, 1].

    They lie on the generator's device. Each rotates, scales, shears and shifts about the centre.

    Args:
        half_widths: of the uniform distributions: rotation in radians, scale and shear as factors, shift in
            halves of the picture's side.
    """
    most_turn, most_scale, most_shear, most_shift = half_widths
    drawn = torch.rand(5, count, generator=random, device=random.device) * 2 - 1
    turn, scale, shear, right, down = drawn.unbind()
    turn, scale, shear = turn * most_turn, 1 + scale * most_scale, shear * most_shear
    right, down = right * most_shift, down * most_shift
    crop = (
        CROP / SIDE
    )  # a map that does not rotate, scale, shear or shift is the centre crop, pixel for pixel
    cos, sin = crop * scale * turn.cos(), crop * scale * turn.sin()
    return torch.stack([cos, shear * cos - sin, right, sin, shear * sin + cos, down], dim=1).view(count, 2, 3)


def lean(pixels: Tensor) -> Tensor:
    """Return how far digits uint8 (N, 28, 28) lean: columns to the right for each row down, (N,) in -1..1.

    It is the slope of the line that fits the ink's columns to its rows; 0 for an empty picture.
    """
    ink = pixels.float()
    place = torch.arange(SIDE, device=pixels.device) - (SIDE - 1) / 2
    rows, columns = ink.sum(2), ink.sum(1)
    mass = rows.sum(1).clamp(min=1)
    down, right = rows @ place / mass, columns @ place / mass
    covariance = ink @ place @ place / mass - down * right
    variance = rows @ place**2 / mass - down**2
    return (covariance / variance.clamp(min=1)).clamp(-1, 1)


def straightened(maps: Tensor, leans: Tensor) -> Tensor:
    """Return the maps (N, 2, 3) that draw digits of these `leans` as `maps` would draw them upright."""
    right, down = maps.unbind(1)
    return torch.stack([right + leans[:, None] * down, down], 1)


def crop_through(pixels: Tensor, maps: Tensor) -> Tensor:
    """Crop digits uint8 (N, 28, 28) through affine maps (N, 2, 3) to ink float32 (N, 1, 24, 24), bilinear."""
    return draw(pixels[:, None].float() * INK_SCALE, maps, CROP)


def draw(ink: Tensor, maps: Tensor, side: int) -> Tensor:
    """Draw pictures (N, 1, 28, 28) through affine maps (N, 2, 3): (N, 1, side, side), bilinear, 0 outside."""
    grid = F.affine_grid(maps, [ink.shape[0], 1, side, side], align_corners=False)
    return F.grid_sample(ink, grid, align_corners=False)
