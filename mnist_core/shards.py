"""Digits in shards: a range of rows of one file, its predictions as one Parquet file.

`plan` cuts a file into shards without reading its pixels, `predict_shard` does one of them. Neither knows
where a file lies: both take one that is open for reading and can seek. Needs pyarrow, the extra `scale`.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mnist_core.errors import DataError
from mnist_core.models.base import find
from mnist_core.shard_files import FORMATS, BadRow, Piece, Rows, need_pyarrow
from mnist_core.spec import CompetitionSpec

if TYPE_CHECKING:
    from mnist_core.inference import Model

LEAST_CERTAIN = 25
"""Number of digits of a shard that its result describes, and of the job's picture."""


@dataclass(frozen=True)
class Shard:
    """A range of rows of one file.

    Attributes:
        number: of the shard in its job, from 0.
        name: of the file, for messages.
        format: one of `FORMATS`.
        first_row: the number of the file's first row in the whole input, from 0.
        piece: which rows of the file.
    """

    number: int
    name: str
    format: str
    first_row: int
    piece: Piece

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return self.piece.stop - self.piece.start

    def __str__(self) -> str:
        return f"shard {self.number} ({self.name}, rows {self.piece.start:,} to {self.piece.stop - 1:,})"


@dataclass(frozen=True)
class Uncertain:
    """A digit whose label is least certain.

    Attributes:
        row: its number in the whole input.
        label: as predicted.
        probability: of that label.
        pixels: uint8, row-major, compressed and in base 64.
    """

    row: int
    label: str
    probability: float
    pixels: str

    def picture(self, spec: CompetitionSpec) -> NDArray[np.uint8]:
        """Return its pixels, uint8 (height, width)."""
        content = zlib.decompress(base64.b64decode(self.pixels))
        return np.frombuffer(content, np.uint8).reshape(spec.picture_shape)


@dataclass(frozen=True)
class Finished:
    """What became of a shard: small, while the predictions are in its part.

    Attributes:
        number: of the shard.
        rows, skipped: rows of the part, and broken ones that were left out; together those of the shard.
        bytes, sha256: of the part.
        counts: rows by label.
        least_certain: the most doubtful first.
        seconds: that it took.
    """

    number: int
    rows: int
    skipped: int
    bytes: int
    sha256: str
    counts: dict[str, int] = field(default_factory=dict)
    least_certain: list[Uncertain] = field(default_factory=list)
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Finished:
        """Return what `to_json` described."""
        least = [Uncertain(**entry) for entry in value["least_certain"]]
        known = {name: value[name] for name in cls.__dataclass_fields__}
        return cls(**{**known, "least_certain": least})


@dataclass(frozen=True)
class Part:
    """What one shard gives.

    Attributes:
        content: a Parquet file with a row for each digit: `id`, `label`, `probability`.
        bad_rows: a JSON object a line for each row that was left out; empty if there is none.
        finished: describes it.
    """

    content: bytes
    bad_rows: bytes
    finished: Finished


def plan(file: BinaryIO, name: str, format: str, spec: CompetitionSpec, rows: int) -> list[Piece]:
    """Cut a file into pieces of about this number of rows; none if it has no rows.

    Of a Parquet file its footer is read, of a CSV file its lines are counted.

    Raises:
        DataError: the file does not hold pictures of this shape.
    """
    return FORMATS[format].plan(file, name, spec, rows)


