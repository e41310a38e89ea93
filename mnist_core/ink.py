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
_FULL = 0.5  # of the pixels: what fills more is paper in a dark frame
_STRONG = 0.5  # of the strongest ink: lines printed on paper are paler than a pen
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
    """Strokes that do not reach the border: the ink of the whole picture, how strong it is, and the parts."""

    ink: Ink
    strength: float
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
        return _Strokes(plain, 1.0, _parts(plain > 0.4)).checked()
    found = [one for one in (_in_photograph(grey), _in_photograph(255 - grey)) if one is not None]
    if found:  # a digit encloses its holes, and a pen is darker than what is printed on paper
        return max(found, key=lambda one: one.strength**2 * one.main.box).digit()
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
    return ink / ink.max() if ink.max() >= _FAINT else None


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
    )


def _in_photograph(grey: Grey) -> _Strokes | None:
    """Return the dark strokes of a photograph; None if there are none."""
    window = max(3, min(grey.shape) // 4)
    paper = 255 - _dilate(255 - _dilate(grey, window), window)
    stroke = (paper - grey).astype(np.float32)  # paper is never darker
    ink = stroke / np.maximum(paper, 32)  # in the shade ink and paper are darker by the same factor
    noise = np.median(ink) + 3 * 1.4826 * np.median(abs(ink - np.median(ink)))
    ink = np.maximum(ink - noise, 0)
    ink[stroke - np.median(stroke) < _FAINT] = 0
    if not ink.any():
        return None
    strength = float(np.percentile(ink[ink > 0], 99))
    height, width = grey.shape
    parts = [
        part
        for part in _parts(ink > _STRONG * strength)
        if part.top > 1 and part.left > 1 and part.bottom < height - 1 and part.right < width - 1
    ]
    speck = max(4, min(grey.shape) // 32)
    if all(max(part.bottom - part.top, part.right - part.left) <= speck for part in parts):
        return None
    found = _Strokes(ink.astype(np.float32), strength, parts)
    return found if len(found.large) <= _MOST_PARTS else None


def _dilate(grey: Grey, window: int) -> Grey:
    """Return the largest value of a square window around each pixel."""
    for axis in (0, 1):
        reach = window // 2
        padded = np.pad(grey, [(reach, reach) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
        length = grey.shape[axis]
        done = 1
        while done < 2 * reach + 1:  # each step doubles how many values a maximum covers
            step = min(done, 2 * reach + 1 - done)
            size = padded.shape[axis] - step
            padded = np.maximum(padded.take(range(size), axis), padded.take(range(step, size + step), axis))
            done += step
        grey = padded.take(range(length), axis)
    return grey


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
