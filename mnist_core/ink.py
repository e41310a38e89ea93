"""Finding the ink of one digit in a picture in grey: on plain paper, and in a photograph.

On plain paper the border shows the background, and what differs from it is ink. In a photograph light falls
off, a shadow crosses the paper, it has lines, or a table shows at its edge. There a stroke is what is thinner
than a window that slides over the picture (a top-hat transform: J. Serra, Image Analysis and Mathematical
Morphology, 1982), strong, and does not reach the border.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mnist_core.errors import DataError

Grey = NDArray[np.uint8]
Ink = NDArray[np.float32]
Mask = NDArray[np.bool_]

FAINTEST = 0.1
"""Of the strongest ink: what is fainter does not belong to the digit's box."""

_FAINT = 16  # of 255: what differs less from the background is no ink
_CLEAR = 2  # times as much as the background varies: less ink is not told from it on plain paper
_FULL = 0.5  # of the pixels: what fills more is paper in a dark frame
_STRONG = 0.5  # of the strongest ink: lines printed on paper are paler than a pen
_HAIRLINES = (
    0.2,
    0.3,
    0.4,
)  # of the strongest ink: thin strokes of the pen may be that pale, and so are lines
_SHARP = 0.2  # of the ink: what changes less at its outline is light
_PART = 0.03  # of the main part's pixels that a part of the same digit has at least
_MOST_PARTS = 8  # of a digit: more are the pattern of the paper
_OTHER = 0.5  # of the main part's height from which on a part beside it is a digit of its own


@dataclass(frozen=True)
class _Part:
    """A connected piece of ink: its pixels as flat indices, and its box."""

    pixels: NDArray[np.intp]
    top: int
    bottom: int
    left: int
    right: int

    @property
    def box(self) -> int:
        """Area of the box."""
        return (self.bottom - self.top) * (self.right - self.left)

    def is_inside(self, shape: tuple[int, ...]) -> bool:
        """Tell whether it does not reach the border of a picture."""
        return self.top > 1 and self.left > 1 and self.bottom < shape[0] - 1 and self.right < shape[1] - 1

    def is_like(self, other: _Part) -> bool:
        """Tell whether it is at most twice as tall and wide as another part that it has grown from."""
        edge = max(other.bottom - other.top, other.right - other.left)
        return max(self.bottom - self.top, self.right - self.left) <= 2 * edge

    def is_near(self, other: _Part, gap: float) -> bool:
        """Tell whether the boxes of two parts are at most `gap` pixels apart."""
        down = max(self.top, other.top) - min(self.bottom, other.bottom)
        across = max(self.left, other.left) - min(self.right, other.right)
        return max(down, across) <= gap

    def stands_beside(self, other: _Part) -> bool:
        """Tell whether this is as tall as a digit, and beside another part, not above or below it."""
        height = other.bottom - other.top
        gap = max(self.left, other.left) - min(self.right, other.right)
        return self.bottom - self.top >= _OTHER * height and gap > 0.05 * height


@dataclass(frozen=True)
class _Strokes:
    """Strokes that do not reach the border.

    Attributes:
        ink: of the whole picture.
        strength: of the strongest ink: the contrast to its paper, 0..1.
        sharpness: of its outline, 0..1; see `_sharpness`.
        parts: the connected pieces.
    """

    ink: Ink
    strength: float
    sharpness: float
    parts: list[_Part]

    @property
    def main(self) -> _Part:
        """The part that takes most room."""
        return max(self.parts, key=lambda part: part.box)

    @property
    def large(self) -> list[_Part]:
        """The main part, and those that are not tiny beside it."""
        least = _PART * len(self.main.pixels)
        return [part for part in self.parts if len(part.pixels) >= least]

    def checked(self) -> Ink:
        """Return the ink of the whole picture.

        Raises:
            DataError: another digit stands beside the main part.
        """
        main = self.main
        if any(
            part.stands_beside(main) and len(part.pixels) >= 0.3 * len(main.pixels) for part in self.large
        ):
            raise DataError("the picture shows two digits, it seems", "cut out one of them")
        return self.ink

    def digit(self) -> Ink:
        """Return the ink of the main part and of what belongs to it.

        Raises:
            DataError: another digit stands beside it.
        """
        self.checked()
        main = self.main
        kept = np.zeros(self.ink.size, np.uint8)
        for part in self.large:
            if part.is_near(main, 0.25 * (main.bottom - main.top)):
                kept[part.pixels] = 1
        ink = np.where(_dilate(kept.reshape(self.ink.shape), 5) > 0, self.ink, 0)
        return ink / ink.max()


