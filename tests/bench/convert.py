"""Measure CSV → PNGs → CSV: this library beside the original notebook's loop, on the same files.

    .venv/bin/python tests/bench/convert.py                # real digits: 42,000 and 28,000 rows
    .venv/bin/python tests/bench/convert.py --runs 5

The original way, notebook 2: pandas reads the CSV, then for each row
`Image.frombytes('L', (28, 28), bytes(row))` and `save`. Each side runs in a process of its own, since import
and memory are part of it; the two take turns, and medians are of the same number of runs of each.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from infra.practice.data import make_zip

ORIGIN = """
import pandas as pd
from PIL import Image
frame = pd.read_csv(csv)
labels = frame.pop("label") if "label" in frame else None
for label in range(10 if labels is not None else 0):
    (out / str(label)).mkdir(parents=True)
out.mkdir(exist_ok=True)
for i, row in enumerate(frame.values):
    place = out if labels is None else out / str(labels[i])
    Image.frombytes("L", (28, 28), bytes(row.tolist())).save(place / f"{i}.png")
"""

OURS = """
from mnist_core import read_digits, write_pngs
write_pngs(read_digits(csv), out)
"""

BACK = """
from mnist_core import read_digits, write_csv
write_csv(read_digits(csv), out)
"""

MEASURE = """
import json, sys
from pathlib import Path
from time import perf_counter
csv, out = Path(sys.argv[1]), Path(sys.argv[2])
start = perf_counter()
{code}
seconds = perf_counter() - start
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(json.dumps([seconds, int(status["VmHWM"].split()[0]) / 1024]))
"""


def measure(code: str, source: Path, out: Path) -> tuple[float, float]:
    """Run one side in a process of its own and return its seconds and its peak memory in MiB."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE.format(code=code), str(source), str(out)],
        capture_output=True,
        text=True,
        check=True,
    )
    seconds, mib = json.loads(done.stdout)
    return seconds, mib


def count(folder: Path) -> int:
    """Return the number of PNGs in a folder."""
    return sum(1 for _ in folder.rglob("*.png"))


def machine() -> str:
    """Describe the machine."""
    cpu = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    return (
        f"{os.cpu_count()} × {cpu}, load {os.getloadavg()[0]:.1f}, {platform.system()} {platform.release()}"
    )


def main() -> None:
    """Print a line for each run, and the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, help="Runs of each side (default: 3).")
    parser.add_argument(
        "--folder", type=Path, help="Folder on the disk to measure (default: the system's temporary folder)."
    )
    given = parser.parse_args()

    print(machine())
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory(dir=given.folder) as scratch:
        folder = Path(scratch)
        with zipfile.ZipFile(make_zip(folder / "zip", 0)) as archive:
            archive.extractall(folder)
        for run in range(given.runs):
            for name in ("train", "test"):
                csv = folder / f"{name}.csv"
                for side, code in (("origin", ORIGIN), ("ours", OURS)):
                    out = folder / f"{side}-{name}-{run}"
                    result = measure(code, csv, out)
                    found.setdefault((name, side), []).append(result)
                    print(f"run {run + 1}  {name} → PNGs  {side:6}  {result[0]:6.2f} s  {result[1]:5.0f} MiB")
                ours = folder / f"ours-{name}-{run}"
                assert (
                    count(ours)
                    == count(folder / f"origin-{name}-{run}")
                    == (42_000 if name == "train" else 28_000)
                )
                found.setdefault((name, "again"), []).append(measure(OURS, csv, ours))
                found.setdefault((name, "back"), []).append(measure(BACK, ours, folder / "back.csv"))
                assert (folder / "back.csv").read_bytes() == csv.read_bytes()
    print(f"medians of {given.runs}, import included")
    for (name, side), results in found.items():
        seconds, mib = (statistics.median(column) for column in zip(*results, strict=True))
        spread = f"{min(r[0] for r in results):.2f} to {max(r[0] for r in results):.2f}"
        print(f"{name:5} {side:6}  {seconds:6.2f} s ({spread})  {mib:5.0f} MiB")


if __name__ == "__main__":
    main()
