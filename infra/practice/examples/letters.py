"""Letters drawn in many fonts, and distorted at random."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image

_HEIGHT = 56  # of a letter as it is drawn, before it is scaled down
_MARGIN = 24  # around it


@dataclass(frozen=True)
class Distortion:
    """How strongly letters are distorted: each amount is drawn uniformly, up to these.

    Attributes:
        size: lowest and highest height of a letter, as a share of the picture's.
        turn: rotation in degrees.
        slant: horizontal shear.
        stretch: change of the width, as a power of e.
        shift: offset from the centre, as a share of the picture.
        colour: whether letter and background have colours and a gradient; else white on black.
        noise: standard deviation of the noise.
    """

    size: tuple[float, float] = (0.45, 0.8)
    turn: float = 20
    slant: float = 0.25
    stretch: float = 0.25
    shift: float = 0.1
    colour: bool = True
    noise: float = 30


def draw_letters(
    letters: Sequence[str],
    fonts: Sequence[Path],
    shape: tuple[int, int, int],
    random: np.random.RandomState,
    distortion: Distortion,
) -> NDArray[np.uint8]:
    """Return a picture of each letter, uint8 (N, *shape), in fonts that are drawn at random.

    `RandomState` and not `default_rng`: NumPy promises never to change its stream (NEP 19).
    """
    drawn: dict[tuple[str, int], Image.Image] = {}
    pictures = np.empty((len(letters), *shape), np.uint8)
    for number, letter in enumerate(letters):
        font = int(random.randint(len(fonts)))
        if (letter, font) not in drawn:
            drawn[letter, font] = _draw(letter, fonts[font])
        ink = _distort(drawn[letter, font], shape, random, distortion)
        pictures[number] = _colour(ink, shape, random, distortion)
    return pictures


def _draw(letter: str, font: Path) -> Image.Image:
    """Return a letter in white on black, with a margin."""
    from PIL import Image, ImageDraw, ImageFont

    face = ImageFont.truetype(str(font), _HEIGHT)
    left, top, right, bottom = (int(edge) for edge in face.getbbox(letter))
    image = Image.new("L", (right - left + 2 * _MARGIN, bottom - top + 2 * _MARGIN))
    ImageDraw.Draw(image).text((_MARGIN - left, _MARGIN - top), letter, fill=255, font=face)
    return image


def _distort(
    drawn: Image.Image, shape: tuple[int, int, int], random: np.random.RandomState, distortion: Distortion
) -> NDArray[np.float64]:
    """Return a letter scaled, turned, slanted and moved into a picture: ink 0..1, float64 (rows, columns)."""
    from PIL import Image

    rows, columns, _ = shape
    angle = math.radians(random.uniform(-distortion.turn, distortion.turn))
    slant = random.uniform(-distortion.slant, distortion.slant)
    size = random.uniform(*distortion.size) * rows
    width, height = drawn.width - 2 * _MARGIN, drawn.height - 2 * _MARGIN
    wide = math.exp(random.uniform(-distortion.stretch, distortion.stretch))
    scale = max(height / size, width * wide / (columns * 0.9))
    # From a pixel of the picture to a pixel of the drawn letter.
    cosine, sine = math.cos(angle) * scale, math.sin(angle) * scale
    matrix = np.array([[cosine / wide, sine / wide], [-sine, cosine]]) @ np.array([[1, slant], [0, 1]])
    shift = random.uniform(-distortion.shift, distortion.shift, 2) * (columns, rows)
    middle = np.array([columns, rows]) / 2 + shift
    offset = np.array([drawn.width, drawn.height]) / 2 - matrix @ middle
    data = (*matrix[0], offset[0], *matrix[1], offset[1])
    moved = drawn.transform((columns, rows), Image.Transform.AFFINE, data, Image.Resampling.BILINEAR)
    return np.asarray(moved, np.float64) / 255


def _colour(
    ink: NDArray[np.float64],
    shape: tuple[int, int, int],
    random: np.random.RandomState,
    distortion: Distortion,
) -> NDArray[np.uint8]:
    """Return a letter in its colours, with noise, uint8 of this shape."""
    rows, columns, channels = shape
    if distortion.colour:
        letter, ground = random.uniform(0, 255, (2, channels))
        while abs(letter.mean() - ground.mean()) < 60:
            letter, ground = random.uniform(0, 255, (2, channels))
        slope = random.uniform(-40, 40, (2, channels))
        across, down = np.linspace(-1, 1, columns), np.linspace(-1, 1, rows)
        paper = ground + slope[0] * across[None, :, None] + slope[1] * down[:, None, None]
    else:
        letter, paper = np.full(channels, 255.0), np.zeros((rows, columns, channels))
    picture = paper + ink[:, :, None] * (letter - paper)
    picture += random.normal(0, random.uniform(0, distortion.noise), shape)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)
