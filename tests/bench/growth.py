"""Measure how cost grows with work: training rows, members, versions in the store, nights at once.

    python -m tests.bench.growth [--parts rows members versions nights] [--json FILE]
    python -m tests.bench.growth --draw docs/growth.png --json FILE

`rows` trains one pass on copies of train.csv, each seen under other augmentation. `members` exports ensembles
of the same network and predicts the test rows. `versions` fills a store with copies of a night under other
dates, then times commands and a night. `nights` starts nights of different dates on one Prefect server.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from infra.practice.data import make_zip
from tests.bench.night import environment_of, night
from tests.bench.scores import machine

Points = list[dict[str, float]]
ROWS = (1_000, 10_000, 42_000, 420_000, 4_000_000)
MEMBERS = (1, 2, 4, 8, 16, 32, 64)
VERSIONS = (10, 100, 1_000, 10_000)
NIGHTS = (1, 2, 4, 8)
FIRST = date(2026, 1, 1)
"""The night whose entries are copied; the copies are of earlier dates."""


def measure_rows(folder: Path) -> Points:
    """Return the seconds of one pass of `convnet fast`, by training rows."""
    from mnist_core import Digits, fit

    digits = _train(folder)
    assert digits.labels is not None
    fit(digits[:2000], device="cpu", epochs=1)
    points = []
    for rows in ROWS:
        taken = np.resize(np.arange(len(digits)), rows)
        copies = Digits(digits.pixels[taken], digits.labels[taken])
        start = perf_counter()
        fit(copies, device="cpu", epochs=1)
        points.append({"rows": rows, "fit_s": perf_counter() - start})
        print(points[-1], flush=True)
    return points


def measure_members(folder: Path) -> Points:
    """Return the seconds of export and of predicting 28,000 rows, and the bundle's size, by members."""
    from mnist_core import export, fit, open_model, read_test
    from mnist_core.models.ensemble.net import Ensemble

    digits, test = _train(folder), read_test(folder / "test.csv").pixels
    net = fit(digits, device="cpu", rows=np.arange(10_000), epochs=1)
    points = []
    for members in MEMBERS:
        bundle = folder / f"members-{members}"
        together = Ensemble([copy.deepcopy(net) for _ in range(members)]).eval()
        start = perf_counter()
        export(together, bundle, {})
        exported = perf_counter() - start
        model = open_model(bundle)
        start = perf_counter()
        model.predict(test)
        points.append(
            {
                "members": members,
                "export_s": exported,
                "predict_s": perf_counter() - start,
                "bundle_mb": sum(file.stat().st_size for file in bundle.iterdir()) / 1e6,
            }
        )
        print(points[-1], flush=True)
    return points


def measure_versions(folder: Path) -> Points:
    """Return the seconds of commands and of a night, by versions in the store."""
    environment = environment_of(folder) | {"MNIST_DAILY_LIMIT": "100"}
    night(environment, FIRST)
    originals = [
        path for path in (folder / "store").rglob("*.json")
        if str(FIRST) in str(path.relative_to(folder / "store"))
    ]  # fmt: skip
    points, made = [], 1
    for versions in VERSIONS:
        for number in range(made, versions):
            other = str(FIRST - timedelta(days=number))
            for path in originals:
                target = folder / "store" / str(path.relative_to(folder / "store")).replace(str(FIRST), other)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(path.read_text().replace(str(FIRST), other))
        made = versions
        listed = _output(environment, "-m", "flows", "versions", "--json")
        point = {"versions": float(len(json.loads(listed)["versions"]))}
        for command in (("versions",), ("status",), ("prune", "--dry-run")):
            point[f"{command[0]}_s"] = _seconds(environment, "-m", "flows", *command)
        point["night_s"] = night(environment, FIRST + timedelta(days=len(points) + 1))["total"]
        points.append(point)
        print(point, flush=True)
    return points


