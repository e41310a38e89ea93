"""A job's model in integers: made from digits of its input, and compared on others of them."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flows.environment import SettingsError
from flows.scale.inputs import open_input
from flows.scale.job import Job, model_folder
from mnist_core.errors import BundleError
from mnist_core.inference import open_model
from mnist_core.int8 import BATCH, add_int8
from mnist_core.manifest import INT8, MANIFEST, ONNX
from mnist_core.shards import Shard, read_shard

log = logging.getLogger("mnist")
SAMPLE, OF_SHARD = 10_000, 1_000
"""Digits that are read, and how many of a shard unless it is a large part of the input."""
COMPARED = 1_000
"""The fewest digits that are compared; a tenth of the sample gives the scales, the others are compared."""
LIMIT = 0.001
"""Share of the compared digits that may get another label."""
LEAVE_OUT = "leave --int8 out"


def with_int8(job: Job, files: Mapping[str, bytes]) -> tuple[Job, dict[str, bytes]]:
    """Return a job and the files of its bundle, with the graph in integers instead of the one in float32.

    Raises:
        SettingsError: the version has no graph that integers make faster, too few digits can be read, or too
            many of them get another label.
        DataError: a file cannot be read.
    """
    if ONNX not in files:
        raise SettingsError(f"--int8: {job.version} has no {ONNX}, or onnxruntime is missing", LEAVE_OUT)
    pixels = sample(job)
    if len(pixels) < BATCH + COMPARED:
        needed = f"{BATCH + COMPARED:,} or more are needed"
        raise SettingsError(f"--int8: {len(pixels):,} digits of the input can be read, {needed}", LEAVE_OUT)
    scales = max(BATCH, len(pixels) // 10)
    compared = pixels[scales:]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, content in files.items():
            (folder / file).write_bytes(content)
        expected = open_model(folder, "onnxruntime").read_labels(compared)
        try:
            add_int8(folder, pixels[:scales])
        except BundleError as error:
            raise SettingsError(f"--int8: {job.version}: {error.problem}", LEAVE_OUT) from error
        differ = int((open_model(folder, "int8").read_labels(compared) != expected).sum())
        words = f"{differ:,} of {len(compared):,} digits of the input get another label"
        if differ > LIMIT * len(compared):
            raise SettingsError(f"--int8: {words}, at most 1 in {1 / LIMIT:,.0f} may", LEAVE_OUT)
        log.info("in integers %s", words)
        made = {file: (folder / file).read_bytes() for file in (MANIFEST, INT8)}
    return replace(job, model=model_folder(job.version, made[INT8])), made


def sample(job: Job) -> NDArray[np.uint8]:
    """Return pictures of shards in a random order, uint8 (N, 28, 28), shuffled; broken ones are left out."""
    rng, count = np.random.default_rng(0), 0
    parts: list[NDArray[np.uint8]] = []
    for number in rng.permutation(len(job.pieces)):
        shard = job.shards[number]
        of_shard = max(OF_SHARD, -(-SAMPLE * shard.rows // job.rows))
        parts += _first(job, shard, of_shard)
        count += min(of_shard, shard.rows)
        if count >= SAMPLE:
            break
    pixels = np.concatenate(parts)
    return pixels[rng.permutation(len(pixels))]


def _first(job: Job, shard: Shard, count: int) -> Iterator[NDArray[np.uint8]]:
    """Yield the first pictures of a shard, `count` in all."""
    with open_input(job.files[job.pieces[shard.number][0]]) as file:
        for batch in read_shard(file, shard, job.spec):
            yield batch.pixels[:count]
            count -= len(batch.pixels)
            if count <= 0:
                return
