"""Measure where the seconds of a night go, and how long a command takes that starts no flow.

    python -m tests.bench.night [--nights 3] [--json FILE]

A fresh home first, then more nights in the same one, then commands. The seconds of a step are those between
the lines that the command prints; `fit` is what it reports. Nothing inside the command is measured, so it
runs as a person runs it. `score` ends when the scorecard is printed, which is when a person knows the score.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from datetime import date, timedelta
from pathlib import Path
from statistics import mean, median
from time import perf_counter
from typing import Any

from tests.bench.scores import machine, spread

STEPS = {
    "store: ": "start",
    "training ": "read",
    "exporting the network": "fit and evaluate",
    "published ": "publish",
    "predicted ": "predict",
    "posted submission": "gate and post",
    "Night ": "score",
    "done in": "report",
}
"""How the line begins that ends a step, after its time of day."""
COMMANDS = (
    ("flows", "--version"),
    ("flows", "status"),
    ("flows", "versions"),
    ("flows", "doctor", "--help"),
    ("mnist_core", "--help"),
)


def night(environment: dict[str, str], which: date) -> dict[str, Any]:
    """Run a night; return its seconds by step, to the score and in all, and the peak of its memory in MiB."""
    command = [sys.executable, "-m", "flows", "nightly", "--json", "--night", which.isoformat()]
    start = last = perf_counter()
    steps: dict[str, float] = {}
    peak, to_score = 0.0, 0.0
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stderr is not None
        assert run.stdout is not None
        for line in run.stderr:
            peak = max(peak, _peak(run.pid))
            words = line.strip().partition(" ")[2] if line[:1].isdigit() else line.strip()
            step = next((step for begin, step in STEPS.items() if words.startswith(begin)), None)
            if step is not None:
                now = perf_counter()
                steps[step], last = now - last, now
                to_score = now - start if step == "score" else to_score
        result = json.loads(run.stdout.read().splitlines()[-1])
    end = perf_counter()
    steps["exit"] = end - last
    steps["fit"] = result["seconds"]["train"]
    steps["evaluate"] = steps.pop("fit and evaluate") - steps["fit"]
    return {
        "steps": {step: round(took, 2) for step, took in steps.items()},
        "to_score": round(to_score, 2),
        "total": round(end - start, 2),
        "peak_mib": round(peak),
        "public_score": result["submission"]["public_score"],
    }


def _peak(pid: int) -> float:
    """Return the peak memory of a process in MiB; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)


def command_seconds(environment: dict[str, str], *arguments: str) -> float:
    """Return the median seconds of five runs of a command."""
    took = []
    for _ in range(5):
        start = perf_counter()
        subprocess.run([sys.executable, "-m", *arguments], env=environment, capture_output=True, check=True)
        took.append(perf_counter() - start)
    return round(median(took), 2)


def environment_of(folder: Path) -> dict[str, str]:
    """Return the environment of a home that is used for nothing else."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MNIST_")}
    kept |= {"MNIST_HOME": str(folder / "home"), "MNIST_STORE": str(folder / "store")}
    return kept | {"MNIST_KAGGLE": "practice", "MNIST_MODEL": "convnet", "MNIST_PRESET": "fast"}


def measure(nights: int, folder: Path) -> list[dict[str, Any]]:
    """Run the first night of a home and some more, and return what each gave."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = environment_of(folder)
    first = date(2026, 1, 1)
    return [night(environment, first + timedelta(days=number)) for number in range(nights + 1)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--nights", type=int, default=3, help="nights after the first one")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    given = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as scratch:
        first, *warm = measure(given.nights, Path(scratch))
        commands = {
            " ".join(command): command_seconds(environment_of(Path(scratch)), *command)
            for command in COMMANDS
        }
    print("first night:", first)
    for key in ("to_score", "total", "peak_mib"):
        print(f"{key}, n = {len(warm)}:", spread([found[key] for found in warm]))
    for step in warm[0]["steps"]:
        print(f"  {step}: {mean(found['steps'][step] for found in warm):.2f} s")
    for command, took in commands.items():
        print(f"{command}: {took} s")
    if given.json is not None:
        facts = {"machine": machine(), "first": first, "warm": warm, "commands": commands}
        given.json.write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
