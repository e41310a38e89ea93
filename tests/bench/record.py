"""Make a record: train a preset on all 42,000 labelled rows with many seeds, and score each network.

    python -m tests.bench.record fast --seeds 0 1 2 3 4 5 6 7 8 9
    python -m tests.bench.record balanced --seeds 0 1 2 3 4 --together 5
    python -m tests.bench.record balanced --seeds 100 101 102 --teachers 0 1 2 3 4
    python -m tests.bench.record ensemble --seeds 0 1 2 3 4 5 6 7 --together 8
    python -m tests.bench.record ensemble --seeds 100 101 102 --teachers 0 1 2 3 4 5 6 7
    python -m tests.bench.record origin --seeds 0

Appends to `tests/bench/records/<date>-convnet-<preset>/results.jsonl`: the recipe and the commit, then a
line per seed with the seconds of the fit alone (train.csv is in memory), CPU seconds, public score, and the
speed of the machine's matrix product before and after. Seeds that are there already are not trained again.
`--together K` posts the mean probabilities of each K consecutive seeds as one ensemble. With `--teachers`
the networks of those seeds, trained before on this machine, teach (`<date>-…-taught`); their own seconds
are not counted. `ensemble` is its preset `best`: a seed's network is the member of that number, and its
pupils have the preset of member 0. `origin` is the first notebook's recipe from scratch, on four fifths of
the rows. Only the practice server knows the labels of test.csv, and nothing is chosen by them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import torch

from mnist_core import fit, predict, read_test, read_train, write_pngs
from mnist_core.models import convnet, ensemble
from mnist_core.models.ensemble.net import Ensemble
from mnist_core.models.resnet.origin import fit_origin
from tests.bench.scores import Practice, machine, product_gflops, read_lines, spread, tell

RECORDS = Path(__file__).parent / "records"


def main() -> None:
    """Train and score the seeds that are missing, and print the spread."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("preset", choices=[*convnet.PRESETS, "ensemble", "origin"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--together", type=int, metavar="K")
    parser.add_argument("--teachers", nargs="+", type=int, metavar="SEED")
    parser.add_argument("--date", default=datetime.now(UTC).date().isoformat())
    given = parser.parse_args()
    practice = Practice()
    digits, test = read_train(practice.train_csv), read_test(practice.test_csv)
    names = {"origin": "resnet18-origin", "ensemble": "ensemble-best"}
    name = f"{given.date}-{names.get(given.preset, f'convnet-{given.preset}')}"
    trained = practice.home / "records" / name  # networks and probabilities: a megabyte each
    folder = RECORDS / (name + "-taught" * bool(given.teachers))
    kept = practice.home / "records" / folder.name
    folder.mkdir(parents=True, exist_ok=True)
    kept.mkdir(parents=True, exist_ok=True)
    log = folder / "results.jsonl"

    pngs, recipe, best = kept / "pngs", {"fine_tune": 3}, ensemble.PRESETS["best"]
    members = given.preset == "ensemble" and not given.teachers
    preset = best.presets[0] if given.preset == "ensemble" else given.preset
    if given.preset == "origin":
        write_pngs(digits, pngs)
    else:
        recipe = json.loads(json.dumps(asdict(best if members else convnet.PRESETS[preset])))
    teacher = None
    if given.teachers:
        recipe["teachers"] = given.teachers
        nets = [torch.load(trained / f"{seed}.pt", weights_only=False) for seed in given.teachers]
        teacher = Ensemble(nets)
    if not log.exists():
        commit = subprocess.check_output(["git", "describe", "--always", "--dirty"], text=True).strip()
        tell(log, recipe=recipe, rows=len(digits), commit=commit, machine=machine())
    rows = read_lines(log)
    if rows[0]["recipe"] != recipe:
        raise SystemExit(f"{log} is of another recipe; take another --date")
    for seed in given.seeds:
        if any(row.get("seed") == seed for row in rows):
            continue
        before, start, cpu = product_gflops(), perf_counter(), process_time()
        if given.preset == "origin":
            net = fit_origin(pngs, seed=seed).net
        elif members:
            net = fit(digits, "ensemble", "best", seed=seed, device="cpu", member=seed)
        else:
            net = fit(digits, "convnet", preset, seed=seed, device="cpu", teacher=teacher)
        seconds, cpu = perf_counter() - start, process_time() - cpu
        probabilities = predict(net, test.pixels)
        torch.save(net, kept / f"{seed}.pt")
        np.save(kept / f"{seed}.npy", probabilities.astype(np.float16))
        rows.append(
            {
                "seed": seed,
                "seconds": round(seconds, 2),
                "cpu_seconds": round(cpu, 2),
                "public_score": practice.score(probabilities.argmax(1), f"{folder.name} seed {seed}"),
                "product_gflops": [before, product_gflops()],
                "load": round(os.getloadavg()[0], 2),
            }
        )
        tell(log, **rows[-1])
    mine = [row for row in rows if row.get("seed") in given.seeds]
    for key in ("public_score", "seconds", "cpu_seconds"):
        print(key, len(mine), spread([row[key] for row in mine]))
    if given.together:
        for first in range(0, len(given.seeds) - given.together + 1, given.together):
            seeds = given.seeds[first : first + given.together]
            if any(row.get("seeds") == seeds for row in rows):
                continue
            mean = np.mean([np.load(kept / f"{seed}.npy").astype(np.float32) for seed in seeds], axis=0)
            seconds = round(sum(row["seconds"] for row in mine if row["seed"] in seeds), 1)
            public = practice.score(mean.argmax(1), f"{folder.name} seeds {seeds}")
            rows.append({"seeds": seeds, "seconds": seconds, "public_score": public})
            tell(log, **rows[-1])


if __name__ == "__main__":
    main()
