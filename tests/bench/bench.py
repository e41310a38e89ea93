"""Measure the job beside what it is meant to beat, in one run: `make bench`, `make bench-quick`.

    python -m tests.bench.bench [--quick] [--json FILE]

The two sides of a row take turns, and the row shows medians. The speed of the machine's float32 matrix
product is measured before and after, because it differs by a factor of two from hour to hour. What would
take hours (the original notebooks' training, their loop over 28,000 digits) is timed on a part and
extrapolated; the row says so. Rows of many trainings (ten seeds, ensembles) are pooled from
`tests/bench/records/`, which `python -m tests.bench.record` fills one training at a time.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from infra.practice.data import make_zip
from mnist_core.spec import DIGIT_RECOGNIZER
from tests.bench import night
from tests.bench.record import RECORDS
from tests.bench.scores import machine, product_gflops, spread

ORIGIN_EPOCHS = 4
"""`fine_tune(3)`: one epoch with a frozen body, three of all."""
ORIGIN_PREDICTED = 200
ORIGIN_BATCHES = 12

ORIGIN = """
import json, sys, time
start = time.perf_counter()
import numpy as np, torch
from fastai.vision.all import *
from mnist_core import to_fastai
imports = time.perf_counter() - start
digits = np.random.default_rng(0).integers(0, 256, ({batches} * 32 + 64, 28, 28), np.uint8)
pictures = [to_fastai(digit) for digit in digits]
block = DataBlock(blocks=(ImageBlock, CategoryBlock), get_x=lambda k: pictures[k],
    get_y=lambda k: str(k % 10), splitter=IndexSplitter(range({batches} * 32, len(pictures))))
dls = block.dataloaders(range(len(pictures)), bs=32, num_workers=0)
learn = vision_learner(dls, resnet18, pretrained=False)
learn.unfreeze()
with learn.no_bar(), learn.no_logging():
    learn.fit(1)  # the first batches are slower
    start = time.perf_counter()
    learn.fit(1)
    batch = (time.perf_counter() - start) / {batches}
    start = time.perf_counter()
    for number in range({predicted}):
        learn.predict(number)
    digit = (time.perf_counter() - start) / {predicted}
print(json.dumps([imports, batch, digit]))
"""

PEAK = """
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(int(status["VmHWM"].split()[0]) / 1024)
"""
"""Peak memory in MiB. getrusage would start from the parent's peak."""

SUBMISSION = """
import runpy, sys
sys.argv[0] = "mnist_core"
try:
    runpy.run_module("mnist_core", run_name="__main__")
except SystemExit as end:
    assert not end.code
"""

FIT = """
import sys, time
from pathlib import Path
from mnist_core import fit, read_train
digits = read_train(Path(sys.argv[1]))
start = time.perf_counter()
fit(digits, "convnet", "fast", device=sys.argv[2])
print(time.perf_counter() - start)
"""


def turns(count: int, *sides: Callable[[], Any]) -> list[list[Any]]:
    """Run each side `count` times, in turn, and return what each gave."""
    found: list[list[Any]] = [[] for _ in sides]
    for _ in range(count):
        for side, results in zip(sides, found, strict=True):
            results.append(side())
    return found


def seconds(action: Callable[[], Any]) -> float:
    """Return the seconds that an action takes."""
    start = perf_counter()
    action()
    return perf_counter() - start


def python(*arguments: str) -> str:
    """Run Python in a process of its own and return what it printed."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True)
    return done.stdout


def submission(bundle: Path, test: Path) -> tuple[float, float]:
    """Predict test.csv in a process and return its seconds, start to end, and its peak memory in MiB."""
    start = perf_counter()
    told = python("-c", SUBMISSION + PEAK, "submission", str(bundle), str(test), str(bundle / "s.csv"))
    return perf_counter() - start, float(told.split()[-1])


def roofline(bundle: Path, pixels: Any, count: int) -> tuple[float, float, float]:
    """Return the digits per second of inference, its GFLOP/s, and those of a matrix product."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from mnist_core import load, open_model

    net = load(bundle)[0]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        for part in torch.from_numpy(pixels).split(1000):
            net(part)
    model = open_model(bundle)
    took, product = turns(count, lambda: seconds(lambda: model.predict(pixels)), product_gflops)
    rate = len(pixels) / median(took)
    return rate, rate * counter.get_total_flops() / len(pixels) / 1e9, median(product)


def pooled() -> list[dict[str, Any]]:
    """Return the rows of the records: each preset's networks, and ensembles by size."""
    rows = []
    for log in sorted(RECORDS.glob("*/results.jsonl")):
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        sizes = sorted({len(line["seeds"]) for line in lines if "seeds" in line})
        for size in [1, *sizes]:
            mine = [line for line in lines if len(line.get("seeds", [line.get("seed")])) == size]
            mine = [line for line in mine if "public_score" in line]
            if not mine:
                continue
            count = DIGIT_RECOGNIZER.test_rows
            score = spread([round(line["public_score"] * count) / count for line in mine])
            took = spread([line["seconds"] for line in mine])
            several = len(mine) > 1
            sd = f" ± {score['sd']:.5f}" if several else ""
            least_and_most = f" ({took['min']:.1f} to {took['max']:.1f})" if several else ""
            name = log.parent.name + (f", {size} together" if size > 1 else "")
            rows.append(
                row(
                    f"record {name}: public score",
                    f"{score['mean']:.5f}{sd} (n = {len(mine)})",
                    f"{took['mean']:.1f} s{least_and_most}",
                    "0.99442 in 40 min; Deotte's 15 networks 0.99757",
                )
            )
    return rows


