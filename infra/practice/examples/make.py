"""The example competitions: each writes a file of labelled pictures and its specification into a folder."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infra.practice.errors import PracticeError
from infra.practice.examples.fonts import find_fonts
from infra.practice.examples.letters import Distortion, draw_letters
from infra.practice.labelled import read_labels, read_pixels
from mnist_core._atomic import atomic_write
from mnist_core.spec import CompetitionSpec, read_spec

PLAIN = Distortion(size=(0.62, 0.78), turn=15, shift=0.06, colour=False, noise=0)
"""How letters are distorted that shall look like MNIST's digits."""


class Example(StrEnum):
    """An example competition, by name."""

    DIGITS = "digits-8x8"
    LETTERS = "letters"
    EMNIST = "emnist-like"

    @property
    def template(self) -> Path:
        """Its specification, with the usual number of rows."""
        return Path(__file__).with_name(f"{self}.toml")


@dataclass(frozen=True)
class Labelled:
    """Labelled pictures: pixels uint8 (N, rows, columns, channels), a label and an id for each."""

    pixels: NDArray[np.uint8]
    labels: Sequence[str]
    ids: Sequence[int]


def make_example(
    example: Example, folder: Path, *, rows: int | None = None, test_rows: int | None = None, seed: int = 0
) -> Path:
    """Write an example's `labelled.csv` and `spec.toml` into a folder; return the specification.

    Args:
        example: which one.
        folder: made if it is missing; files of the same names in it are replaced.
        rows: labelled rows in all (default: the example's).
        test_rows: how many of them the practice server deals into the test file (default: the example's
            share).
        seed: of what is drawn at random; the same seed gives the same rows.

    Raises:
        PracticeError: the example has fewer rows than that, or fonts are missing.
    """
    spec = read_spec(example.template)
    usual, usual_test = (spec.train_rows or 0) + (spec.test_rows or 0), spec.test_rows or 0
    rows = usual if rows is None else rows
    test_rows = rows * usual_test // usual if test_rows is None else test_rows
    if not spec.class_count <= rows - test_rows or test_rows < 1:
        raise PracticeError(
            f"{test_rows:,} of {rows:,} rows in the test file leave too few for {spec.class_count} classes",
            "choose other --rows or --test-rows",
        )
    labelled = _MAKERS[example](spec, rows, np.random.RandomState(seed))
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / Path(spec.source).name) as file:
        file.writelines(format_labelled(labelled, spec))
    text = example.template.read_text("utf-8")
    for key, value in (("train_rows", rows - test_rows), ("test_rows", test_rows)):
        text = re.sub(rf"^{key} = .*", f"{key} = {value}", text, flags=re.MULTILINE)
    with atomic_write(folder / "spec.toml") as file:
        file.write(text.encode())
    return folder / "spec.toml"


def format_labelled(labelled: Labelled, spec: CompetitionSpec) -> Iterator[bytes]:
    """Yield the lines of a CSV file of labelled pictures: id if the specification has one, pixels, label.

    Without a header the label comes first.
    """
    texts = [b"%d" % value for value in range(256)]
    pixels = labelled.pixels.swapaxes(1, 2) if spec.transposed else labelled.pixels
    if spec.header:
        ids = [spec.id_column] if spec.id_column else []
        yield ",".join((*ids, *spec.pixel_columns, spec.label_column)).encode() + b"\n"
    for number, picture, label in zip(labelled.ids, pixels, labelled.labels, strict=True):
        ink = b",".join(map(texts.__getitem__, picture.tobytes()))
        if spec.header:
            yield (b"%d," % number if spec.id_column else b"") + ink + b",%s\n" % label.encode()
        else:
            yield b"%s,%s\n" % (label.encode(), ink)


def _digits(spec: CompetitionSpec, rows: int, random: np.random.RandomState) -> Labelled:
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise PracticeError(
            "scikit-learn is missing, which has these digits",
            "install it: pip install 'mnist-nightly[train]'",
        ) from None
    found = load_digits()
    if rows > len(found.target):
        raise PracticeError(f"there are {len(found.target):,} digits, and --rows is {rows:,}", "choose fewer")
    chosen = random.permutation(len(found.target))[:rows]
    pixels = found.images.astype(np.uint8).reshape(-1, *spec.shape)
    return Labelled(pixels[chosen], [str(label) for label in found.target[chosen]], range(rows))


def _letters(spec: CompetitionSpec, rows: int, random: np.random.RandomState) -> Labelled:
    """Return letters whose ids begin at 0 and have gaps."""
    labels = _deal(spec.classes, rows, random)
    ids = np.concatenate([[0], random.randint(1, 4, rows - 1).cumsum()])
    return Labelled(
        draw_letters(labels, find_fonts(), spec.shape, random, Distortion()), labels, ids.tolist()
    )


def _emnist(spec: CompetitionSpec, rows: int, random: np.random.RandomState) -> Labelled:
    """Return digits of MNIST and drawn letters in one order."""
    labels = _deal(spec.classes, rows, random)
    pixels = np.empty((rows, *spec.shape), np.uint8)
    digits, of_digit = read_pixels().reshape(-1, *spec.shape), read_labels()
    places = {name: [] for name in spec.classes}  # type: dict[str, list[int]]
    for place, label in enumerate(labels):
        places[label].append(place)
    for name in spec.classes[: of_digit.max() + 1]:
        found = random.permutation(np.flatnonzero(of_digit == int(name)))
        if len(found) < len(places[name]):
            raise PracticeError(f"--rows is {rows:,}, and MNIST has {len(found):,} of {name}", "choose fewer")
        pixels[places[name]] = digits[found[: len(places[name])]]
    others = [place for place, label in enumerate(labels) if not label.isdigit()]
    drawn = draw_letters([labels[place] for place in others], find_fonts(), spec.shape, random, PLAIN)
    pixels[others] = drawn
    return Labelled(pixels, labels, range(rows))


def _deal(classes: Sequence[str], rows: int, random: np.random.RandomState) -> list[str]:
    """Return labels in a random order, as many of each class as of every other, or one more."""
    return [classes[number % len(classes)] for number in random.permutation(rows)]


_MAKERS = {Example.DIGITS: _digits, Example.LETTERS: _letters, Example.EMNIST: _emnist}