def measure_nights(folder: Path) -> Points:
    """Return the seconds until all of several nights on one server have ended, by their number."""
    environment = environment_of(folder) | {"MNIST_DAILY_LIMIT": "100"}
    night(environment, FIRST)
    points, when = [], FIRST
    with _server(folder):
        for count in NIGHTS:
            start, running = perf_counter(), []
            for _ in range(count):
                when += timedelta(days=1)
                command = [sys.executable, "-m", "flows", "nightly", "--night", when.isoformat()]
                with (folder / f"{when}.log").open("wb") as log:
                    running.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
            codes = [process.wait() for process in running]
            points.append(
                {"nights": count, "all_s": perf_counter() - start, "failed": sum(code != 0 for code in codes)}
            )
            print(points[-1], flush=True)
    return points


PARTS: dict[str, Callable[[Path], Points]] = {
    "rows": measure_rows,
    "members": measure_members,
    "versions": measure_versions,
    "nights": measure_nights,
}


def _train(folder: Path) -> Any:
    """Return the digits of train.csv; test.csv lies beside it afterwards."""
    import zipfile

    from mnist_core import read_train

    with zipfile.ZipFile(make_zip(folder / "zip", 0)) as archive:
        archive.extractall(folder)
    return read_train(folder / "train.csv")


def _output(environment: dict[str, str], *arguments: str) -> bytes:
    """Return what a Python command prints."""
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, check=True).stdout


def _seconds(environment: dict[str, str], *arguments: str) -> float:
    start = perf_counter()
    _output(environment, *arguments)
    return perf_counter() - start


@contextmanager
def _server(folder: Path) -> Iterator[None]:
    """Run `make ui`'s server and workers, which nights of the same home find."""
    environment = environment_of(folder)
    command = [sys.executable, "-m", "flows.ops.local_server"]
    subprocess.run([*command, "start"], env=environment, check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run([*command, "stop"], env=environment, check=True, capture_output=True)


def slopes(points: Points, key: str) -> list[float]:
    """Return, for each step of a part, the exponent with which a figure grows; 1 is linear."""
    work = next(iter(points[0]))
    return [
        round(float(np.log(after[key] / before[key]) / np.log(after[work] / before[work])), 2)
        for before, after in pairwise(points)
    ]


def draw(found: dict[str, Any], picture: Path) -> None:
    """Draw a plot for each part, both axes logarithmic, with a line of slope 1 to compare with."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    parts = [part for part in PARTS if part in found]
    figure, plots = plt.subplots(
        1, len(parts), figsize=(4 * len(parts), 4), layout="constrained", squeeze=False
    )
    for axes, part in zip(plots[0], parts, strict=True):
        points = found[part]
        work, *figures = points[0]
        xs = np.array([point[work] for point in points])
        for key in figures:
            if key.endswith("_s"):
                axes.plot(xs, [point[key] for point in points], marker="o", label=key.removesuffix("_s"))
        top = max(points[-1][key] for key in figures if key.endswith("_s"))
        axes.plot(xs, top * xs / xs[-1], "k:", label="linear")
        axes.set(xscale="log", yscale="log", xlabel=work, ylabel="seconds")
        axes.set_ylim(bottom=min(point[key] for point in points for key in figures if key.endswith("_s")) / 2)
        axes.grid(visible=True, which="both", alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(picture, dpi=120)


def main() -> None:
    """Measure, or draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--json", type=Path, help="figures: written, or read if they are drawn")
    parser.add_argument(
        "--draw", type=Path, metavar="PNG", help="draw what was measured, and measure nothing"
    )
    given = parser.parse_args()
    if given.draw is not None:
        draw(json.loads(given.json.read_text()), given.draw)
        return
    found: dict[str, Any] = {"machine": machine(), "cores": os.cpu_count()}
    print(found["machine"])
    for part in given.parts:
        with tempfile.TemporaryDirectory() as folder:
            found[part] = PARTS[part](Path(folder))
        for key in [key for key in found[part][0] if key.endswith("_s")]:
            print(f"{part}, {key}: exponents {slopes(found[part], key)}")
        if given.json is not None:
            given.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
