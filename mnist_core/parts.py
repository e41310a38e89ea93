"""Connected pieces of a mask, and the largest values around each pixel.

What scipy.ndimage and scikit-image have too, in numpy alone: the CPU image has neither.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.uint8]
Mask = NDArray[np.bool_]

_CUT = 0.25  # of its box's two edges: as much of a digit may lie on the border of the picture
_THIN = 1 / 12  # of its length: what is thinner is a line, unless it is upright and within the picture


@dataclass(frozen=True)
class Part:
    """A connected piece of ink: its pixels as flat indices, and its box."""

    pixels: NDArray[np.intp]
    top: int
    bottom: int
    left: int
    right: int

    @property
    def height(self) -> int:
        """Pixels from top to bottom."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Pixels from left to right."""
        return self.right - self.left

    @property
    def edge(self) -> int:
        """The longer edge of the box."""
        return max(self.height, self.width)

    @property
    def box(self) -> int:
        """Area of the box."""
        return self.height * self.width

    @property
    def is_flat(self) -> bool:
        """Tell whether it is a level line, as no digit is."""
        return self.height < _THIN * self.width

    def is_inside(self, shape: tuple[int, ...]) -> bool:
        """Tell whether it does not reach the border of a picture."""
        return self.top > 1 and self.left > 1 and self.bottom < shape[0] - 1 and self.right < shape[1] - 1

    def is_cut(self, shape: tuple[int, ...]) -> bool:
        """Tell whether it reaches the border as a stroke does that is not quite in the picture."""
        rows, columns = np.divmod(self.pixels, shape[1])
        sides = (rows <= 1, columns <= 1, rows >= shape[0] - 2, columns >= shape[1] - 2)
        on_border = int(np.any(sides, axis=0).sum())
        return (
            0 < on_border <= _CUT * 2 * (self.height + self.width)
            and sum(bool(side.any()) for side in sides) <= 2
            and min(self.height, self.width) >= _THIN * self.edge
        )

    def is_like(self, other: Part) -> bool:
        """Tell whether it is at most twice as tall and wide as another part that it has grown from."""
        return self.edge <= 2 * other.edge

    def is_near(self, other: Part, gap: float) -> bool:
        """Tell whether the boxes of two parts are at most `gap` pixels apart."""
        down = max(self.top, other.top) - min(self.bottom, other.bottom)
        across = max(self.left, other.left) - min(self.right, other.right)
        return max(down, across) <= gap

    def joined(self, other: Part) -> Part:
        """Return two parts as one."""
        return Part(
            np.concatenate([self.pixels, other.pixels]),
            min(self.top, other.top),
            max(self.bottom, other.bottom),
            min(self.left, other.left),
            max(self.right, other.right),
        )


def dilate(grey: Grey, window: int) -> Grey:
    """Return the largest value of a square window around each pixel."""
    return dilate_along(dilate_along(grey, window, 0), window, 1)


def dilate_along(grey: Grey, window: int, axis: int) -> Grey:
    """Return the largest value of a window around each pixel, of its column (0) or its row (1)."""
    if axis == 1:
        return np.ascontiguousarray(dilate_along(np.ascontiguousarray(grey.T), window, 0).T)
    reach = window // 2
    largest = np.pad(grey, ((reach, reach), (0, 0)), mode="edge")
    done = 1
    while done < 2 * reach + 1:  # each step doubles how many values a maximum covers
        step = min(done, 2 * reach + 1 - done)
        largest = np.maximum(largest[:-step], largest[step:])
        done += step
    return largest


def parts_of(there: Mask) -> list[Part]:
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
        parts.append(Part(pixels, int(rows[runs[0]]), int(rows[runs[-1]]) + 1, left, right))
    return parts
