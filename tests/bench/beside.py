"""Measure training and inference on quiet cores and beside one busy process, in turn.

    python -m tests.bench.beside [--runs 3] [--rows linear predict …] [--json FILE]

Each run is a process of its own, that reports the seconds of its work alone, without imports. Three sides
take turns: on quiet cores; beside a process that only counts; and on quiet cores with threads that spin while
they wait (OMP_WAIT_POLICY=active, nearly OpenMP's default), which is what letting them sleep may cost.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from infra.practice.data import make_zip
from tests.bench.scores import machine

WORK = """
import sys
from pathlib import Path
from time import perf_counter
from mnist_core.cores import let_threads_sleep
let_threads_sleep()
from mnist_core import export, fit, open_model, predict, read_test, read_train
from mnist_core.models.base import build, find

what, folder = sys.argv[1], Path(sys.argv[2])
digits, test = read_train(folder / "train.csv"), read_test(folder / "test.csv").pixels
if what == "fit":
    model, preset, count, epochs = (*sys.argv[3:], None, None)[:4]
    rows = range(int(count)) if count else None
    start = perf_counter()
    fit(digits, model, preset, device="cpu", rows=rows, epochs=int(epochs) if epochs else None)
else:
    net = fit(digits, "convnet", "fast", device="cpu", epochs=1, rows=range(2000))
    if what == "torch":
        start = perf_counter()
        predict(net, test)
    else:
        export(net, folder / f"bundle-{perf_counter()}", {}, learner=False)
        model = open_model(max(folder.glob("bundle-*"), key=lambda path: path.stat().st_mtime))
        start = perf_counter()
        model.predict(test)
print(perf_counter() - start)
"""
ROWS = {
    "linear": ("fit", "scratch", "linear"),
    "scratch": ("fit", "scratch", "fast"),
    "regression": ("fit", "scratch-regression", "fast"),
    "convnet": ("fit", "convnet", "fast"),
    "resnet18": ("fit", "resnet18", "fast", "2000", "1"),
    "predict": ("torch",),
    "predict-onnx": ("onnx",),
}
MOST, LOSS = 2.5, 1.15
"""What is held: beside a busy process at most this many times the quiet seconds, and on quiet cores at most
this many times those of threads that spin."""


@contextlib.contextmanager
def busy() -> Iterator[None]:
    """Keep one core busy."""
    counting = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        counting.kill()
        counting.wait()


def run(row: tuple[str, ...], folder: Path, **variables: str) -> float:
    """Return the seconds of the work of a row."""
    what, *more = row
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WORK, what, str(folder), *more],
        env=os.environ | variables, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return float(done.stdout.split()[-1])


def main() -> None:
    """Measure and print a line for each row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    given = parser.parse_args()
    print(machine())
    found: dict[str, Any] = {"machine": machine()}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with zipfile.ZipFile(make_zip(folder / "zip", 0)) as archive:
            archive.extractall(folder)
        for name in given.rows:
            sides: dict[str, list[float]] = {"quiet": [], "busy": [], "spinning": []}
            for _ in range(given.runs):
                sides["quiet"].append(run(ROWS[name], folder))
                with busy():
                    sides["busy"].append(run(ROWS[name], folder))
                sides["spinning"].append(run(ROWS[name], folder, OMP_WAIT_POLICY="active"))
            quiet, beside, spinning = (median(took) for took in sides.values())
            held = beside <= MOST * quiet and quiet <= LOSS * spinning
            print(
                f"{name}: quiet {quiet:.2f} s, beside a process {beside:.2f} s ({beside / quiet:.1f} x), "
                f"spinning {spinning:.2f} s ({quiet / spinning:.2f} x), {'held' if held else 'NOT HELD'}",
                flush=True,
            )
            found[name] = sides
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
