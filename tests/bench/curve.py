"""Measure what a second of training buys: seconds of the fit against the public score, and draw it.

    python -m tests.bench.curve --seeds 1 2 3      # four minutes a seed on two quiet cores
    python -m tests.bench.curve --draw docs/seconds.png

Appends a line for each point and seed to `tests/bench/records/<date>-curve/results.jsonl`; what is there
already is not trained again. All 42,000 labelled rows are trained on; the practice server scores the test
rows, and nothing is chosen by them: the points were fixed before.
"""

from __future__ import annotations

import argparse
import os
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean
from time import perf_counter

from tests.bench.record import RECORDS
from tests.bench.scores import Practice, machine, product_gflops, read_lines, tell

POINTS = (
    ("fast", 1),
    ("fast", 3),
    ("fast", 5),
    ("fast", 9),
    ("balanced", 4),
    ("balanced", 11),
    ("best", 17),
    ("best", 48),
)
"""Preset and epochs: about 4, 5, 6, 8, 13, 26, 51 and 127 seconds on two cores of a Xeon."""
OTHERS = (("the original notebooks, a laptop", 2400, 0.99442), ("Deotte, 15 networks, a K80", 14400, 0.99757))
"""Others' published points: seconds (as far as they say) and public score. They are not on the same rows."""


def train(log: Path, seeds: list[int]) -> None:
    """Train and score what the log does not have."""
    from mnist_core import fit, predict, read_test, read_train

    practice = Practice()
    digits, test = read_train(practice.train_csv), read_test(practice.test_csv)
    log.parent.mkdir(parents=True, exist_ok=True)
    if not log.exists():
        tell(log, rows=len(digits), machine=machine())
    known = {(row.get("preset"), row.get("epochs"), row.get("seed")) for row in read_lines(log)}
    for seed in seeds:
        for preset, epochs in POINTS:
            if (preset, epochs, seed) in known:
                continue
            before, start = product_gflops(), perf_counter()
            net = fit(digits, "convnet", preset, seed=seed, device="cpu", epochs=epochs)
            seconds = perf_counter() - start
            labels = predict(net, test.pixels).argmax(1)
            tell(
                log,
                preset=preset,
                epochs=epochs,
                seed=seed,
                seconds=round(seconds, 2),
                public_score=practice.score(labels, f"curve {preset} {epochs} seed {seed}"),
                product_gflops=[before, product_gflops()],
                load=round(os.getloadavg()[0], 2),
            )


def draw(log: Path, picture: Path) -> None:
    """Draw the mean of each point with its least and its most, and others' points beside it."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = [row for row in read_lines(log) if "seed" in row]
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    xs, ys, spreads = [], [], []
    for preset, epochs in POINTS:
        mine = [row for row in rows if (row["preset"], row["epochs"]) == (preset, epochs)]
        if not mine:
            continue
        scores = [row["public_score"] for row in mine]
        xs.append(mean(row["seconds"] for row in mine))
        ys.append(mean(scores))
        spreads.append((ys[-1] - min(scores), max(scores) - ys[-1]))
        left = preset == "fast"  # where the curve is steep
        axes.annotate(
            f"{preset} {epochs}", (xs[-1], ys[-1]), textcoords="offset points",
            xytext=(-7, 4) if left else (6, -12), ha="right" if left else "left",
        )  # fmt: skip
    low, high = zip(*spreads, strict=True)
    axes.errorbar(
        xs,
        ys,
        yerr=(low, high),
        marker="o",
        capsize=3,
        label="convnet, two cores, practice split (mean, range)",
    )
    for label, took, score in OTHERS:
        axes.plot(took, score, "s", label=f"{label} (Kaggle's split)")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel("seconds of training")
    axes.set_ylabel("public score")
    axes.set_xlim(1.5, 30_000)
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend(loc="lower right", fontsize=9)
    figure.savefig(picture, dpi=120)


def main() -> None:
    """Train what is missing, or draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--draw", type=Path, metavar="PNG", help="draw what is measured, and train nothing")
    parser.add_argument("--date", default=datetime.now(UTC).date().isoformat())
    given = parser.parse_args()
    log = RECORDS / f"{given.date}-curve" / "results.jsonl"
    if given.draw is None:
        train(log, given.seeds)
    else:
        draw(log, given.draw)


if __name__ == "__main__":
    main()
