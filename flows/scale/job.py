"""A job of shards as objects of its output: what is to be done, what is finished, and the index.

part-000000.parquet             the predictions of shard 0, create-only
bad-rows/000000.jsonl           the rows that it left out; put before its part
least-certain.png               the digits whose labels are least certain
index.json                      all parts, verified: put last, it ends the job
_job/manifest.json              files, shards, version and options; put once, so it says what the job is
_job/model-<version>…/          the bundle, so that a worker needs nothing but the input and the output
_job/done/000000.json           rows and digest of a part; put last; a shard that has it is finished

Workers import this file: it needs neither Prefect nor pydantic.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from flows.environment import SettingsError
from flows.scale.inputs import Input, list_inputs, open_input
from flows.store.base import Store, StoreError
from flows.store.folder import Folder
from flows.store.open import check_address, open_store
from mnist_core.cores import cores
from mnist_core.errors import DataError
from mnist_core.inference import BACKENDS, pick_backend
from mnist_core.manifest import MANIFEST
from mnist_core.shard_files import Piece
from mnist_core.shards import Finished, Shard, plan
from mnist_core.spec import CompetitionSpec

FORMAT = 1
JOB, INDEX, PICTURE = "_job/manifest.json", "index.json", "least-certain.png"
DONE = "_job/done/"


@dataclass(frozen=True)
class Job:
    """What a job does: written once, when it is planned.

    Attributes:
        input: the address that was given.
        version: the version whose bundle predicts.
        spec: shape and classes of the pictures.
        bad_rows: `fail` or `skip`.
        probabilities: whether the parts have those of all classes.
        int8: whether the model computes in integers.
        shard_rows: about how many rows a shard has.
        model: the folder of its bundle in the output. Graphs in integers have their digest in it: those of
            two machines may differ.
        files: what is read.
        pieces: the shards, each with the number of its file.
    """

    input: str
    version: str
    spec: CompetitionSpec
    bad_rows: str
    probabilities: bool
    int8: bool
    shard_rows: int
    files: list[Input]
    pieces: list[tuple[int, Piece]]
    model: str

    @cached_property
    def shards(self) -> list[Shard]:
        """The shards, by number."""
        shards, file_rows, first, last = [], 0, 0, -1
        for number, (file, piece) in enumerate(self.pieces):
            if file != last:
                first, last, file_rows = first + file_rows, file, 0
            file_rows = max(file_rows, piece.stop)
            name = self.files[file].address
            shards.append(Shard(number, name, self.files[file].format, first, piece))
        return shards

    @property
    def file_rows(self) -> list[int]:
        """Rows of each file."""
        rows = [0] * len(self.files)
        for file, piece in self.pieces:
            rows[file] = max(rows[file], piece.stop)
        return rows

    @property
    def rows(self) -> int:
        """Rows of the whole input."""
        return sum(shard.rows for shard in self.shards)

    def to_bytes(self) -> bytes:
        """Return the job as it is stored."""
        facts = {
            "format": FORMAT,
            "input": self.input,
            "version": self.version,
            "spec": self.spec.to_json(),
            "bad_rows": self.bad_rows,
            "probabilities": self.probabilities,
            "int8": self.int8,
            "shard_rows": self.shard_rows,
            "model": self.model,
            "rows": self.rows,
            "files": [
                [file.address, file.size, file.version, rows]
                for file, rows in zip(self.files, self.file_rows, strict=True)
            ],
            "shards": [
                [file, piece.start, piece.stop, piece.start_byte, piece.stop_byte]
                for file, piece in self.pieces
            ],
        }
        return json.dumps(facts).encode()

    @classmethod
    def from_bytes(cls, content: bytes, where: str) -> Job:
        """Return the job that `to_bytes` described.

        Raises:
            StoreError: another version of this program wrote it.
        """
        facts = json.loads(content)
        if facts.get("format") != FORMAT:
            raise StoreError(
                f"{where} has format {facts.get('format')!r}, this code reads {FORMAT}",
                "use the code that wrote it, or another --output",
            )
        return cls(
            spec=CompetitionSpec.from_json(facts["spec"]),
            files=[Input(*entry[:3]) for entry in facts["files"]],
            pieces=[(file, Piece(*piece)) for file, *piece in facts["shards"]],
            int8=facts.get("int8", False),  # jobs of older code have neither
            model=facts.get("model") or model_folder(facts["version"]),
            **{name: facts[name] for name in ("input", "version", "bad_rows", "probabilities", "shard_rows")},
        )


def plan_job(
    input: str,
    version: str,
    spec: CompetitionSpec,
    *,
    bad_rows: str = "fail",
    probabilities: bool = False,
    int8: bool = False,
    shard_rows: int,
) -> Job:
    """List the input, and cut its files into shards; some files are opened side by side.

    Raises:
        SettingsError: there are no files.
        DataError: a file does not hold pictures of the competition's shape, or all are empty.
    """
    files = list_inputs(input)

    def cut(file: Input) -> list[Piece]:
        with open_input(file) as opened:
            return plan(opened, file.address, file.format, spec, shard_rows)

    with ThreadPoolExecutor(2 * cores()) as pool:
        found = list(pool.map(cut, files))
    pieces = [(number, piece) for number, cuts in enumerate(found) for piece in cuts]
    if not pieces:
        raise DataError(f"{input}: the files have no rows", "name another --input")
    return Job(
        input, version, spec, bad_rows, probabilities, int8, shard_rows, files, pieces, model_folder(version)
    )


class Output:
    """Where a job is: an address of a folder or a prefix in S3, which belongs to it alone."""

    def __init__(self, address: str) -> None:
        try:
            check_address(address)
        except ValueError as error:
            raise SettingsError(f"--output {address}: {error}", "correct the address") from None
        self.address = address if "://" in address else str(Path(address).absolute())
        """As other processes find it, too."""
        self.store: Store = open_store(address)
        if isinstance(self.store, Folder):
            self.store.setting = "--output"

    def read_job(self) -> Job | None:
        """Return the job that is here; None if there is none yet."""
        content = self.store.get(JOB)
        return None if content is None else Job.from_bytes(content, self.store.location(JOB))

    def need_job(self) -> Job:
        """Return the job that is here.

        Raises:
            StoreError: there is none.
        """
        job = self.read_job()
        if job is None:
            raise StoreError(
                f"{self.store.location(JOB)} is missing",
                "let all machines of a job reach the same --output, such as an s3:// address",
            )
        return job

    def put_job(self, job: Job) -> Job:
        """Keep a job unless there is one, and return the one that is kept."""
        self.store.prepare()
        self.store.put(JOB, job.to_bytes())
        return self.need_job()

    def put_model(self, job: Job, files: Mapping[str, bytes]) -> None:
        """Keep the files of a job's bundle that prediction needs, the manifest last."""
        for name in sorted(files, key=lambda name: name == MANIFEST):
            self.store.put(f"{job.model}/{name}", files[name])

    def fetch_model(self, job: Job, folder: Path) -> None:
        """Copy the bundle into a folder."""
        for name in (MANIFEST, *BACKENDS.values()):
            content = self.store.get(f"{job.model}/{name}")
            if content is not None:
                (folder / name).write_bytes(content)

    def done(self) -> set[int]:
        """Return the numbers of the shards that are finished."""
        return {int(key.removeprefix(DONE).removesuffix(".json")) for key in self.store.keys(DONE)}

    def finished(self, number: int) -> Finished | None:
        """Return what became of a shard; None while it is not finished."""
        content = self.store.get(f"{DONE}{number:06d}.json")
        return None if content is None else Finished.from_json(json.loads(content))

    def part(self, number: int) -> bytes | None:
        """Return the part of a shard; None if there is none."""
        return self.store.get(part_name(number))

    def put_bad_rows(self, number: int, lines: bytes) -> None:
        """Keep the rows that a shard left out."""
        self.store.put(f"bad-rows/{number:06d}.jsonl", lines)

    def put_part(self, number: int, content: bytes) -> bool:
        """Keep a part; False if another worker's is there, with other bytes."""
        return self.store.put(part_name(number), content)

    def put_finished(self, finished: Finished) -> Finished:
        """Record that a shard is finished; the first record is kept and returned."""
        content = json.dumps(finished.to_json()).encode()
        key = f"{DONE}{finished.number:06d}.json"
        if self.store.put(key, content):
            return finished
        return self.finished(finished.number) or finished

    def index(self) -> dict[str, Any] | None:
        """Return the index of a job that ended; None while it has not."""
        content = self.store.get(INDEX)
        return None if content is None else json.loads(content)

    def check_part(self, finished: Finished) -> str | None:
        """Return what is wrong with a part that was finished; None if it is as it was."""
        content = self.part(finished.number)
        where = self.store.location(part_name(finished.number))
        if content is None:
            return f"{where} is missing"
        if hashlib.sha256(content).hexdigest() != finished.sha256:
            return f"{where} has changed since it was written"
        return None


