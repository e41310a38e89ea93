"""A look at pictures that were read: a file can be right in form, and hold no digits like MNIST's."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mnist_core.spec import CompetitionSpec

_ROWS = 500  # that are checked, evenly spread
_FEWEST = 4  # of fewer pictures nothing can be said
_ENOUGH = 300  # labels of which every class should have some


def oddities(pixels: NDArray[np.uint8], labels: NDArray[np.int64] | None, spec: CompetitionSpec) -> list[str]:
    """Return what is odd about pictures, uint8 (N, 28, 28), and their labels, a sentence each; [] as a rule.

    Of MNIST's digits 75 % are clearly taller than wide, and 9 % wider than tall.
    """
    if len(pixels) < _FEWEST or min(spec.picture_shape) < 16:
        return []
    some = pixels[:: max(1, len(pixels) // _ROWS)]
    found = []
    border = np.concatenate([some[:, 0], some[:, -1], some[:, :, 0], some[:, :, -1]], 1)
    if (np.median(border, 1) > 127).mean() > 0.5:
        found.append("the pictures seem to be black on white: subtract each pixel from 255")
    elif some.max() <= 1:
        found.append("no pixel is above 1: multiply them by 255 if they were scaled")
    else:
        ink = some > 64
        height, width = _extent(ink.max(2)), _extent(ink.max(1))
        tall, wide = (height > width + 1).sum(), (width > height + 1).sum()
        if wide > 2 * tall and 2 * wide >= len(some):
            found.append(
                "the digits seem to lie on their side, more are wide than tall: exchange rows and columns"
            )
    if labels is not None and len(labels) >= _ENOUGH:
        missing = np.flatnonzero(np.bincount(labels, minlength=spec.class_count) == 0)
        if len(missing):
            found.append(f"no picture is labelled {', '.join(spec.classes[label] for label in missing)}")
    return found


def _extent(there: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return the length from the first True to the last of each row, int (N,); all of it if there is none."""
    return there.shape[1] - there.argmax(1) - there[:, ::-1].argmax(1)
