"""Measure the graph in integers beside the one in float32: labels, held-out accuracy, digits a second.

    python -m tests.bench.int8 --presets fast best --seeds 1 2 3 --json int8.jsonl        # 4 min

Each network is trained on 33,600 of 42,000 rows; the scales come from 1,000 of these. Accuracy is that on the
other 8,400, and 28,000 more digits are read by both graphs in turn, without their labels.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np

from infra.practice.labelled import read_labels, read_pixels
from mnist_core import export, fit, open_model
from mnist_core.digits import Digits
from mnist_core.int8 import add_int8
from mnist_core.spec import DIGIT_RECOGNIZER
from tests.bench.scores import machine, tell

ROWS, TRAINED, SCALES, TURNS = 42_000, 33_600, 1_000, 3


def measure(digits: Digits, others: np.ndarray, preset: str, seed: int, log: Path | None) -> None:
    """Train a network, and report what both of its graphs give."""
    net = fit(digits, "convnet", preset, rows=np.arange(TRAINED), seed=seed, device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder)
        export(net, bundle, {}, learner=False)
        start = perf_counter()
        add_int8(bundle, digits.pixels[:SCALES])
        made = perf_counter() - start
        models = {backend: open_model(bundle, backend) for backend in ("onnxruntime", "int8")}
    held_out = {
        backend: (model.read_labels(digits.pixels[TRAINED:]) == digits.true_labels[TRAINED:]).mean()
        for backend, model in models.items()
    }
    rates: dict[str, list[float]] = {backend: [] for backend in models}
    labels = {}
    for _ in range(TURNS):
        for backend, model in models.items():
            start = perf_counter()
            labels[backend] = model.read_labels(others)
            rates[backend].append(len(others) / (perf_counter() - start))
    differ = int((labels["int8"] != labels["onnxruntime"]).sum())
    tell(
        log, preset=preset, seed=seed, differ=differ, of=len(others), made_s=round(made, 2),
        **{f"held_out_{name}": round(float(value), 5) for name, value in held_out.items()},
        **{f"digits_s_{name}": round(max(found)) for name, found in rates.items()},
    )  # fmt: skip


def main() -> None:
    """Measure each preset with each seed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--presets", nargs="+", default=["fast", "best"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    pixels = read_pixels().reshape(-1, *DIGIT_RECOGNIZER.picture_shape)
    digits = Digits(pixels[:ROWS], read_labels()[:ROWS].astype(np.int64), DIGIT_RECOGNIZER)
    tell(options.json, **machine())
    for preset in options.presets:
        for seed in options.seeds:
            measure(digits, pixels[ROWS:], preset, seed, options.json)


if __name__ == "__main__":
    main()
