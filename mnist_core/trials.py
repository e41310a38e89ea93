"""One trial of a recipe: train it without a fold, and measure it on that fold."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mnist_core.errors import DivergedError

if TYPE_CHECKING:
    from mnist_core.digits import Digits
    from mnist_core.recipes import Values

LEAST = 1e-12
"""Probabilities are cut here before their logarithm is taken."""


@dataclass(frozen=True)
class Measured:
    """How a trial ended.

    Attributes:
        loss: mean log loss of the held-out rows in nats, at the temperature that makes it lowest; None if
            training diverged.
        errors: held-out rows that are wrong; None if training diverged.
        rows: held-out rows.
        epochs: passes of the training.
        seconds: of training and measuring.
    """

    loss: float | None
    errors: int | None
    rows: int
    epochs: int
    seconds: float


def run_trial(
    digits: Digits,
    folds: NDArray[np.uint8],
    fold: int,
    model: str,
    preset: str,
    values: Values,
    *,
    seed: int,
    member: int | None = None,
    device: str = "auto",
) -> Measured:
    """Train a recipe on all rows but those of a fold, and measure it on these.

    The temperature is fitted to the same rows: with label smoothing probabilities are not calibrated, and a
    recipe is not to win by that alone.

    Args:
        digits: with labels.
        folds: uint8 (N,), as `assign_folds` gives them.
        fold: the one to hold out.
        model, preset, values, seed, member, device: as `fit` takes them.

    Raises:
        ModelError: a value is not within its bounds, or there is no such model.
    """
    from mnist_core.evaluation import calibrate
    from mnist_core.inference import predict
    from mnist_core.training import fit, recipe_of

    recipe = recipe_of(model, preset, member=member, values=values, spec=digits.spec)[1]
    started = time.perf_counter()
    rows, held_out = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
    labels = digits.true_labels[held_out]

    def ended(loss: float | None, errors: int | None) -> Measured:
        seconds = round(time.perf_counter() - started, 3)
        return Measured(loss, errors, len(held_out), recipe.epochs, seconds)

    try:
        net = fit(digits, model, preset, rows=rows, seed=seed, device=device, member=member, values=values)
        probabilities = predict(net, digits.pixels[held_out])
        temperature = calibrate(probabilities, labels, digits.spec)
    except DivergedError:
        return ended(None, None)
    logits = np.log(np.maximum(probabilities.astype(np.float64), LEAST)) / temperature
    of_label = logits[np.arange(len(labels)), labels] - np.log(np.exp(logits).sum(1))
    return ended(float(-of_label.mean()), int((probabilities.argmax(1) != labels).sum()))
