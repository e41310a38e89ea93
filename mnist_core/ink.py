"""Finding the ink of one digit in a picture in grey: on plain paper, and in a photograph.

On plain paper the border shows the background, and what differs from it is ink. In a photograph light falls
off, a shadow crosses the paper, it has lines, or a table shows at its edge. There a stroke is what is thinner
than a window that slides over the picture (a top-hat transform: J. Serra, Image Analysis and Mathematical
Morphology, 1982), strong, and does not reach the border, or as little as a stroke that is cut off there.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mnist_core.errors import DataError
from mnist_core.parts import Grey, Mask, Part, dilate, dilate_along, parts_of

Ink = NDArray[np.float32]

FAINTEST = 0.1
"""Of the strongest ink: what is fainter does not belong to the digit's box."""

_FAINT = 16  # of 255: what differs less from the background is no ink
_CLEAR = 2  # times as much as the background varies: less ink is not told from it on plain paper
_FULL = 0.5  # of the pixels: what fills more is paper in a dark frame
_STRONG = 0.6  # of the strongest ink: lines printed on paper are paler than a pen
_HAIRLINES = (0.2, 0.3, 0.4)  # of the strongest ink: thin strokes may be as pale as lines of the paper
_ON_PAPER = 0.45  # of what surrounds a digit at least is paper, of which a part may lie in a hard shadow
_SHARP = 0.2  # of the ink: what changes less at its outline is light
_PART = 0.03  # of the main part's pixels that a part of the same digit has at least
_MOST_PARTS = 8  # of a digit: more are the pattern of the paper
_SAME_PEN = 0.8  # of the main part's darkness: what is paler was not written with its pen
_NEAR = 0.25  # of its longer edge: how far from a digit a part of it may be
_TALL = 0.6  # of the height of all ink: two pieces side by side that are as tall are two digits


@dataclass(frozen=True)
class _Strokes:
    """What may be a digit, and what stands beside it.

    Attributes:
        ink: of the whole picture.
        strength: of the strongest ink: the contrast to its paper, 0..1.
        sharpness: of its outline, 0..1; see `_sharpness`.
        parts: the connected pieces.
    """

    ink: Ink
    strength: float
    sharpness: float
    parts: list[Part]

    @property
    def main(self) -> Part:
        """The part that takes most room, and is not a line."""
        return max(self.parts, key=lambda part: (not part.is_flat, part.box))

    @property
    def large(self) -> list[Part]:
        """The main part, and those that are not tiny beside it."""
        least = _PART * len(self.main.pixels)
        return [part for part in self.parts if len(part.pixels) >= least]

    def digit(self, plain: bool = False) -> Ink:
        """Return the ink of the main part and of what belongs to it.

        Args:
            plain: all around it is paper.

        Raises:
            DataError: another digit stands beside it.
        """
        main = self.main
        own_pen = _SAME_PEN * np.median(self.ink.ravel()[main.pixels])
        written = [part for part in self.large if np.median(self.ink.ravel()[part.pixels]) >= own_pen]
        if _are_two(written):
            raise DataError("the picture shows two digits, it seems", "cut out one of them")
        digit, others = main, [part for part in self.large if part is not main]
        while beside := [part for part in others if part.is_near(digit, _NEAR * digit.edge)]:
            digit = functools.reduce(Part.joined, beside, digit)
            others = [part for part in others if not any(part is one for one in beside)]
        if plain:
            return _cut_out(self.ink, digit, others)
        kept = np.zeros(self.ink.size, np.uint8)
        kept[digit.pixels] = 1
        ink = np.where(dilate(kept.reshape(self.ink.shape), 5) > 0, self.ink, 0)
        return ink / ink.max()


def _cut_out(ink: Ink, digit: Part, others: list[Part]) -> Ink:
    """Return the ink in and around a digit's box, soft edges included, without other parts."""
    margin = digit.edge // 10 + 2
    kept = np.zeros_like(ink)
    box = tuple(
        slice(max(0, low - margin), high + margin)
        for low, high in ((digit.top, digit.bottom), (digit.left, digit.right))
    )
    kept[box] = ink[box]
    for part in others:
        kept.ravel()[part.pixels] = 0
    return kept


def _are_two(parts: list[Part]) -> bool:
    """Tell whether parts are two digits side by side, with paper between them from top to bottom."""
    first, *others = sorted(parts, key=lambda part: part.left)
    height = max(part.bottom for part in parts) - min(part.top for part in parts)
    pieces = [first]
    for part in others:
        if part.left - pieces[-1].right <= 0.05 * height:
            pieces[-1] = pieces[-1].joined(part)
        else:
            pieces.append(part)
    least = 0.3 * max(len(piece.pixels) for piece in pieces)
    return sum(piece.height >= _TALL * height and len(piece.pixels) >= least for piece in pieces) > 1


