"""The maps: what they draw, and digits that are straightened."""

import pytest
import torch

from mnist_core.models.augment import INK_SCALE, crop_through, frame_of, lean, random_maps, straightened
from mnist_core.models.convnet import STRONG
from tests.core.models.patterns import noise

FRAME = frame_of((28, 28))
SIDE, CROP = FRAME.sides[0], FRAME.crop[0]
CENTRE = torch.tensor([[CROP / SIDE, 0, 0], [0, CROP / SIDE, 0]])
"""The map that neither rotates, scales, shears nor shifts."""


def test_the_map_that_changes_nothing_is_the_centre_crop():
    """Training and inference crop alike: the map without any change copies 24 × 24 pixels."""
    pixels = torch.from_numpy(noise(4))

    ink = crop_through(pixels, CENTRE.expand(4, 2, 3), FRAME)

    torch.testing.assert_close(ink[:, 0], pixels[:, 2:26, 2:26] * INK_SCALE)


def test_a_map_shifts_by_halves_of_the_side():
    """A shift of 2 / 28 reads one pixel further to the right, and one of -2 / 28 one pixel further up."""
    pixels = torch.from_numpy(noise(1))
    shifted = CENTRE[None] + torch.tensor([[0, 0, 2 / 28], [0, 0, -2 / 28]])

    ink = crop_through(pixels, shifted, FRAME)

    torch.testing.assert_close(ink[:, 0], pixels[:, 1:25, 3:27] * INK_SCALE)


def test_a_digit_that_leans_is_straightened():
    """A stroke that moves a column every two rows leans by a half, and is upright afterwards."""
    stroke = torch.zeros(1, 28, 28, dtype=torch.uint8)
    for row in range(4, 24):
        stroke[0, row, 8 + row // 2 : 11 + row // 2] = 255

    leans = lean(stroke)
    ink = crop_through(stroke, straightened(CENTRE[None], leans), FRAME)
    drawn = torch.zeros(1, 28, 28, dtype=torch.uint8)
    drawn[:, 2:26, 2:26] = (ink[:, 0] / INK_SCALE).round().byte()

    assert leans.item() == pytest.approx(0.5, abs=0.01)
    assert lean(drawn).item() == pytest.approx(0, abs=0.02)


def test_an_empty_picture_does_not_lean():
    """No ink is no division by zero."""
    assert lean(torch.zeros(1, 28, 28, dtype=torch.uint8)).item() == 0


def test_random_maps_stay_within_their_bounds():
    """Ten thousand maps rotate, scale and shift up to the stated amounts, both ways, and never beyond."""
    rotation, most_scale, _shear, shift = STRONG
    maps = random_maps(10_000, torch.Generator().manual_seed(0), STRONG, FRAME)

    turn = torch.atan2(maps[:, 1, 0], maps[:, 0, 0])
    scale = maps[:, :, 0].norm(dim=1) * SIDE / CROP
    for value, centre, bound in [
        (turn, 0, rotation),
        (scale, 1, most_scale),
        (maps[:, 0, 2], 0, shift),
        (maps[:, 1, 2], 0, shift),
    ]:
        assert value.max() == pytest.approx(centre + bound, abs=0.002)
        assert value.min() == pytest.approx(centre - bound, abs=0.002)