def row(what: str, ours: str, more: str, anchor: str) -> dict[str, str]:
    """Return a row of the table."""
    return {"what": what, "ours": ours, "more": more, "anchor": anchor}


def measure(quick: bool, folder: Path) -> list[dict[str, Any]]:
    """Measure all rows."""
    import numpy as np
    import pandas as pd
    import torch

    from mnist_core import export, fit, read_test, read_train

    count = 3 if quick else 7
    with zipfile.ZipFile(make_zip(folder / "zip", 0)) as archive:
        archive.extractall(folder)
    train, test = folder / "train.csv", folder / "test.csv"
    rows = []

    ours, theirs = turns(
        count,
        lambda: seconds(lambda: read_train(train)),
        lambda: seconds(lambda: pd.read_csv(train).to_numpy(np.uint8)),
    )
    ratio = median(theirs) / median(ours)
    rows.append(
        row(
            "train.csv → checked uint8 array",
            f"{median(ours):.3f} s",
            f"{ratio:.1f} times as fast",
            f"pandas {median(theirs):.2f} s",
        )
    )

    digits, pixels = read_train(train), read_test(test).pixels
    code = ORIGIN.format(batches=ORIGIN_BATCHES, predicted=ORIGIN_PREDICTED)
    imports, batch, digit = json.loads(python("-W", "ignore", "-c", code).splitlines()[-1])
    loop = imports + 28_000 * digit
    for preset in ("fast", "best"):
        bundle = folder / preset
        # One pass is enough to time it; it leaves `best` unsure of more digits than a whole training does.
        net = fit(digits, "convnet", preset, device="cpu", epochs=None if preset == "fast" else 1)
        export(net, bundle, {}, learner=False)
        runs = [submission(bundle, test) for _ in range(count)]
        took, peak = (median(column) for column in zip(*runs, strict=True))
        rows.append(
            row(
                f"test.csv → submission.csv, {preset}, one process",
                f"{took:.2f} s, {peak:.0f} MiB",
                f"{loop / took:.0f} times as fast",
                f"his loop {loop:.0f} s (from {ORIGIN_PREDICTED} digits)",
            )
        )
        rate, flops, product = roofline(bundle, pixels, count)
        rows.append(
            row(
                f"inference alone, {preset}",
                f"{rate:,.0f} digits/s, {flops:.0f} GFLOP/s",
                f"{100 * flops / product:.0f} % of the product",
                f"product of matrices {product:.0f} GFLOP/s",
            )
        )

    took, peak = map(float, python("-c", FIT + PEAK, str(train), "cpu").split())
    origin = ORIGIN_EPOCHS * 42_000 * 0.8 / 32 * batch
    rows.append(
        row(
            "fit of preset fast on 42,000 digits",
            f"{took:.1f} s, {peak:.0f} MiB",
            f"{origin / took:.0f} times as fast",
            f"his recipe {origin / 60:.1f} min (from {ORIGIN_BATCHES} batches)",
        )
    )
    if not quick:
        first, *warm = night.measure(2, folder / "nights")
        for name, found in (("the first night of a home", first), ("a night, preset fast", warm[-1])):
            steps = ", ".join(f"{step} {took:.1f}" for step, took in found["steps"].items())
            rows.append(
                row(
                    f"{name}, to its score",
                    f"{found['to_score']:.1f} s, in all {found['total']:.1f} s, {found['peak_mib']} MiB",
                    f"public score {found['public_score']:.5f}; {steps}",
                    "40 min and a pair of hands",
                )
            )
        for command in night.COMMANDS:
            took = night.command_seconds(night.environment_of(folder / "nights"), *command)
            rows.append(row(" ".join(command), f"{took:.2f} s", "n = 5", "half a second"))
    on_a_gpu = "not measured: no CUDA device here"
    if torch.cuda.is_available():
        on_a_gpu = f"{float(python('-c', FIT, str(train), 'cuda')):.2f} s"
    rows.append(row("fit of preset fast on a GPU, its start included", on_a_gpu, "tests/bench/cuda.py", "–"))
    return rows


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="at most three minutes: fewer runs, no night")
    parser.add_argument(
        "--json", type=Path, default=Path("bench.json"), help="also write the figures to this file"
    )
    given = parser.parse_args()
    head = machine()
    before = product_gflops()
    with tempfile.TemporaryDirectory() as scratch:
        rows = measure(given.quick, Path(scratch)) + pooled()
    head |= {"product_gflops": [before, product_gflops()]}
    given.json.write_text(json.dumps({"machine": head, "rows": rows}, indent=2) + "\n")

    from rich.console import Console
    from rich.table import Column, Table

    table = Table(
        Column(no_wrap=True),
        "ours",
        "",
        "to beat",
        title=", ".join(f"{key} {value}" for key, value in head.items()),
    )
    for line in rows:
        table.add_row(line["what"], line["ours"], line["more"], line["anchor"])
    Console(width=None if sys.stdout.isatty() else 200).print(table)


if __name__ == "__main__":
    main()
