"""A network and what it says of the rows left out → a published version."""

import functools
import hashlib
import logging
import subprocess
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows import report
from flows.held_out import HeldOut
from flows.records import RunKey
from flows.registry import Registry

if TYPE_CHECKING:
    import numpy as np

    from mnist_core.models.network import Network

log = logging.getLogger("mnist")
HARDEST = 24
"""Digits in the picture of the hardest."""


def publish(
    net: "Network",
    held_out: HeldOut,
    pixels: "np.ndarray",
    run: RunKey,
    registry: Registry,
    facts: dict[str, Any],
    *,
    learner: bool = True,
) -> str:
    """Evaluate, draw, export and publish a netrun.

    Args:
        pixels: uint8 (M, 28, 28), of the rows left out.
        facts: what its manifest says beside: `data_digest`, `preset`, `seconds`, …
        learner: whether it has a learner.pkl, for which fastai is needed.

    Returns:
        The version's name.
    """
    from mnist_core import evaluate, export
    from mnist_core.drawing import confusion_picture, error_captions, sheet

    labels, probabilities = held_out.labels, held_out.probabilities
    evaluation = evaluate(probabilities, labels)
    hardest = evaluation.hardest[:HARDEST]
    captions = error_captions(labels[hardest], probabilities[hardest])
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        held_out.save(folder)
        sheet(pixels[hardest], columns=8, scale=3, captions=captions).save(folder / "hardest.png")
        confusion_picture(evaluation.confusion).save(folder / "confusion.png")
        facts |= {
            "code_version": code_version(),
            "night": run.night,
            "seed": seed_of(run),
            "valid_rows": evaluation.n,
            "valid_accuracy": evaluation.accuracy,
            "valid_interval": list(evaluation.interval),
            "confusion": evaluation.confusion.tolist(),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        manifest = export(net, folder, facts, learner=learner)
        with report.progress("publish") as progress:
            name = registry.publish(run, manifest.to_json(), folder, progress)
    log.info("published %s: %.4f on %d held-out rows", name, evaluation.accuracy, evaluation.n)
    return name


def seed_of(run: RunKey) -> int:
    """The seed, 0 to 2^31 - 1: the one that was given, or the one that follows from night and attempt.

    Each member of an ensemble has its own: the given one and its number, or one that follows from it too.
    """
    if run.seed is not None:
        return (run.seed + (run.member or 0)) % 2**31
    member = "" if run.member is None else f"/{run.member}"
    digest = hashlib.sha256(f"{run.night}/{run.attempt}{member}".encode()).digest()
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
