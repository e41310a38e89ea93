"""Measure a CUDA device: how long the presets take there, and how good the networks are.

    python -m tests.bench.cuda train OUT                          on the machine with the GPU
    python -m tests.bench.cuda score OUT --date 2026-11-26-h100   on the machine with the practice server

`train` needs only torch, numpy, pandas, safetensors and onnxruntime. It fits on the 42,000 labelled rows,
which are in memory, and writes to OUT: results.jsonl, a line per fit, and each network's predictions for
the other 28,000 rows. First it runs one fit in each of several fresh processes, so that the start of CUDA
and the loading of kernels count. Finally a network trained on the GPU is opened in a process that sees no
GPU; if the two disagree, it exits with 1. Without a GPU it says so.

`score` posts each network's predictions, and the mean of each ensemble's, to the practice server, which alone
knows the labels, and writes `tests/bench/records/<date>-…/results.jsonl`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from infra.practice.data import deal
from infra.practice.labelled import digits as all_digits
from infra.practice.labelled import read_labels, read_pixels
from mnist_core import Digits, export, fit, predict
from mnist_core.models import convnet, ensemble
from mnist_core.models.ensemble.net import fit as fit_ensemble
from mnist_core.spec import DIGIT_RECOGNIZER
from tests.bench.scores import Practice, machine, read_lines, spread, tell

SINGLE = {"fast": 10, "balanced": 5, "best": 10, "wide": 10}
"""Seeds of each preset, one network after another."""
MEMBERS, REPEATS, PUPILS = 8, 6, 5
ENSEMBLE = replace(ensemble.PRESETS["best"], members=MEMBERS)
FRESH = 3
RECORDS = Path(__file__).parent / "records"

HERE = """
import sys, numpy as np, torch
from pathlib import Path
from mnist_core import load, predict
assert not torch.cuda.is_available()
folder = Path(sys.argv[1])
np.save(folder / "answers.npy", predict(load(folder)[0], np.load(folder / "pixels.npy")))
"""


def digits() -> tuple[Digits, np.ndarray]:
    """Return the digits of the practice server's train.csv and test.csv; the latter's labels are not used."""
    pixels, labels = read_pixels().reshape(-1, 28, 28), read_labels()
    split = deal(all_digits(DIGIT_RECOGNIZER), 0)
    return Digits(pixels[split.train], labels[split.train].astype(np.int64)), pixels[split.test]


def timed(train: Digits, *arguments: Any, **options: Any) -> tuple[torch.nn.Module, float]:
    """Fit on the GPU and return the network, on the CPU, and the seconds that this took."""
    start = perf_counter()
    net = fit(train, *arguments, device="cuda", **options)
    return net, round(perf_counter() - start, 4)


def train(out: Path) -> None:
    """Fit, time and write."""
    if not torch.cuda.is_available():
        print("this machine has no CUDA device: nothing is measured")
        return
    out.mkdir(parents=True, exist_ok=True)
    log = out / "results.jsonl"
    said: dict[str, Any] = {}

    def keep(record: str, probabilities: np.ndarray, **facts: Any) -> None:
        number = str(len(said))
        said[number] = probabilities.argmax(1).astype(np.uint8)
        np.savez_compressed(out / "part.npz", **said)
        (out / "part.npz").replace(out / "answers.npz")  # a machine that is lost leaves a whole file
        tell(log, record=record, answers=number, **facts)

    tell(log, machine=machine(), commit=commit())
    for _ in range(FRESH):
        start = perf_counter()
        fresh = subprocess.run(
            [sys.executable, "-m", __spec__.name, "fresh", str(out)], check=True, stdout=subprocess.PIPE
        )
        whole = round(perf_counter() - start, 2)
        tell(log, record="convnet-fast", fresh_seconds=float(fresh.stdout), process_seconds=whole)
    labelled, pixels = digits()
    assert labelled.labels is not None
    timed(labelled, "convnet", "fast")
    for preset, count in SINGLE.items():
        for seed in range(count):
            net, seconds = timed(labelled, "convnet", preset, seed=seed)
            keep(f"convnet-{preset}", on_the_gpu(net, pixels), seed=seed, seconds=seconds)
    for first in range(100, 100 + REPEATS * MEMBERS, MEMBERS):
        start = perf_counter()
        teacher = fit_ensemble(labelled.pixels, labelled.labels, ENSEMBLE, seed=first, device="cuda")
        seconds = round(perf_counter() - start, 4)
        together = np.mean([on_the_gpu(net, pixels) for net in teacher.members], axis=0)
        keep("ensemble-best", together, seeds=list(range(first, first + MEMBERS)), seconds=seconds)
    for seed in range(PUPILS):  # teachers: the last ensemble, whose seeds differ from these
        net, seconds = timed(labelled, "convnet", "wide", seed=seed, teacher=teacher)
        keep("convnet-wide-taught", on_the_gpu(net, pixels), seed=seed, seconds=seconds)
    difference = elsewhere(net, pixels[:2000])
    tell(log, largest_difference_on_a_cpu=difference)
    if difference > 1e-4:
        raise SystemExit(f"a CPU gives other probabilities, by up to {difference:.1e}")


def commit() -> str | None:
    """Return the commit of this checkout; None if it is not one, or git is missing."""
    try:
        return subprocess.check_output(["git", "describe", "--always", "--dirty"], text=True).strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def on_the_gpu(net: torch.nn.Module, pixels: np.ndarray) -> np.ndarray:
    """Return a network's probabilities of digits."""
    return predict(net, pixels, device="cuda", batch_size=2000)


def elsewhere(net: torch.nn.Module, pixels: np.ndarray) -> float:
    """Return how far the predictions of a process without CUDA are from those made here."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        export(net, folder, {"seed": 0, "preset": "fast"}, learner=False)
        np.save(folder / "pixels.npy", pixels)
        environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
        subprocess.run([sys.executable, "-c", HERE, str(folder)], check=True, env=environment)
        return float(np.abs(np.load(folder / "answers.npy") - on_the_gpu(net, pixels)).max())


def score(out: Path, date: str) -> None:
    """Post what `train` wrote, and append to the records."""
    practice = Practice()
    said = np.load(out / "answers.npz")
    head, *rows = read_lines(out / "results.jsonl")
    difference = {} if "record" in rows[-1] else rows.pop()  # a run that was cut off has no such line
    for record in dict.fromkeys(row["record"] for row in rows):
        folder = RECORDS / f"{date}-{record}"
        folder.mkdir(parents=True)
        model, preset = record.split("-")[:2]
        recipe = asdict(ENSEMBLE if model == "ensemble" else convnet.PRESETS[preset])
        tell(folder / "results.jsonl", recipe=recipe, rows=42_000, **head, **difference)
        mine = [row for row in rows if row["record"] == record]
        for row in mine:
            if "answers" in row:
                labels = said[row.pop("answers")].astype(np.int64)
                row["public_score"] = practice.score(labels, f"{folder.name} {row}")
            tell(folder / "results.jsonl", **row)
        for key in ("public_score", "seconds"):
            print(key, spread([row[key] for row in mine if key in row]))


def main() -> None:
    """Train or score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=["train", "fresh", "score"])
    parser.add_argument("out", type=Path)
    parser.add_argument("--date", help="For `score`: prefix of the records' folders.")
    given = parser.parse_args()
    if given.what == "score" and given.date is None:
        parser.error("score needs --date")
    if given.what == "train":
        train(given.out)
    elif given.what == "fresh":
        print(timed(digits()[0], "convnet", "fast")[1])
    else:
        score(given.out, given.date)


if __name__ == "__main__":
    main()
