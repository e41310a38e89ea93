"""Train there, predict here: a learner made on a CUDA device opens where there is none, to the same answers.

    .venv/bin/python tests/bench/cuda.py

Trains a `convnet` on the GPU with drawn digits, exports it, and opens it in a process that sees no CUDA
device: by our own inference and by fastai's `load_learner`. Prints one JSON line; without a GPU it says so,
and nothing was measured. Exit code 1 where the answers differ.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from mnist_core import Digits, export, fit, predict

HERE = """
import sys, numpy as np, torch
from pathlib import Path
from mnist_core import load, load_learner, predict
assert not torch.cuda.is_available()
folder = Path(sys.argv[1])
pixels = np.load(folder / "pixels.npy")
learner = load_learner(folder)
np.savez(
    folder / "answers.npz",
    ours=predict(load(folder)[0], pixels),
    fastai=learner.get_preds(dl=learner.dls.test_dl(pixels))[0].numpy(),
)
"""


def main() -> int:
    """Train, open elsewhere, compare, print."""
    if not torch.cuda.is_available():
        print(json.dumps({"cuda": None, "note": "no CUDA device here: not measured"}))
        return 0
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (4096, 28, 28), dtype=np.uint8)
    digits = Digits(pixels, random.integers(0, 10, len(pixels)))
    start = perf_counter()
    net = fit(digits, "convnet", "fast", device="cuda", epochs=1)
    seconds = perf_counter() - start
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "bundle"
        export(net.cuda(), folder, {"seed": 0, "preset": "fast"})
        np.save(folder / "pixels.npy", pixels)
        subprocess.run(
            [sys.executable, "-c", HERE, str(folder)],
            check=True,
            env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        )
        there = predict(net, pixels)
        answers = dict(np.load(folder / "answers.npz"))
    largest = {name: float(np.abs(found - there).max()) for name, found in answers.items()}
    print(
        json.dumps({"cuda": torch.cuda.get_device_name(), "train_s": seconds, "largest_difference": largest})
    )
    return int(max(largest.values()) > 1e-4)


if __name__ == "__main__":
    sys.exit(main())
