"""Measure prediction over shards, beside the same network on one array in memory.

    python -m tests.bench.scale --parts rates memory overhead dask many --json scale.jsonl
    python -m tests.bench.scale --rows 400000 --csv-rows 100000 --runs 1          # small: two minutes

    rates      digits a second from Parquet and CSV, interleaved with an array in memory: 15 min, 6 GB
    memory     peak of coordinator and workers together, for a tenth of the rows and for all: 6 min, 4 GB
    overhead   seconds that a shard costs beside its rows, from 1,000 shards and from 4: 3 min, 1 GB
    dask       two Dask workers on this machine beside two local processes, interleaved: 5 min, 1 GB
    many       memory of Dask's scheduler and of the client over 1,000 shards of 1,000 rows: 3 min, 1 GB
    paper      cores, hours, requests and money for 10^8 to 10^10 digits, from --rate and --overhead

Digits are made from the 70,000 by seeded affine maps, so that the truth is known: `--rows` of them in 40
Parquet files, `--csv-rows` in one CSV file. Each part makes its own files below `--folder` and removes them;
it begins no further run after `--limit` seconds. The network is a `convnet fast`; two workers, or two
threads.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from flows.scale.coordinate import do_shards, finish, open_job
from flows.scale.dask_engine import DaskEngine
from flows.scale.engine import Engine, LocalEngine
from flows.scale.job import Output, bundle_files, plan_job
from infra.practice.labelled import read_labels, read_pixels
from mnist_core import export, fit
from mnist_core.digits import Digits, format_csv
from mnist_core.manifest import read_manifest
from mnist_core.spec import DIGIT_RECOGNIZER
from tests.bench.scores import machine, tell

SPEC = DIGIT_RECOGNIZER
FILES, GROUP, WORKERS = 40, 50_000, 2
MAPS = 64
"""Affine maps, one a block of rows in turn."""
TRAINED_ROWS = 42_000
"""A network that is trained on few rows is seldom sure, and looks at most digits six times."""
VERSION = "2026-11-28-convnet-0123abcd"
IN_MEMORY = """
import sys
from pathlib import Path
from time import perf_counter
import numpy as np
from mnist_core.cores import limit_cores
limit_cores(2)
from mnist_core import open_model
model, pixels = open_model(Path(sys.argv[1])), np.load(sys.argv[2])
model.predict(pixels[:10_000])
start = perf_counter()
model.predict(pixels)
print(len(pixels) / (perf_counter() - start))
"""
COORDINATE = """
import sys
from flows.scale.coordinate import do_shards, finish
from flows.scale.engine import LocalEngine
from flows.scale.job import Output
output = Output(sys.argv[1])
job = output.need_job()
finish(output, job, do_shards(output, job, LocalEngine(2)))
"""


# Digits whose labels are known


def affine(seed: int) -> np.ndarray:
    """Return where each pixel comes from under a small turn, shear, scale and shift: int64 (784,)."""
    random = np.random.default_rng(seed)
    height, width, _ = SPEC.shape
    angle, shear = random.uniform(-0.2, 0.2), random.uniform(-0.15, 0.15)
    scale = random.uniform(0.9, 1.1, 2)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.array([[scale[0], shear], [0.0, scale[1]]])
    middle = np.array([(height - 1) / 2, (width - 1) / 2])
    rows, columns = np.mgrid[:height, :width]
    places = np.stack([rows.ravel(), columns.ravel()], 1) - middle
    source = np.rint(places @ matrix.T + middle + random.uniform(-1.5, 1.5, 2)).astype(int)
    source = np.clip(source, 0, [height - 1, width - 1])  # the edge is background
    return source[:, 0] * width + source[:, 1]


def blocks(originals: np.ndarray, rows: int, size: int = GROUP) -> Iterator[np.ndarray]:
    """Yield `rows` digits in blocks: uint8 (n, 784). Row i is row i modulo 70,000 of the originals, moved."""
    for number, start in enumerate(range(0, rows, size)):
        chosen = np.arange(start, min(start + size, rows)) % len(originals)
        yield np.take(originals[chosen], affine(number % MAPS), axis=1)


def truth(labels: np.ndarray, rows: int) -> np.ndarray:
    """Return the labels of these rows."""
    return labels[np.arange(rows) % len(labels)]


def write_parquet(
    folder: Path, originals: np.ndarray, rows: int, files: int = FILES, group: int = GROUP
) -> Path:
    """Write digits into Parquet files with a binary column, row groups of at most `group`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True)
    bounds = [rows * number // files for number in range(files + 1)]
    made = blocks(originals, rows, size=max(1, min(group, bounds[1])))
    schema = pa.schema([("pixels", pa.binary(SPEC.pixels))])
    rest = np.empty((0, SPEC.pixels), np.uint8)
    for number in range(files):
        with pq.ParquetWriter(folder / f"{number:03d}.parquet", schema, compression="zstd") as writer:
            left = bounds[number + 1] - bounds[number]
            while left:
                rest = rest if len(rest) else next(made)
                part, rest = rest[:left], rest[left:]
                buffers = [None, pa.py_buffer(np.ascontiguousarray(part))]
                column = pa.Array.from_buffers(pa.binary(SPEC.pixels), len(part), buffers)
                writer.write_table(pa.table([column], schema))
                left -= len(part)
    return folder


def write_csv(path: Path, originals: np.ndarray, rows: int) -> Path:
    """Write digits into one CSV file of the competition's format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for number, block in enumerate(blocks(originals, rows)):
            content = b"".join(format_csv(Digits(block.reshape(-1, *SPEC.picture_shape), None, SPEC)))
            file.write(content if number == 0 else content.partition(b"\n")[2])
    return path


# Jobs


@dataclass
class Bench:
    """What the parts share."""

    folder: Path
    rows: int
    csv_rows: int
    runs: int
    limit_s: float
    log: Path | None
    started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.originals, self.labels = read_pixels(), read_labels().astype(np.int64)
        self.bundle = self.folder / "bundle"
        pixels = self.originals[:TRAINED_ROWS].reshape(-1, *SPEC.picture_shape)
        labelled = Digits(pixels, self.labels[:TRAINED_ROWS], SPEC)
        export(fit(labelled, "convnet", "fast", device="cpu"), self.bundle, {}, learner=False)

    def plan(self, input: Path, shard_rows: int) -> Output:
        """Plan a job with an output of its own."""
        output = Output(str(self.folder / f"output-{time.monotonic_ns()}"))

        def make() -> Any:
            files = bundle_files(read_manifest(self.bundle).files)
            job = plan_job(str(input), VERSION, SPEC, shard_rows=shard_rows)
            return job, {name: (self.bundle / name).read_bytes() for name in files}

        open_job(output, make, {})
        return output

    def predict(self, input: Path, engine: Engine, shard_rows: int = 200_000) -> tuple[float, float]:
        """Do a job; return its seconds from the first shard to the index, and the share that is right."""
        output = self.plan(input, shard_rows)
        job = output.need_job()
        start = time.perf_counter()
        index = finish(output, job, do_shards(output, job, engine))
        seconds = time.perf_counter() - start
        assert index["rows"] == job.rows
        right = self._right(output, index)
        shutil.rmtree(output.address)
        return seconds, right

    def _right(self, output: Output, index: dict[str, Any]) -> float:
        import pyarrow.parquet as pq

        found = np.concatenate(
            [pq.read_table(Path(output.address) / part["name"], columns=["label"])["label"].to_numpy()
             for part in index["parts"]]
        )  # fmt: skip
        return float((found == truth(self.labels, len(found))).mean())

    def in_memory(self, pixels: Path) -> float:
        """Return digits a second of one process with two threads on an array in memory."""
        command = [sys.executable, "-c", IN_MEMORY, str(self.bundle), str(pixels)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return float(done.stdout)

    def goes_on(self, run: int) -> bool:
        """Return whether another run begins."""
        return run < self.runs and (run == 0 or time.monotonic() - self.started < self.limit_s)

    def tell(self, part: str, **facts: Any) -> None:
        """Print what a part found, and append it to the log."""
        rounded = {name: round(v, 4) if isinstance(v, float) else v for name, v in facts.items()}
        tell(self.log, part=part, **rounded)


@contextmanager
def removed(folder: Path) -> Iterator[Path]:
    """Make a folder, and remove it at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# Parts


def rates(bench: Bench) -> None:
    """Digits a second from Parquet and CSV, as a part of those from memory."""
    found: dict[str, list[float]] = {"memory": [], "parquet": [], "csv": []}
    right = 0.0
    with removed(bench.folder / "rates") as folder:
        parquet = write_parquet(folder / "parquet", bench.originals, bench.rows)
        csv = write_csv(folder / "csv" / "digits.csv", bench.originals, bench.csv_rows)
        sample = min(bench.rows, 250_000)
        pixels = folder / "pixels.npy"
        made = np.concatenate(list(blocks(bench.originals, sample)))
        np.save(pixels, made.reshape(-1, *SPEC.picture_shape))
        run = 0
        while bench.goes_on(run):
            found["memory"].append(bench.in_memory(pixels))
            seconds, right = bench.predict(parquet, LocalEngine(WORKERS))
            found["parquet"].append(bench.rows / seconds)
            found["memory"].append(bench.in_memory(pixels))
            seconds, _ = bench.predict(csv.parent, LocalEngine(WORKERS))
            found["csv"].append(bench.csv_rows / seconds)
            run += 1
    memory = median(found["memory"])
    for name in ("parquet", "csv"):
        bench.tell(
            "rates", source=name, digits_s=median(found[name]), in_memory_digits_s=memory,
            runs=len(found[name]), share=median(found[name]) / memory, lowest=min(found[name]),
            highest=max(found[name]), right=right,
        )  # fmt: skip


def memory(bench: Bench) -> None:
    """Peak of coordinator and workers together, which must not grow with the rows."""
    for rows in (bench.rows // 10, bench.rows):
        with removed(bench.folder / "memory") as folder:
            files = max(1, FILES * rows // bench.rows)  # of the same size in both
            input = write_parquet(folder / "parquet", bench.originals, rows, files=files)
            output = bench.plan(input, 200_000)
            process = subprocess.Popen([sys.executable, "-c", COORDINATE, output.address])
            with Watched({"all": tree(process.pid)}) as watched:
                code = process.wait()
            assert code == 0
            shutil.rmtree(output.address)
        bench.tell("memory", rows=rows, **watched.facts("all"))


def overhead(bench: Bench) -> None:
    """Seconds that a shard costs beside its rows."""
    rows, few = min(bench.rows, 1_000_000), 2 * WORKERS  # so that all workers end together
    many = max(rows // 1000, few + 1)
    costs = []
    with removed(bench.folder / "overhead") as folder:
        # A row group for each shard: one that begins within a group reads what lies before it there.
        input = write_parquet(folder / "parquet", bench.originals, rows, files=few, group=1000)
        run = 0
        while bench.goes_on(run):
            coarse, _ = bench.predict(input, LocalEngine(WORKERS), rows // few)
            fine, _ = bench.predict(input, LocalEngine(WORKERS), rows // many)
            costs.append((fine - coarse) * WORKERS / (many - few))
            run += 1
    bench.tell("overhead", rows=rows, shards=many, seconds_a_shard=median(costs), highest=max(costs))


def dask(bench: Bench) -> None:
    """Two Dask workers beside two local processes."""
    from tests.flows.scale.dask_cluster import Cluster

    rows = min(bench.rows, 1_000_000)
    found: dict[str, list[float]] = {"local": [], "dask": []}
    with removed(bench.folder / "dask") as folder:
        input = write_parquet(folder / "parquet", bench.originals, rows, files=4)
        cluster = Cluster(folder)
        engines: dict[str, Engine] = {"local": LocalEngine(WORKERS), "dask": DaskEngine(cluster.address)}
        try:
            run = 0
            while bench.goes_on(run):
                for name, engine in engines.items():
                    found[name].append(rows / bench.predict(input, engine, 50_000)[0])
                run += 1
        finally:
            cluster.stop()
    local, other = median(found["local"]), median(found["dask"])
    bench.tell("dask", digits_s=other, local_digits_s=local, share=other / local, runs=len(found["dask"]))


def many(bench: Bench) -> None:
    """Memory of Dask's scheduler and of this client over a thousand shards."""
    from tests.flows.scale.dask_cluster import Cluster

    shards = min(1000, bench.rows // 1000)
    with removed(bench.folder / "many") as folder:
        input = write_parquet(folder / "parquet", bench.originals, shards * 1000, files=1)
        cluster = Cluster(folder)
        try:
            output = bench.plan(input, 1000)
            job = output.need_job()
            seen: dict[int, dict[str, int]] = {}

            def note(done: int, _total: int, _words: str) -> None:
                number = done // 1000
                if number == 1 or number % max(1, shards // 5) == 0:
                    seen[number] = {
                        "client": rss(os.getpid()), "scheduler": rss(cluster.scheduler.pid)
                    }  # fmt: skip

            start = time.perf_counter()
            do_shards(output, job, DaskEngine(cluster.address), progress=note)
            seconds = time.perf_counter() - start
            shutil.rmtree(output.address)
        finally:
            cluster.stop()
    bench.tell("many", shards=shards, seconds=seconds, mib_by_shards=seen)


# Memory


def rss(pid: int) -> int:
    """Return the resident memory of a process in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) // 1024
    return 0


def pss(pid: int) -> int:
    """Return a process's part of the memory that it shares with others, in MiB."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) // 1024
    except OSError:
        pass
    return 0


def tree(pid: int) -> Callable[[], list[int]]:
    """Return a function that lists a process and all below it."""

    def members() -> list[int]:
        found, at = [pid], 0
        while at < len(found):
            try:
                children = Path(f"/proc/{found[at]}/task/{found[at]}/children").read_text().split()
                for task in Path(f"/proc/{found[at]}/task").iterdir():
                    children += (task / "children").read_text().split()
            except OSError:
                children = []
            found += [int(child) for child in dict.fromkeys(children) if int(child) not in found]
            at += 1
        return found

    return members


class Watched:
    """Looks at the memory of some processes five times a second."""

    def __init__(self, groups: dict[str, Callable[[], list[int]]]) -> None:
        self.groups = groups
        self.peaks: dict[str, tuple[int, int]] = dict.fromkeys(groups, (0, 0))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Watched:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.2):
            for name, members in self.groups.items():
                pids = members()
                whole, own = 0, 0
                for pid in pids:
                    try:
                        whole, own = whole + rss(pid), own + pss(pid)
                    except OSError:
                        continue
                before = self.peaks[name]
                self.peaks[name] = max(before[0], whole), max(before[1], own)

    def facts(self, name: str) -> dict[str, int]:
        """Return the peaks: of the sums of resident memory, and of what is not counted twice."""
        whole, own = self.peaks[name]
        return {"peak_rss_mib": whole, "peak_pss_mib": own}


# On paper


@dataclass(frozen=True)
class Prices:
    """US dollars, assumed: of the order of AWS's lists; `--price` gives your own.

    Attributes:
        core_hour: of Fargate Spot, x86, with 2 GB of memory a core.
        machine_hour, machine_cores: of one c7i.16xlarge, on demand.
        get, put: of S3, a thousand requests.
    """

    core_hour: float = 0.0146
    machine_hour: float = 2.856
    machine_cores: int = 64
    get: float = 0.0004
    put: float = 0.005


SHARD_ROWS, ROW_BYTES, AHEAD = 200_000, 200, 8 << 20
"""Rows of a shard; bytes of a digit in Parquet (zstd); bytes of one request that reads ahead."""
FLEET, START_S = 100, 90.0
"""Cores of the fleet on Fargate, and seconds until they run."""


def paper(count: float, rate: float, overhead_s: float, prices: Prices) -> dict[str, float]:
    """Return what a number of digits takes.

    Args:
        count: digits.
        rate: digits a second of one core.
        overhead_s: seconds of a core that a shard costs beside its rows.
        prices: of cores and requests.
    """
    shards = max(1.0, count / SHARD_ROWS)
    core_hours = (count / rate + shards * overhead_s) / 3600
    gets = shards * (2 + SHARD_ROWS * ROW_BYTES / AHEAD + 3)  # footer; rows; done, part, index
    puts = shards * 2
    requests = gets * prices.get / 1000 + puts * prices.put / 1000
    fleet_h = core_hours / min(FLEET, shards) + START_S / 3600
    machine_h = core_hours / min(prices.machine_cores, shards)
    return {
        "core_hours": core_hours,
        "two_cores_h": core_hours / min(2, shards),
        "fleet_h": fleet_h,
        "fleet_usd": (core_hours + min(FLEET, shards) * START_S / 3600) * prices.core_hour + requests,
        "machine_h": machine_h,
        "machine_usd": machine_h * prices.machine_hour + requests,
        "requests": gets + puts,
        "requests_usd": requests,
    }


def pays_from(rate: float) -> float:
    """Return the digits from which the fleet, its start included, is done before two cores are."""
    return START_S / (1 / (2 * rate) - 1 / (FLEET * rate))


def paper_table(models: dict[str, float], overhead_s: float, prices: Prices) -> str:
    """Return the table of docs/scale.md.

    Args:
        models: digits a second of one core, by model.
        overhead_s: as of `paper`.
        prices: as of `paper`.
    """
    head = ["model", "digits", "core-hours", "two cores", f"{FLEET} cores of Fargate Spot"]
    head += [f"one machine of {prices.machine_cores} cores", "requests to S3"]
    lines = [f"| {' | '.join(head)} |", f"|---|{'---:|' * (len(head) - 1)}"]
    for model, rate in models.items():
        for power in (8, 9, 10):
            found = paper(10.0**power, rate, overhead_s, prices)
            lines.append(
                f"| {model} | 10^{power} | {found['core_hours']:,.1f} | {hours(found['two_cores_h'])} "
                f"| {hours(found['fleet_h'])}, ${found['fleet_usd']:,.2f} "
                f"| {hours(found['machine_h'])}, ${found['machine_usd']:,.2f} "
                f"| {found['requests']:,.0f}, ${found['requests_usd']:,.2f} |"
            )
    points = ", ".join(f"{pays_from(rate):,.0f} ({model})" for model, rate in models.items())
    return "\n".join([*lines, "", f"{FLEET} cores are done before two are, from digits: {points}."])


def hours(value: float) -> str:
    """Return hours as people read them."""
    return (
        f"{value * 60:.0f} min" if value < 2 else f"{value:.1f} h" if value < 48 else f"{value / 24:.1f} days"
    )


PARTS: dict[str, Callable[[Bench], None]] = {
    "rates": rates, "memory": memory, "overhead": overhead, "dask": dask, "many": many,
}  # fmt: skip


def main() -> None:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=[*PARTS, "paper"], default=list(PARTS))
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--csv-rows", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument(
        "--limit", type=float, default=900.0, help="seconds after which no run of a part begins"
    )
    parser.add_argument("--folder", type=Path, help="a folder with 8 GB of room (default: a temporary one)")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rate", nargs="+", default=[], metavar="MODEL=DIGITS", help="a second, of one core")
    parser.add_argument("--price", nargs="+", default=[], metavar="NAME=DOLLARS", help="a field of Prices")
    parser.add_argument("--overhead", type=float, default=0.05, help="seconds a shard")
    options = parser.parse_args()
    if "paper" in options.parts:
        models = {name: float(value) for name, _, value in (rate.partition("=") for rate in options.rate)}
        given = {name: float(value) for name, _, value in (price.partition("=") for price in options.price)}
        print(paper_table(models, options.overhead, replace(Prices(), **given)))
    measured = [name for name in options.parts if name in PARTS]
    if not measured:
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        bench = Bench(Path(folder), options.rows, options.csv_rows, options.runs, options.limit, options.json)
        bench.tell("machine", **machine())
        for name in measured:
            bench.started = time.monotonic()
            PARTS[name](bench)


if __name__ == "__main__":
    main()
