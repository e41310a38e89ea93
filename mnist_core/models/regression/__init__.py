"""The digit as one number: the original notebooks' regression, in plain tensors. A lesson, not a contender.

Their net 784-150-150-150-130-1 with ReLU learns to put out the digit itself, by mean squared error, and the
number is rounded: 0.84817 on Kaggle, less than a linear model that tells classes apart (preset `linear` of
`scratch`).

A digit is a name, not an amount. To a regression a 3 that could be an 8 lies between them, at 5 or 6, and
nothing keeps a number within 0..9: some round to 10, 11 or -1. `to_csv` refuses these, or clips them if it is
asked to.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mnist_core.models.base import ModelKind, register
from mnist_core.models.scratch import Recipe

if TYPE_CHECKING:
    import numpy as np

ORIGINAL = Recipe(
    hidden=(150, 150, 150, 130), epochs=40, lr=0.01, falling=False, momentum=0.0, shift=0, batch_size=64
)
"""The original layers, loss, plain SGD and epochs. Learning rate and batch size are not known; these reach
the original accuracy, while twice the rate with 256 digits a batch diverged for one seed of four. The rate
does not fall, which is why the accuracy jumps from epoch to epoch, as it did in the notebook."""

PRESETS = {
    "fast": ORIGINAL,
    "balanced": replace(ORIGINAL, epochs=80),
    "best": replace(ORIGINAL, epochs=160),
}


def round_logits(logits: np.ndarray) -> np.ndarray:
    """Return the number behind each row of logits float32 (N, 10), rounded to int64 (N,).

    The logits are -(number - digit)² / 2, so those of the digits k + 1 and k - 1 differ by 2 (number - k).
    """
    import numpy as np

    if logits.shape[1] == 2:
        return np.rint(0.5 + logits[:, 1] - logits[:, 0]).astype(np.int64)
    rows, middle = np.arange(len(logits)), logits.argmax(1).clip(1, logits.shape[1] - 2)
    numbers = middle + (logits[rows, middle + 1] - logits[rows, middle - 1]) / 2
    return np.rint(numbers).astype(np.int64)


register(
    ModelKind(
        "scratch-regression",
        PRESETS,
        fit_from=f"{__name__}.net:fit",
        build_from=f"{__name__}.net:build",
        round_logits=round_logits,
    )
)
