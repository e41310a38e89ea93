"""A version in a store without a server, files of digits in each format, and what one process predicts."""

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.scale import coordinate
from flows.scale.engine import Engine, LocalEngine
from flows.scale.job import Job, Output, bundle_files, plan_job
from flows.scale.worker import Outcome, run_shard
from mnist_core import Digits, open_model, read_test
from mnist_core.digits import format_csv
from mnist_core.manifest import read_manifest
from mnist_core.spec import DIGITS_MINI

SPEC = DIGITS_MINI
VERSION = "2026-11-23-convnet-0123abcd"
ROWS = 500
"""Digits of the small competition's test file."""


class InProcess:
    """An engine without processes: shards one after another, for tests of anything but engines."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, output: str, numbers: Any) -> Any:
        """Do the shards of these numbers."""
        for number in numbers:
            self.asked.append(number)
            yield Outcome.from_json(run_shard(output, number))


@dataclass
class Scale:
    """Files of digits, and the job that predicts them."""

    folder: Path
    bundle: Path
    pixels: np.ndarray
    output: str

    def write(
        self, name: str, start: int = 0, stop: int = ROWS, *, ids: Any = None, groups: int = 100
    ) -> Path:
        """Write rows of the digits into a file, in the format that its name says."""
        path = self.folder / "input" / name
        path.parent.mkdir(exist_ok=True)
        pixels = self.pixels[start:stop]
        if name.endswith(".parquet"):
            flat = pixels.reshape(len(pixels), SPEC.pixels)
            columns = {"pixels": pa.array([row.tobytes() for row in flat], pa.binary())}
            if ids is not None:
                columns["id"] = pa.array(ids)
            pq.write_table(pa.table(columns), path, row_group_size=groups)
        elif name.endswith(".npy"):
            np.save(path, pixels)
        else:
            content = b"".join(format_csv(Digits(pixels, None, SPEC)))
            path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return path

    def plan(self, input: str | None = None, shard_rows: int = 100, **options: Any) -> Job:
        """Plan a job, and put it and its model into the output."""
        address = input or str(self.folder / "input")

        def make() -> Any:
            files = bundle_files(read_manifest(self.bundle).files)
            job = plan_job(address, VERSION, SPEC, shard_rows=shard_rows, **options)
            return job, {name: (self.bundle / name).read_bytes() for name in files}

        return coordinate.open_job(Output(self.output), make, {"input": address, **options})

    def run(self, engine: Engine | None = None, **options: Any) -> dict[str, Any]:
        """Plan or resume the job, do its shards, and return the index."""
        job = self.plan(**options)
        made = coordinate.do_shards(Output(self.output), job, engine or InProcess())
        return coordinate.finish(Output(self.output), job, made)

    def result(self) -> pa.Table:
        """Return all parts that the index lists, in their order."""
        output = Output(self.output)
        index = json.loads(output.store.get("index.json") or b"")
        parts = [output.store.get(part["name"]) or b"" for part in index["parts"]]
        return pa.concat_tables([pq.read_table(pa.BufferReader(part)) for part in parts])

    def expected(self, rows: Any = None) -> pa.Table:
        """Return what one process predicts for rows of the digits, in one array in memory."""
        numbers = np.arange(ROWS) if rows is None else np.asarray(rows)
        probabilities = open_model(self.bundle).predict(self.pixels[numbers])
        labels = probabilities.argmax(1)
        return pa.table(
            {
                "id": pa.array(np.arange(len(numbers))),
                "label": pa.array(labels, pa.int32()),
                "probability": pa.array(probabilities[np.arange(len(labels)), labels]),
            }
        )


def check(found: pa.Table, expected: pa.Table) -> None:
    """Compare two results row by row: ids, labels, and probabilities to a millionth."""
    assert found.num_rows == expected.num_rows
    assert found["id"].to_pylist() == expected["id"].to_pylist()
    assert found["label"].to_pylist() == expected["label"].to_pylist()
    np.testing.assert_allclose(found["probability"], expected["probability"], atol=1e-6)


@pytest.fixture(scope="session")
def same() -> Callable[[pa.Table, pa.Table], None]:
    """Compare a result with another one row by row."""
    return check


@pytest.fixture
def in_process() -> InProcess:
    """An engine that does shards in this process, and knows which ones."""
    return InProcess()


@pytest.fixture
def local() -> LocalEngine:
    """The engine of local processes, with two."""
    return LocalEngine(2)


@pytest.fixture
def scale(tmp_path: Path, make_bundle: Callable[..., Path], unpacked: Path) -> Scale:
    """The small competition's test digits, a bundle, and an output that does not exist yet."""
    pixels = read_test(unpacked / SPEC.test_file, SPEC).pixels
    return Scale(tmp_path, make_bundle(SPEC), pixels, str(tmp_path / "output"))
