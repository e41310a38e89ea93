"""Make a network and its held-out predictions a published version."""

import functools
import hashlib
import logging
import os
import shutil
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.held_out import HeldOut
from flows.ops.daemon import without_credentials
from flows.parameters import SEED_MAX
from flows.records import RunKey
from flows.report.progress import progress
from flows.run import RunContext
from flows.scratch import scratch_folder
from mnist_core.metric import Metric

if TYPE_CHECKING:
    import numpy as np

    from mnist_core.models.network import Network

log = logging.getLogger("mnist")
HARDEST = 24
"""Digits in the picture of the hardest."""


def publish(
    run: RunContext,
    net: "Network",
    held_out: HeldOut,
    pixels: "np.ndarray",
    facts: Mapping[str, Any],
    *,
    learner: bool = True,
) -> str:
    """Evaluate, draw, export and publish a network.

    Args:
        run: whose version it is.
        net: the network.
        held_out: its predictions for the held-out rows.
        pixels: uint8 (M, 28, 28), of these rows.
        facts: what its manifest says besides: `preset`, `seconds`, …
        learner: whether it has a learner.pkl, for which fastai is needed.

    Returns:
        The version's name.
    """
    from mnist_core import evaluate, export
    from mnist_core.drawing import confusion_picture, error_captions, sheet

    labels, probabilities = held_out.labels, held_out.probabilities
    evaluation = evaluate(probabilities, labels, run.data.spec)
    hardest = evaluation.hardest[:HARDEST]
    captions = error_captions(labels[hardest], probabilities[hardest], run.data.spec.classes)
    log.info("exporting the network")
    with scratch_folder(run.settings.home) as folder:
        held_out.save(folder)
        sheet(pixels[hardest], columns=8, scale=3, captions=captions).save(folder / "hardest.png")
        confusion_picture(evaluation.confusion, run.data.spec.classes).save(folder / "confusion.png")
        known = {
            "code_version": code_version(),
            "data_digest": run.data.digest,
            "night": run.key.night,
            "preset": run.key.preset,
            "seed": seed_of(run.key),
            "valid_rows": evaluation.n,
            "valid_accuracy": evaluation.accuracy,
            "valid_interval": list(evaluation.interval),
            "confusion": evaluation.confusion.tolist(),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        if (metric := run.data.spec.metric) is not Metric.ACCURACY:
            known |= {"metric": metric.value, "valid_score": metric.of(probabilities, labels)}
        templates = run.settings.home / "templates"
        manifest = export(
            net, folder, {**known, **facts}, learner=learner, templates=templates, spec=run.data.spec
        )
        with progress("publish") as advance:
            name = run.registry.publish(run.key, manifest, folder, advance)
    log.info("published %s: %.4f on %s held-out rows", name, evaluation.accuracy, f"{evaluation.n:,}")
    return name


def seed_of(run: RunKey) -> int:
    """Return the seed of a run, 0 to 2^31 - 1: the given one, or one derived from night and attempt.

    Each member of an ensemble has its own: the given one plus its number, or one derived from that too.
    """
    if run.seed is not None:
        return (run.seed + (run.member or 0)) % (SEED_MAX + 1)
    member = "" if run.member is None else f"/{run.member}"
    digest = hashlib.sha256(f"{run.night}/{run.attempt}{member}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


@functools.cache
def code_version() -> str:
    """Return the package's version, and the commit if this is a checkout and git is installed."""
    root = Path(__file__).parents[1]
    if (root / ".git").exists() and (git := shutil.which("git")) is not None:
        found = subprocess.run(
            [git, "describe", "--always", "--dirty"],
            cwd=root, capture_output=True, text=True, check=False, env=without_credentials(os.environ),
        )  # fmt: skip
        if found.returncode == 0:
            return f"{installed_version('mnist-nightly')}+{found.stdout.strip()}"
    return installed_version("mnist-nightly")
