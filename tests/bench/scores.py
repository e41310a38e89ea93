"""Measure the systems of the six notebooks: minutes, held-out accuracy and public score.

    .venv/bin/python tests/bench/scores.py --seeds 1 2 3 --systems linear scratch regression resnet18 origin

Each training is the command that a person would type, in a process of its own: `mnist_core train` on the
competition's train.csv, then `mnist_core submission` on its test.csv. The CSV is posted with Kaggle's
client to the practice server of MNIST_HOME, which alone knows the labels. Minutes are those that `train`
reports: the training, with writing and reading PNGs if the recipe uses PNGs, without imports. Prints JSON
lines: the machine, each training, and for each system the mean and standard deviation over its seeds. What
--log has already is not trained again.
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
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

SYSTEMS = {
    "linear": ["--model", "scratch", "--preset", "linear"],
    "scratch": ["--model", "scratch"],
    "regression": ["--model", "scratch-regression"],
    "convnet": ["--model", "convnet"],
    "resnet18": ["--model", "resnet18"],
    "resnet18-balanced": ["--model", "resnet18", "--preset", "balanced"],
    "origin": ["--model", "resnet18", "--preset", "origin"],
}

FIGURES = ("public_score", "valid_accuracy", "minutes")


class Practice:
    """The practice server of MNIST_HOME, which alone knows the labels of the test rows.

    Attributes:
        home: MNIST_HOME.
        train_csv, test_csv: the competition's files.
    """

    def __init__(self) -> None:
        from flows.kaggle.competition import connect
        from flows.settings import read_settings

        os.environ.setdefault("MNIST_DAILY_LIMIT", "1000")
        settings = read_settings(kaggle="practice")
        self.home = settings.home
        self.competition = connect(settings)
        data = self.competition.download()
        self.train_csv, self.test_csv = data.train_csv, data.test_csv

    def score_csv(self, csv: Path, description: str) -> float | None:
        """Post a submission, and return its public score."""
        made = self.competition.submit_once(csv, description)
        return self.competition.wait_for_score(made.ref, 60).public_score

    def score(self, labels: np.ndarray, description: str) -> float | None:
        """Post labels int64 (28000,), and return their public score."""
        from mnist_core import to_csv

        csv = self.home / "bench.csv"
        csv.write_bytes(to_csv(labels))
        return self.score_csv(csv, description)


def main() -> None:
    """Read the arguments, train, submit, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=["linear", "scratch", "convnet"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--log", type=Path, help="Also append the JSON lines to this file.")
    given = parser.parse_args()
    practice = Practice()
    tell(given.log, machine=machine())
    rows = read_lines(given.log) if given.log else []
    for seed in given.seeds:
        for system in given.systems:
            if not any((row.get("system"), row.get("seed")) == (system, seed) for row in rows):
                rows.append(measure(system, seed, practice))
                tell(given.log, **rows[-1])
    for system in given.systems:
        mine = [row for row in rows if row.get("system") == system and row["seed"] in given.seeds]
        tell(
            given.log,
            summary=system,
            n=len(mine),
            **{key: spread([row[key] for row in mine]) for key in FIGURES},
        )


def measure(system: str, seed: int, practice: Practice) -> dict[str, Any]:
    """Train one system, submit its predictions, and return the result."""
    with tempfile.TemporaryDirectory() as folder:
        bundle, csv = Path(folder) / "bundle", Path(folder) / "submission.csv"
        before, start = product_gflops(), perf_counter()
        run("train", str(practice.train_csv), str(bundle), *SYSTEMS[system], "--seed", str(seed))
        whole = perf_counter() - start
        manifest = json.loads((bundle / "manifest.json").read_text())
        clip = ["--clip"] if system == "regression" else []
        run("submission", str(bundle), str(practice.test_csv), str(csv), *clip)
        public_score = practice.score_csv(csv, f"{system} seed {seed}")
    return {
        "system": system,
        "seed": seed,
        "public_score": public_score,
        "valid_accuracy": manifest["valid_accuracy"],
        "minutes": round(manifest["seconds"]["train"] / 60, 3),
        "process_minutes": round(whole / 60, 3),
        "product_gflops": [before, product_gflops()],
    }


def run(*arguments: str) -> None:
    """Run a command of the library."""
    subprocess.run([sys.executable, "-m", "mnist_core", *arguments], check=True, stdout=subprocess.DEVNULL)


def spread(values: list[float]) -> dict[str, float]:
    """Return mean, standard deviation (of two or more), minimum and maximum."""
    sd = {"sd": round(statistics.stdev(values), 5)} if len(values) > 1 else {}
    return {"mean": round(statistics.mean(values), 5), **sd, "min": min(values), "max": max(values)}


def product_gflops() -> float:
    """Measure how fast this machine is right now: the median of five products of 1,024 × 1,024 float32."""
    a = torch.rand(1024, 1024)
    a @ a
    rates = []
    for _ in range(5):
        start = perf_counter()
        a @ a
        rates.append(2 * 1024**3 / (perf_counter() - start) / 1e9)
    return round(statistics.median(rates), 1)


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if "model name" in line] if info.exists() else []
    return {
        "cpu": names[0].split(":")[1].strip() if names else platform.processor(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "torch": torch.__version__,
    }


def read_lines(log: Path) -> list[dict[str, Any]]:
    """Return the lines of a log."""
    return [json.loads(line) for line in log.read_text().splitlines()]


def tell(log: Path | None, **facts: Any) -> None:
    """Print a line of JSON, and append it to the log."""
    line = json.dumps(facts)
    print(line, flush=True)
    if log is not None:
        with log.open("a") as file:
            file.write(line + "\n")


if __name__ == "__main__":
    main()
