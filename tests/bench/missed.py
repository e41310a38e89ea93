"""Draw the test rows that every one of several networks misses, with the label and what the networks said.

    python -m tests.bench.missed docs/missed.png NPY [NPY …]

Each file holds the probabilities of one network for the practice split's test rows, float (28000, 10), as
`tests.bench.record` and `tests.bench.deotte` leave them in MNIST_HOME. Nothing is trained or chosen by it.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import numpy as np

from infra.practice.data import deal
from infra.practice.labelled import digits as all_digits
from infra.practice.labelled import read_labels, read_pixels
from mnist_core.spec import DIGIT_RECOGNIZER

COLUMNS = 10


def main() -> None:
    """Draw, and print how many they are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("networks", type=Path, nargs="+")
    given = parser.parse_args()
    test = deal(all_digits(DIGIT_RECOGNIZER), 0).test
    pixels, labels = read_pixels().reshape(-1, *DIGIT_RECOGNIZER.shape[:2])[test], read_labels()[test]
    said = np.stack([np.load(path).argmax(1) for path in given.networks])
    wrong = said != labels
    missed = np.flatnonzero(wrong.all(axis=0))
    print(f"{len(said)} networks miss {wrong.sum(1).min()} to {wrong.sum(1).max()} of {len(labels):,} rows")
    print(f"all of them miss {len(missed)}; without these mistakes, {1 - len(missed) / len(labels):.5f}")

    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = -(-len(missed) // COLUMNS)
    figure, plots = plt.subplots(rows, COLUMNS, figsize=(COLUMNS, 1.25 * rows), layout="constrained")
    for axes in plots.flat:
        axes.axis("off")
    for axes, row in zip(plots.flat, missed, strict=False):
        (likely, _), *_ = Counter(said[:, row].tolist()).most_common()
        axes.imshow(pixels[row], cmap="gray_r")
        axes.set_title(f"{labels[row]}, not {likely}", fontsize=8)
    figure.savefig(given.picture, dpi=120)


if __name__ == "__main__":
    main()
