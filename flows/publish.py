"""A network and what it says of the rows left out → a published version."""

import functools
import hashlib
import logging
import subprocess
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version as installed_version
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows import report
from flows.registry import Registry, Work
from flows.store.lists import get_object
from mnist_core.errors import MnistError

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

log = logging.getLogger("mnist")
HARDEST = 24
"""Digits in the picture of the hardest."""


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What a version says of the rows that it was not trained on.

    Attributes:
        rows: int64 (M,), rows of train.csv.
        labels: int64 (M,), their digits.
        probabilities: float32 (M, 10).
    """

    rows: "np.ndarray"
    labels: "np.ndarray"
    probabilities: "np.ndarray"


def read_held_out(registry: Registry, version: str) -> HeldOut:
    """Read a version's held-out predictions, checked by digest."""
    import numpy as np

    manifest = registry.version(version)
    if manifest is None:
        raise MnistError(
            f"version {version} is not in the store any more, and a champion names it; "
            "`python -m flows rollback` gives the title to the one before"
        )
    content = get_object(registry.store, manifest["objects"]["held_out.npz"])
    with np.load(BytesIO(content), allow_pickle=False) as file:
        return HeldOut(file["rows"], file["labels"], file["probabilities"])


def publish(
    net: "nn.Module",
    held_out: HeldOut,
    pixels: "np.ndarray",
    work: Work,
    registry: Registry,
    facts: dict[str, Any],
    *,
    learner: bool = True,
) -> str:
    """Evaluate, draw, export and publish a network.

    Args:
        pixels: uint8 (M, 28, 28), of the rows left out.
        facts: what its manifest says beside: `data_digest`, `preset`, `seconds`, …
        learner: whether it has a learner.pkl, for which fastai is needed.

    Returns:
        The version's name.
    """
    import numpy as np

    from mnist_core import evaluate, export
    from mnist_core.drawing import confusion_picture, error_captions, sheet

    labels, probabilities = held_out.labels, held_out.probabilities
    evaluation = evaluate(probabilities, labels)
    hardest = evaluation.hardest[:HARDEST]
    captions = error_captions(labels[hardest], probabilities[hardest])
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        np.savez(folder / "held_out.npz", rows=held_out.rows, labels=labels, probabilities=probabilities)
        sheet(pixels[hardest], columns=8, scale=3, captions=captions).save(folder / "hardest.png")
        confusion_picture(evaluation.confusion).save(folder / "confusion.png")
        facts |= {
            "code_version": code_version(),
            "night": work.night,
            "seed": seed_of(work),
            "valid_rows": evaluation.n,
            "valid_accuracy": evaluation.accuracy,
            "valid_interval": list(evaluation.interval),
            "confusion": evaluation.confusion.tolist(),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        manifest = export(net, folder, facts, learner=learner)
        with report.progress("publish") as progress:
            name = registry.publish(work, manifest, folder, progress)
    log.info("published %s: %.4f on %d held-out rows", name, evaluation.accuracy, evaluation.n)
    return name


def seed_of(work: Work) -> int:
    """The seed, 0 to 2^31 - 1: the one that was given, or the one that follows from night and attempt.

    Each member of an ensemble has its own: the given one and its number, or one that follows from it too.
    """
    if work.seed is not None:
        return (work.seed + (work.member or 0)) % 2**31
    member = "" if work.member is None else f"/{work.member}"
    digest = hashlib.sha256(f"{work.night}/{work.attempt}{member}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


@functools.cache
def code_version() -> str:
    """The package's version, and the commit where this is a checkout."""
    root = Path(__file__).parents[1]
    if (root / ".git").exists():
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=root, capture_output=True, text=True, check=False
        )
        if found.returncode == 0:
            return f"{installed_version('mnist-nightly')}+{found.stdout.strip()}"
    return installed_version("mnist-nightly")