def predict_shard(
    model: Model,
    file: BinaryIO,
    shard: Shard,
    spec: CompetitionSpec,
    *,
    skip_bad_rows: bool = False,
    all_probabilities: bool = False,
    facts: Mapping[str, str] | None = None,
) -> Part:
    """Read the rows of a shard, predict their labels, and return its part.

    The rows pass through in batches: the memory needed does not depend on the size of the shard. The same
    rows, model and libraries give the same bytes.

    Args:
        model: an open bundle.
        file: the shard's file.
        shard: which rows.
        spec: shape and classes of the pictures.
        skip_bad_rows: leave broken rows out, rather than to fail at the first.
        all_probabilities: add a column `probabilities` with one for each class.
        facts: metadata of the Parquet file.

    Raises:
        DataError: a row is broken, or an id occurs twice; the message names shard, row and column. Or the
            file has fewer rows than it had.
    """
    started = time.perf_counter()
    part = _PartWriter(shard, spec, all_probabilities, facts or {})
    seen: set[Any] = set()
    bad: list[BadRow] = []
    done = 0
    for batch in read_shard(file, shard, spec):
        done += len(batch.numbers) + len(batch.bad)
        batch = _without_repeated_ids(batch, seen)
        if batch.bad and not skip_bad_rows:
            first = batch.bad[0]
            raise DataError(
                f"{shard}: row {first.row}, column {first.column}: {first.problem}",
                "correct the row and start another job, or leave broken rows out with `--bad-rows skip`",
            )
        bad += batch.bad
        if len(batch.numbers):
            logits = model.run(batch.pixels, softmax=False, batch_size=None, progress=None)
            labels = find(model.manifest.model).read_labels(logits)
            part.add(batch, np.clip(labels, 0, spec.class_count - 1), _softmax(logits))
    if done != shard.rows:
        raise DataError(
            f"{shard}: {done:,} rows were read, {shard.rows:,} were there when the job was planned",
            "the file has changed: start another job with another --output",
        )
    content = part.close()
    finished = Finished(
        number=shard.number,
        rows=part.rows,
        skipped=len(bad),
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        counts=dict(sorted(part.counts.items())),
        least_certain=part.least_certain(),
        seconds=round(time.perf_counter() - started, 3),
    )
    return Part(content, b"".join(_bad_line(shard, row) for row in bad), finished)