def find_ink(grey: Grey) -> Ink:
    """Return how much of each pixel is ink of the digit, float32 0..1.

    Raises:
        DataError: nothing stands out from the background, or there are two digits.
    """
    plain = _on_plain_paper(grey)
    if plain is not None and _is_plausible(plain):
        return _Strokes(plain, 1.0, 1.0, parts_of(plain > 0.4)).digit(plain=True)
    found = [one for one in (_in_photograph(grey, False), _in_photograph(grey, True)) if one is not None]
    if found:  # a digit encloses its holes, a pen is darker than what is printed, and light has no edges
        return max(found, key=lambda one: (one.strength * one.sharpness) ** 2 * one.main.box).digit()
    if plain is None or not _is_cropped(plain):
        raise DataError("the picture is blank: nothing stands out from its background")
    return plain


def _is_cropped(ink: Ink) -> bool:
    """Tell whether ink is one piece that reaches the border here and there: a digit without a margin."""
    parts = parts_of(ink > 0.4)
    on_border = border_of((ink > 0.4).astype(np.uint8))
    main = max(len(part.pixels) for part in parts)
    return main > 0.9 * sum(len(part.pixels) for part in parts) and 0 < float(on_border.mean()) < 0.25


def box_of(there: Mask) -> tuple[slice, slice]:
    """Return rows and columns of the smallest box around all that is True; at least one value must be."""
    rows, columns = np.flatnonzero(there.any(1)), np.flatnonzero(there.any(0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def border_of(grey: Grey) -> Grey:
    """Return the pixels of the border."""
    return np.concatenate([grey[0], grey[-1], grey[1:-1, 0], grey[1:-1, -1]])


def with_full_strokes(ink: Ink, width: float) -> Ink:
    """Return ink with those strokes wider that are thinner than `width` pixels.

    A hairline would fade as the picture shrinks: its ink is spread over a pixel that is mostly paper.
    """
    window = round(width) // 2 * 2 + 1
    if window < 3:
        return ink
    grey = np.rint(255 * ink).astype(np.uint8)
    wide = dilate(255 - dilate(255 - grey, window), window)
    thin = np.where(dilate(wide, window) < grey // 2, grey, 0)
    return np.maximum(ink, dilate(thin, window).astype(np.float32) / 255)


def _on_plain_paper(grey: Grey) -> Ink | None:
    """Return how much each pixel differs from the background of the border, 0..1; None if nothing does."""
    border = border_of(grey).astype(np.float32)
    background = np.median(border)
    noise = 3 * 1.4826 * np.median(abs(border - background))  # three standard deviations of the background
    lighter = np.maximum(grey - (background + noise), 0, dtype=np.float32)
    darker = np.maximum((background - noise) - grey, 0, dtype=np.float32)
    ink = lighter if (lighter**2).sum() > (darker**2).sum() else darker
    # Where light falls off, the border is so uneven that what exceeds it is only a part of the ink.
    return ink / ink.max() if ink.max() >= max(_FAINT, _CLEAR * noise) else None


def _is_plausible(ink: Ink) -> bool:
    """Tell whether ink can be a digit on plain paper: within the border, no page, and without far specks."""
    faint = ink > FAINTEST
    height, width = ink.shape
    rows, columns = box_of(faint)
    strong_rows, strong_columns = box_of(ink > 0.4)
    reach = 0.1 * max(strong_rows.stop - strong_rows.start, strong_columns.stop - strong_columns.start)
    return (
        min(rows.start, columns.start, height - rows.stop, width - columns.stop) > 0
        and float(faint.mean()) < _FULL
        and max(strong_rows.start - rows.start, rows.stop - strong_rows.stop) <= reach + 2
        and max(strong_columns.start - columns.start, columns.stop - strong_columns.stop) <= reach + 2
        and _sharpness(np.rint(255 * ink).astype(np.uint8), 255, ink > 0.4) > _SHARP
    )


def _sharpness(grey: Grey, contrast: Ink | float, there: Mask) -> float:
    """Return how much of the contrast, 0..1, comes and goes within a few pixels along the outline of ink.

    A pen has an edge all around, even out of focus; a lamp's reflection has none, and a strip of the paper
    between the digit and the table has one in part.
    """
    window = max(5, min(grey.shape) // 40)
    change = (dilate(grey, window) - (255 - dilate(255 - grey, window))) / contrast
    outline = there & (dilate(255 - 255 * there.astype(np.uint8), 3) > 0)
    return float(np.percentile(np.minimum(change, 1)[outline], 20))


def _in_photograph(grey: Grey, light: bool) -> _Strokes | None:
    """Return the dark strokes of a photograph, or its light ones; None if there are none."""
    window = max(3, min(grey.shape) // 4)
    shown = 255 - grey if light else grey
    paper = 255 - dilate(255 - dilate(shown, window), window)
    stroke = (paper - shown).astype(np.float32)  # paper is never darker
    # In the shade ink and paper are darker by the same factor.
    bright = np.maximum(dilate(grey, window) if light else paper, 32).astype(np.float32)
    ink = stroke / bright
    noise = np.median(ink) + 3 * 1.4826 * np.median(abs(ink - np.median(ink)))
    ink = np.maximum(ink - noise, 0)
    ink[stroke - np.median(stroke) < _FAINT] = 0
    if not ink.any():
        return None
    strength = float(np.percentile(ink[ink > 0], 99))
    there = parts_of(ink > _STRONG * strength)
    speck = max(4, min(grey.shape) // 32)
    for belongs in (Part.is_inside, Part.is_cut):
        parts = [part for part in there if belongs(part, grey.shape)]
        if any(part.edge > speck and not part.is_flat for part in parts):
            break
    else:
        return None
    sharpness = _sharpness(grey, strength * bright, ink > _STRONG * strength)
    if belongs is Part.is_cut and sharpness <= _SHARP:
        return None
    found = _Strokes(ink, strength, sharpness, _with_hairlines(ink / strength, parts))
    return found if len(found.large) <= _MOST_PARTS and _is_on_paper(grey, found.main) else None


def _is_on_paper(grey: Grey, part: Part) -> bool:
    """Tell whether much of what surrounds a part is like what it borders on, and not like the part.

    A strip of paper between the digit and the table is not: there is more of the same paper beside it.
    """
    height, width = grey.shape
    reach = max(part.edge, 8) // 2
    near = (
        slice(max(part.top - reach, 0), min(part.bottom + reach, height)),
        slice(max(part.left - reach, 0), min(part.right + reach, width)),
    )
    mask = np.zeros(grey.size, np.uint8)
    mask[part.pixels] = 1
    own = mask.reshape(grey.shape)[near]
    beside = (dilate(own, 9) > 0) & (dilate(own, 3) == 0)
    if not beside.any():
        return True
    shown = np.log(grey[near] + 8.0)  # in the shade all are darker by the same factor
    ink, paper = np.median(shown[own > 0]), np.median(shown[beside])
    return bool((abs(shown - paper) <= abs(shown - ink)).mean() >= _ON_PAPER)


def _with_hairlines(ink: Ink, parts: list[Part]) -> list[Part]:
    """Return the parts grown by the paler strokes that join them; as they are if that leads to other things.

    Args:
        ink: 1 for the strongest.
        parts: of its strong strokes.
    """
    main = max(parts, key=lambda part: (not part.is_flat, part.box))
    pen = _pen_of(main, ink.shape)
    for faint in _HAIRLINES:
        there = ink > faint
        there &= ~(_long_lines(there) | _broad(there, 2 * pen))
        there.ravel()[np.concatenate([part.pixels for part in parts])] = True
        own = np.zeros(there.size, bool)
        own[main.pixels] = True
        grown = parts_of(there)
        joined = next(part for part in grown if own[part.pixels].any())
        if joined.is_inside(ink.shape) and joined.is_like(main):
            strong = np.zeros(there.size, bool)
            for part in parts:
                strong[part.pixels] = True
            return [part for part in grown if strong[part.pixels].any() and part.is_inside(ink.shape)]
    return parts


def _pen_of(part: Part, shape: tuple[int, ...]) -> float:
    """Return how wide the strokes of a part are, in pixels."""
    mask = np.zeros(shape, np.uint8)
    mask.ravel()[part.pixels] = 1
    outline = mask & dilate(1 - mask, 3)
    return 2 * len(part.pixels) / max(1, int(outline.sum()))


def _broad(there: Mask, width: float) -> Mask:
    """Return the pixels of what is broader than a pen, such as a shadow."""
    window = int(width) | 1
    core = 1 - dilate(1 - there.astype(np.uint8), window)
    return dilate(core, window + 2) > 0


def _long_lines(there: Mask) -> Mask:
    """Return the pixels of lines that run across half of a picture, such as those printed on paper."""
    lines = np.zeros_like(there)
    for mask, out in ((there, lines), (there.T, lines.T)):
        length = mask.shape[1] // 2
        thick = dilate(mask.astype(np.uint8), 3)
        core = 1 - dilate_along(1 - thick, length, 1)
        out |= dilate_along(core, length, 1) > 0
    return lines & there