def find_ink(grey: Grey) -> Ink:
    """Return how much of each pixel is ink of the digit, float32 0..1.

    Raises:
        DataError: nothing stands out from the background, or there are two digits.
    """
    plain = _on_plain_paper(grey)
    if plain is not None and _is_plausible(plain):
        return _Strokes(plain, 1.0, 1.0, _parts(plain > 0.4)).checked()
    found = [one for one in (_in_photograph(grey, False), _in_photograph(grey, True)) if one is not None]
    if found:  # a digit encloses its holes, a pen is darker than what is printed, and light has no edges
        return max(found, key=lambda one: (one.strength * one.sharpness) ** 2 * one.main.box).digit()
    if plain is None or not _is_cropped(plain):
        raise DataError("the picture is blank: nothing stands out from its background")
    return plain


def _is_cropped(ink: Ink) -> bool:
    """Tell whether ink is one piece that reaches the border here and there: a digit without a margin."""
    parts = _parts(ink > 0.4)
    on_border = border_of((ink > 0.4).astype(np.uint8))
    main = max(len(part.pixels) for part in parts)
    return main > 0.9 * sum(len(part.pixels) for part in parts) and 0 < on_border.mean() < 0.25


def box_of(there: Mask) -> tuple[slice, slice]:
    """Return rows and columns of the smallest box around all that is True; at least one value must be."""
    rows, columns = np.flatnonzero(there.any(1)), np.flatnonzero(there.any(0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def border_of(grey: Grey) -> Grey:
    """Return the pixels of the border."""
    return np.concatenate([grey[0], grey[-1], grey[1:-1, 0], grey[1:-1, -1]])


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
        and faint.mean() < _FULL
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
    change = (_dilate(grey, window) - (255 - _dilate(255 - grey, window))) / contrast
    outline = there & (_dilate(255 - 255 * there.astype(np.uint8), 3) > 0)
    return float(np.percentile(np.minimum(change, 1)[outline], 20))


def _in_photograph(grey: Grey, light: bool) -> _Strokes | None:
    """Return the dark strokes of a photograph, or its light ones; None if there are none."""
    window = max(3, min(grey.shape) // 4)
    shown = 255 - grey if light else grey
    paper = 255 - _dilate(255 - _dilate(shown, window), window)
    stroke = (paper - shown).astype(np.float32)  # paper is never darker
    # In the shade ink and paper are darker by the same factor.
    bright = np.maximum(_dilate(grey, window) if light else paper, 32).astype(np.float32)
    ink = stroke / bright
    noise = np.median(ink) + 3 * 1.4826 * np.median(abs(ink - np.median(ink)))
    ink = np.maximum(ink - noise, 0)
    ink[stroke - np.median(stroke) < _FAINT] = 0
    if not ink.any():
        return None
    strength = float(np.percentile(ink[ink > 0], 99))
    parts = [part for part in _parts(ink > _STRONG * strength) if part.is_inside(grey.shape)]
    speck = max(4, min(grey.shape) // 32)
    if all(max(part.bottom - part.top, part.right - part.left) <= speck for part in parts):
        return None
    sharpness = _sharpness(grey, strength * bright, ink > _STRONG * strength)
    found = _Strokes(ink, strength, sharpness, _with_hairlines(ink / strength, parts))
    return found if len(found.large) <= _MOST_PARTS and _is_on_paper(grey, found.main) else None


def _is_on_paper(grey: Grey, part: _Part) -> bool:
    """Tell whether most of what surrounds a part is like what it borders on, and not like the part.

    A strip of paper between the digit and the table is not: there is more of the same paper beside it.
    """
    height, width = grey.shape
    reach = max(part.bottom - part.top, part.right - part.left, 8) // 2
    near = (
        slice(max(part.top - reach, 0), min(part.bottom + reach, height)),
        slice(max(part.left - reach, 0), min(part.right + reach, width)),
    )
    mask = np.zeros(grey.size, np.uint8)
    mask[part.pixels] = 1
    own = mask.reshape(grey.shape)[near]
    beside = (_dilate(own, 9) > 0) & (_dilate(own, 3) == 0)
    if not beside.any():
        return True
    shown = np.log(grey[near] + 8.0)  # in the shade all are darker by the same factor
    usual, ink, paper = (np.median(values) for values in (shown, shown[own > 0], shown[beside]))
    return bool(abs(usual - paper) <= abs(usual - ink))


def _with_hairlines(ink: Ink, parts: list[_Part]) -> list[_Part]:
    """Return the parts grown by the paler strokes that join them; as they are if that leads to other things.

    Args:
        ink: 1 for the strongest.
        parts: of its strong strokes.
    """
    main = max(parts, key=lambda part: part.box)
    for faint in _HAIRLINES:
        there = ink > faint
        there &= ~_long_lines(there)
        there.ravel()[np.concatenate([part.pixels for part in parts])] = True
        own = np.zeros(there.size, bool)
        own[main.pixels] = True
        grown = _parts(there)
        joined = next(part for part in grown if own[part.pixels].any())
        if joined.is_inside(ink.shape) and joined.is_like(main):
            strong = np.zeros(there.size, bool)
            for part in parts:
                strong[part.pixels] = True
            return [part for part in grown if strong[part.pixels].any() and part.is_inside(ink.shape)]
    return parts


def _long_lines(there: Mask) -> Mask:
    """Return the pixels of lines that run across half of a picture, such as those printed on paper."""
    lines = np.zeros_like(there)
    for mask, out in ((there, lines), (there.T, lines.T)):
        length = mask.shape[1] // 2
        thick = _dilate(mask.astype(np.uint8), 3)
        core = 1 - _dilate_along(1 - thick, length, 1)
        out |= _dilate_along(core, length, 1) > 0
    return lines & there


def _dilate(grey: Grey, window: int) -> Grey:
    """Return the largest value of a square window around each pixel."""
    return _dilate_along(_dilate_along(grey, window, 0), window, 1)


def _dilate_along(grey: Grey, window: int, axis: int) -> Grey:
    """Return the largest value of a window around each pixel, of its column (0) or its row (1)."""
    reach = window // 2
    padded = np.pad(grey, [(reach, reach) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
    done = 1
    while done < 2 * reach + 1:  # each step doubles how many values a maximum covers
        step = min(done, 2 * reach + 1 - done)
        size = padded.shape[axis] - step
        padded = np.maximum(padded.take(range(size), axis), padded.take(range(step, size + step), axis))
        done += step
    return padded.take(range(grey.shape[axis]), axis)


def _parts(there: Mask) -> list[_Part]:
    """Return the connected pieces of a mask; diagonal neighbours are connected."""
    height, width = there.shape
    edges = np.diff(np.pad(there, [(0, 0), (1, 1)]).astype(np.int8), axis=1)
    rows, starts = np.nonzero(edges == 1)
    stops = np.nonzero(edges == -1)[1]
    root = list(range(len(rows)))

    def find(run: int) -> int:
        while root[run] != run:
            root[run] = root[root[run]]
            run = root[run]
        return run

    first_of = np.searchsorted(rows, np.arange(height + 1)).tolist()
    start, stop = starts.tolist(), stops.tolist()
    for row in range(1, height):
        above, above_end = first_of[row - 1], first_of[row]
        for run in range(first_of[row], first_of[row + 1]):
            while above < above_end and stop[above] < start[run]:
                above += 1
            other = above
            while other < above_end and start[other] <= stop[run]:
                root[find(run)] = find(other)
                other += 1
    groups: dict[int, list[int]] = {}
    for run in range(len(rows)):
        groups.setdefault(find(run), []).append(run)
    parts = []
    for runs in groups.values():
        pixels = np.concatenate([np.arange(start[run], stop[run]) + rows[run] * width for run in runs])
        left, right = min(start[run] for run in runs), max(stop[run] for run in runs)
        parts.append(_Part(pixels, int(rows[runs[0]]), int(rows[runs[-1]]) + 1, left, right))
    return parts
