"""Train a network on four folds of the rows and evaluate it on the fifth: what `mnist-core train` does."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_core.digits import Digits
from mnist_core.errors import ModelError
from mnist_core.evaluation import Evaluation, evaluate
from mnist_core.folders import write_pngs
from mnist_core.folds import assign_folds
from mnist_core.inference import predict
from mnist_core.models.network import Network
from mnist_core.progress import Progress
from mnist_core.recipes import Values
from mnist_core.spec import DIGIT_RECOGNIZER
from mnist_core.training import fit, pick_device

ORIGIN = "origin"
"""The preset of resnet18 that is the first original notebook's recipe. It is not a recipe for `fit`: it reads
PNGs and keeps its own split, RandomSplitter(0.2, seed=42)."""
ORIGIN_EPOCHS = 3
"""As the notebook trained, after one epoch for the head alone."""


@dataclass(frozen=True)
class Trained:
    """A network and how good it is on the rows that it was not trained on."""

    net: Network
    rows: int
    """Rows that it was trained on."""
    evaluation: Evaluation
    """On the held-out rows."""
    seconds: float
    """Of the training alone."""

    @property
    def facts(self) -> dict[str, Any]:
        """What a manifest says of it."""
        return {
            "rows": self.rows,
            "valid_rows": self.evaluation.n,
            "valid_accuracy": self.evaluation.accuracy,
            "valid_interval": list(self.evaluation.interval),
            "seconds": {"train": self.seconds},
        }


def fit_held_out(
    digits: Digits,
    data_digest: str,
    model: str,
    preset: str,
    *,
    seed: int = 0,
    device: str = "auto",
    epochs: int | None = None,
    pretrained: bool = False,
    teacher: Network | None = None,
    values: Values | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Train a network on all rows but those of fold 0, and evaluate it on these.

    Args:
        digits: with labels.
        data_digest: of the digits, in hexadecimal; it decides the folds.
        preset: one of the model's, or `ORIGIN` of resnet18, which keeps its own split.
        model, seed, device, epochs, pretrained, teacher, values, progress: as of `fit`.

    Raises:
        ModelError, DataError: as `fit` and `fit_origin`.
    """
    start = perf_counter()
    if preset == ORIGIN:
        net, held_out = _fit_origin(digits, seed, device, epochs, pretrained, progress)
    else:
        held_out = assign_folds(digits.true_labels, data_digest) == 0
        net = fit(
            digits, model, preset, rows=~held_out, seed=seed, device=device, epochs=epochs,
            pretrained=pretrained, teacher=teacher, values=values, progress=progress,
        )  # fmt: skip
    seconds = perf_counter() - start
    unseen = digits[held_out]
    evaluation = evaluate(predict(net, unseen.pixels), unseen.true_labels, digits.spec)
    return Trained(net, len(digits) - len(unseen), evaluation, seconds)


def _fit_origin(
    digits: Digits,
    seed: int,
    device: str,
    epochs: int | None,
    pretrained: bool,
    progress: Progress | None,
) -> tuple[Network, NDArray[np.bool_]]:
    """Return a network trained by the original recipe, and a mask of the rows that it held out."""
    from mnist_core.models.resnet.origin import fit_origin

    if not digits.spec.is_like(DIGIT_RECOGNIZER):
        raise ModelError(
            f"the preset {ORIGIN} is for pictures of {DIGIT_RECOGNIZER.size} pixels and classes "
            f"{DIGIT_RECOGNIZER.class_range}, and {digits.spec.name} has others",
            "choose another preset",
        )
    with tempfile.TemporaryDirectory() as folder:
        write_pngs(digits, Path(folder))
        found = fit_origin(
            Path(folder), pretrained=pretrained, seed=seed, epochs=epochs or ORIGIN_EPOCHS,
            device=pick_device(device), progress=progress,
        )  # fmt: skip
    held_out = np.zeros(len(digits), bool)
    held_out[[int(Path(file).stem) for file in found.valid_files]] = True
    return found.net, held_out