def read_shard(file: BinaryIO, shard: Shard, spec: CompetitionSpec) -> Iterator[Rows]:
    """Yield the rows of a shard in batches; broken ones beside the others.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        yield from FORMATS[shard.format].read(file, shard.name, spec, shard.piece)
    except DataError as error:
        raise DataError(f"{shard}: {error.problem}", error.remedy) from error


def describe_part(content: bytes, shard: Shard) -> Finished:
    """Return what is known of a part that another run wrote, without its least certain digits.

    Raises:
        DataError: it is not the part of this shard.
    """
    pq = need_pyarrow().parquet
    try:
        table = pq.read_table(io.BytesIO(content), columns=["label"])
    except Exception as error:  # pyarrow's errors have no common base
        raise DataError(f"the part of {shard} is not a Parquet file ({error})", "delete it") from error
    if table.num_rows > shard.rows:
        raise DataError(f"the part of {shard} has {table.num_rows:,} rows", "delete it")
    counts = Counter(map(str, table.column("label").to_pylist()))
    return Finished(
        number=shard.number,
        rows=table.num_rows,
        skipped=shard.rows - table.num_rows,
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        counts=dict(sorted(counts.items())),
    )


def labels_of(spec: CompetitionSpec) -> tuple[list[Any], str]:
    """Return the classes as a part shows them, and their Arrow type: numbers if all of them are numbers."""
    if all(name.isdecimal() and str(int(name)) == name for name in spec.classes):
        return [int(name) for name in spec.classes], "int32"
    return list(spec.classes), "string"


class _PartWriter:
    """Collects the predictions of one shard, a batch at a time."""

    def __init__(
        self, shard: Shard, spec: CompetitionSpec, all_probabilities: bool, facts: Mapping[str, str]
    ) -> None:
        self._shard, self._all, self._facts = shard, all_probabilities, facts
        self._names, self._type = labels_of(spec)
        self._table_parts: list[Any] = []
        self._doubtful: list[tuple[float, int, int, bytes]] = []
        self.counts: Counter[str] = Counter()
        self.rows = 0

    def add(self, batch: Rows, labels: NDArray[np.int64], probabilities: NDArray[np.float32]) -> None:
        pa = need_pyarrow()
        numbers = self._shard.first_row + batch.numbers
        own = probabilities[np.arange(len(labels)), labels]
        columns = {
            "id": pa.array(numbers) if batch.ids is None else batch.ids,
            "label": pa.array(np.asarray(self._names)[labels], getattr(pa, self._type)()),
            "probability": pa.array(own, pa.float32()),
        }
        if self._all:
            flat = pa.array(np.ascontiguousarray(probabilities).reshape(-1), pa.float32())
            columns["probabilities"] = pa.FixedSizeListArray.from_arrays(flat, probabilities.shape[1])
        self._table_parts.append(pa.table(columns))
        self.rows += len(labels)
        for label, count in enumerate(np.bincount(labels, minlength=len(self._names))):
            if count:
                self.counts[str(self._names[label])] += int(count)
        for at in np.argsort(own, kind="stable")[:LEAST_CERTAIN]:
            entry = (float(own[at]), int(numbers[at]), int(labels[at]), batch.pixels[at].tobytes())
            self._doubtful.append(entry)
        self._doubtful = sorted(self._doubtful)[:LEAST_CERTAIN]

    def least_certain(self) -> list[Uncertain]:
        return [
            Uncertain(
                row=row,
                label=str(self._names[label]),
                probability=round(probability, 6),
                pixels=base64.b64encode(zlib.compress(pixels)).decode(),
            )
            for probability, row, label, pixels in self._doubtful
        ]

    def close(self) -> bytes:
        """Return the Parquet file."""
        pa = need_pyarrow()
        names = [("id", pa.int64()), ("label", getattr(pa, self._type)()), ("probability", pa.float32())]
        table = pa.concat_tables(self._table_parts) if self._table_parts else pa.schema(names).empty_table()
        table = table.replace_schema_metadata({**self._facts, "shard": str(self._shard.number)})
        sink = io.BytesIO()
        pa.parquet.write_table(table.combine_chunks(), sink, compression="zstd")
        return sink.getvalue()


def _without_repeated_ids(batch: Rows, seen: set[Any]) -> Rows:
    """Move the rows whose id is missing, or occurred before in the shard, to the broken ones."""
    if batch.ids is None:
        return batch
    good, repeated = np.ones(len(batch.numbers), bool), []
    for at, value in enumerate(batch.ids.to_pylist()):
        if value is None or value in seen:
            good[at] = False
            problem = "there is none" if value is None else f"{value!r} occurs twice in this shard"
            repeated.append(BadRow(int(batch.numbers[at]), "id", problem))
        seen.add(value)
    if not repeated:
        return batch
    kept = np.flatnonzero(good)
    bad = sorted([*batch.bad, *repeated], key=lambda row: row.row)
    return Rows(batch.numbers[kept], np.ascontiguousarray(batch.pixels[kept]), batch.ids.take(kept), bad)


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    likelihoods: NDArray[np.float32] = np.exp(logits - logits.max(1, keepdims=True))
    likelihoods /= likelihoods.sum(1, keepdims=True)
    return likelihoods


def _bad_line(shard: Shard, bad: BadRow) -> bytes:
    facts = {"object": shard.name, "row": bad.row, "column": bad.column, "problem": bad.problem}
    if bad.id is not None:
        facts["id"] = bad.id
    return json.dumps({"number": shard.first_row + bad.row, **facts}).encode() + b"\n"


def merge_least_certain(groups: Iterator[Sequence[Uncertain]]) -> list[Uncertain]:
    """Return the least certain digits of all shards."""
    kept: list[Uncertain] = []
    for group in groups:
        kept = sorted([*kept, *group], key=lambda each: (each.probability, each.row))[:LEAST_CERTAIN]
    return kept