def model_folder(version: str, int8: bytes | None = None) -> str:
    """Return the folder of a bundle in the output of a job, with its graph in integers if it has one."""
    digest = "" if int8 is None else f"-int8-{hashlib.sha256(int8).hexdigest()[:16]}"
    return f"_job/model-{version}{digest}"


def part_name(number: int) -> str:
    """Return the name of a shard's part."""
    return f"part-{number:06d}.parquet"


def bundle_files(files: Mapping[str, Any]) -> list[str]:
    """Return the files of a bundle that prediction needs."""
    return [MANIFEST, BACKENDS[pick_backend(files)]]


def uncovered(job: Job) -> str | None:
    """Return what is wrong with the shards of a job, which must cover each file without overlap."""
    ends: dict[int, int] = {}
    for number, (file, piece) in enumerate(job.pieces):
        end = ends.get(file, 0)
        if piece.start != end or piece.stop <= piece.start:
            where = job.files[file].address
            return f"shard {number} begins with row {piece.start:,} of {where}, expected {end:,}"
        ends[file] = piece.stop
    return None


def index_of(job: Job, finished: Mapping[int, Finished]) -> dict[str, Any]:
    """Return the index of a job: the same for the same parts, whoever writes it.

    Raises:
        StoreError: a row of the input is in no part or in two.
    """
    wrong = uncovered(job)
    if wrong is None and (missing := [shard.number for shard in job.shards if shard.number not in finished]):
        wrong = f"{len(missing):,} shards are not finished, the first is {missing[0]}"
    if wrong is None:
        wrong = next(_miscounted(job, finished), None)
    if wrong is not None:
        raise StoreError(f"the job is not complete: {wrong}", "run the same command again", retryable=True)
    counts: dict[str, int] = {}
    for each in finished.values():
        for label, count in each.counts.items():
            counts[label] = counts.get(label, 0) + count
    return {
        "format": FORMAT,
        "input": job.input,
        "version": job.version,
        "int8": job.int8,
        "rows": sum(each.rows for each in finished.values()),
        "skipped": sum(each.skipped for each in finished.values()),
        "counts": dict(sorted(counts.items())),
        "parts": [
            {
                "name": part_name(shard.number),
                "rows": finished[shard.number].rows,
                "skipped": finished[shard.number].skipped,
                "bytes": finished[shard.number].bytes,
                "sha256": finished[shard.number].sha256,
                "object": shard.name,
                "start": shard.piece.start,
                "stop": shard.piece.stop,
                "first_row": shard.first_row + shard.piece.start,
            }
            for shard in job.shards
        ],
    }


def _miscounted(job: Job, finished: Mapping[int, Finished]) -> Iterator[str]:
    for shard in job.shards:
        found = finished[shard.number]
        if found.rows + found.skipped != shard.rows:
            yield f"{shard} gave {found.rows:,} rows and skipped {found.skipped:,} of {shard.rows:,}"
