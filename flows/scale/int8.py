"""A job's model in integers: made from digits of its input, and compared on others of them."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flows.environment import SettingsError
from flows.scale.inputs import open_input
from flows.scale.job import Job
from mnist_core.inference import open_model
from mnist_core.int8 import BATCH, add_int8
from mnist_core.manifest import INT8, MANIFEST
from mnist_core.shards import Shard, read_shard

log = logging.getLogger("mnist")
SHARDS = 10
"""Shards whose first rows are read."""
SAMPLE = 10_000
"""Digits that are read; a tenth of them give the scales, the others are compared."""
LIMIT = 0.001
"""Share of the compared digits that may get another label."""
LEAVE_OUT = "leave --int8 out"


def with_int8(job: Job, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the files of a job's bundle with the graph in integers instead of the other.

    Raises:
        SettingsError: too few digits can be read, or too many of them get another label.
        BundleError: the model has no graph, or none that integers make faster.
    """
    pixels = sample(job)
    calibrating = max(BATCH, len(pixels) // 10)
    compared = pixels[calibrating:]
    if not len(compared):
        raise SettingsError(f"--int8: {len(pixels)} digits of the input can be read, too few", LEAVE_OUT)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, content in files.items():
            (folder / file).write_bytes(content)
        expected = open_model(folder).read_labels(compared)
        add_int8(folder, pixels[:calibrating])
        differ = int((open_model(folder).read_labels(compared) != expected).sum())
        words = f"{differ:,} of {len(compared):,} digits of the input get another label"
        if differ > LIMIT * len(compared):
            raise SettingsError(f"--int8: {words}, at most 1 in {1 / LIMIT:,.0f} may", LEAVE_OUT)
        log.info("in integers %s", words)
        return {file: (folder / file).read_bytes() for file in (MANIFEST, INT8)}


def sample(job: Job) -> NDArray[np.uint8]:
    """Return the first pictures of some shards, uint8 (N, 28, 28), shuffled; broken ones are left out."""
    shards = job.shards
    chosen = shards[:: -(-len(shards) // SHARDS)]
    parts = [part for shard in chosen for part in _first(job, shard, -(-SAMPLE // len(chosen)))]
    pixels = np.concatenate(parts)
    return pixels[np.random.default_rng(0).permutation(len(pixels))]


def _first(job: Job, shard: Shard, count: int) -> Iterator[NDArray[np.uint8]]:
    """Yield the first pictures of a shard, `count` in all."""
    with open_input(job.files[job.pieces[shard.number][0]]) as file:
        for batch in read_shard(file, shard, job.spec):
            yield batch.pixels[:count]
            count -= len(batch.pixels)
            if count <= 0:
                return
