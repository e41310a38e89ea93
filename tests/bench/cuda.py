"""Figures of a CUDA device: what the presets take there, and what the networks are worth.

    python -m tests.bench.cuda train OUT                          where the GPU is
    python -m tests.bench.cuda score OUT --date 2026-11-26-h100   where the practice competition is

`train` needs torch, numpy, pandas, safetensors and onnxruntime alone. It fits on the 42,000 labelled rows,
which lie in memory, and writes to OUT: results.jsonl, a line for each fit, and what each network says of the
28,000 others. Fresh processes come first, one fit each: there CUDA's start and the loading of kernels count,
too. In the end a network made on the GPU is opened in a process that sees none; exit 1 where the two say
something else. Without a GPU it says so.

`score` posts each network's answers, and the mean of each ensemble's, to the competition, which alone knows
the labels, and makes `tests/bench/records/<date>-…/results.jsonl` of them.
"""

from __future__ import annotations

import argparse
import json
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

from infra.practice.data import deal, read_labels, read_pixels
from mnist_core import Digits, export, fit, predict
from mnist_core.models import convnet, ensemble
from mnist_core.models.ensemble.net import fit as fit_ensemble
from tests.bench.scores import machine, spread, tell

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
    """What the practice competition's train.csv and test.csv hold; the labels of the latter go nowhere."""
    pixels, labels = read_pixels().reshape(-1, 28, 28), read_labels()
    split = deal(labels, 0)
    return Digits(pixels[split.train], labels[split.train].astype(np.int64)), pixels[split.test]


def timed(train: Digits, *arguments: Any, **options: Any) -> tuple[torch.nn.Module, float]:
    """Fit on the GPU: the network, on the CPU, and the seconds that this took."""
    start = perf_counter()
    net = fit(train, *arguments, device="cuda", **options)
    return net, round(perf_counter() - start, 4)


def train(out: Path) -> None:
    """Fit, time and write."""
    if not torch.cuda.is_available():
        print("no CUDA device here: nothing is measured")
        return
    out.mkdir(parents=True, exist_ok=True)
    log = out / "results.jsonl"
    said: dict[str, Any] = {}

    def keep(record: str, probabilities: np.ndarray, **facts: Any) -> None:
        number = str(len(said))
        said[number] = probabilities.argmax(1).astype(np.uint8)
        np.savez_compressed(out / "part.npz", **said)
        (out / "part.npz").replace(out / "answers.npz")  # a machine that goes away takes nothing along
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
    for seed in range(PUPILS):  # of the last ensemble, in which none has such a seed
        net, seconds = timed(labelled, "convnet", "wide", seed=seed, teacher=teacher)
        keep("convnet-wide-taught", on_the_gpu(net, pixels), seed=seed, seconds=seconds)
    difference = elsewhere(net, pixels[:2000])
    tell(log, largest_difference_on_a_cpu=difference)
    if difference > 1e-4:
        raise SystemExit(f"a CPU gives other probabilities, by up to {difference:.1e}")


def commit() -> str | None:
    """The commit of this checkout; None where it is none, or git is not there."""
    try:
        return subprocess.check_output(["git", "describe", "--always", "--dirty"], text=True).strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def on_the_gpu(net: torch.nn.Module, pixels: np.ndarray) -> np.ndarray:
    """What a network says of digits."""
    return predict(net, pixels, device="cuda", batch_size=2000)


def elsewhere(net: torch.nn.Module, pixels: np.ndarray) -> float:
    """How far the answers of a process without CUDA are from those here."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        export(net, folder, {"seed": 0, "preset": "fast"}, learner=False)
        np.save(folder / "pixels.npy", pixels)
        environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
        subprocess.run([sys.executable, "-c", HERE, str(folder)], check=True, env=environment)
        return float(np.abs(np.load(folder / "answers.npy") - on_the_gpu(net, pixels)).max())


def score(out: Path, date: str) -> None:
    """Post what `train` wrote, and append to the records."""
    from flows.kaggle.competition import connect
    from flows.settings import read_settings
    from mnist_core import to_csv

    os.environ.setdefault("MNIST_DAILY_LIMIT", "1000")
    settings = read_settings(kaggle="practice")
    competition = connect(settings)
    competition.download()
    said = np.load(out / "answers.npz")
    head, *rows = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    difference = {} if "record" in rows[-1] else rows.pop()  # a run that was cut off has none
    csv = settings.home / "cuda.csv"
    for record in dict.fromkeys(row["record"] for row in rows):
        folder = RECORDS / f"{date}-{record}"
        folder.mkdir(parents=True)
        model, preset = record.split("-")[:2]
        recipe = asdict(ENSEMBLE if model == "ensemble" else convnet.PRESETS[preset])
        tell(folder / "results.jsonl", recipe=recipe, rows=42_000, **head, **difference)
        mine = [row for row in rows if row["record"] == record]
        for row in mine:
            if "answers" in row:
                csv.write_bytes(to_csv(said[row.pop("answers")].astype(np.int64)))
                made = competition.submit_once(csv, f"{folder.name} {row}")
                row["public_score"] = competition.wait_for_score(made.ref, 60).public_score
            tell(folder / "results.jsonl", **row)
        for key in ("public_score", "seconds"):
            print(key, spread([row[key] for row in mine if key in row]))


def main() -> None:
    """Train or score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=["train", "fresh", "score"])
    parser.add_argument("out", type=Path)
    parser.add_argument("--date", help="of `score`: how the records' folders begin")
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
