"""Digits and CSV files for the tests of the library: synthetic, and the same each time."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import mnist_core.digits
from mnist_core.digits import Digits
from mnist_core.spec import DIGIT_RECOGNIZER, DIGITS_MINI

WriteCsv = Callable[..., Path]


def _synthetic(n: int, seed: int = 0, labelled: bool = True) -> Digits:
    """Return digits that look like MNIST's to a CSV reader: four pixels of five are 0, the others random."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (n, 28, 28), np.uint8) * (rng.random((n, 28, 28)) < 0.2)
    return Digits(pixels, rng.integers(0, 10, n) if labelled else None)


def _csv_text(digits: Digits, line_end: str = "\r\n") -> str:
    """Return the CSV file of some digits, made in the simplest way."""
    columns = [f"pixel{i}" for i in range(784)]
    rows = [[str(value) for value in row] for row in digits.pixels.reshape(len(digits), 784).tolist()]
    if digits.labels is not None:
        columns = ["label", *columns]
        rows = [[str(label), *row] for label, row in zip(digits.labels.tolist(), rows, strict=True)]
    return "".join(",".join(row) + line_end for row in [columns, *rows])


@pytest.fixture(scope="session")
def synthetic() -> Callable[..., Digits]:
    """Return the function that makes digits: `synthetic(n, seed=0, labelled=True)`."""
    return _synthetic


@pytest.fixture(scope="session")
def csv_text() -> Callable[..., str]:
    r"""Return the function that makes the CSV file of some digits: `csv_text(digits, line_end="\r\n")`."""
    return _csv_text


@pytest.fixture(scope="session")
def same() -> Callable[[Digits, Digits], bool]:
    """Return the function that tells whether two sets of digits are equal: `same(a, b)`."""

    def compare(a: Digits, b: Digits) -> bool:
        if a.labels is None or b.labels is None:
            return a.labels is b.labels and np.array_equal(a.pixels, b.pixels)
        return np.array_equal(a.labels, b.labels) and np.array_equal(a.pixels, b.pixels)

    return compare


@pytest.fixture
def cli(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., SimpleNamespace]:
    """Run the command line: `cli("convert", csv, folder)` returns exit code, output and errors."""
    from mnist_core.__main__ import main

    def run(*arguments: object) -> SimpleNamespace:
        monkeypatch.setattr(sys, "argv", ["mnist-core", *map(str, arguments)])
        code: object = 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        captured = capsys.readouterr()
        return SimpleNamespace(code=code, out=captured.out, err=captured.err.replace("│", " "))

    return run


@pytest.fixture
def only_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the slow reader fail, so that a test sees whether the fast one was enough."""

    def refuse(csv: Path, *_: object) -> None:
        raise AssertionError(f"the fast reader gave up {csv}")

    monkeypatch.setattr(mnist_core.digits, "_read_by_line", refuse)


@pytest.fixture
def write_train_csv(tmp_path: Path) -> WriteCsv:
    """Return a function that writes a train.csv of five digits, with one value replaced if a row is named."""

    def write(row: int = 0, column: str = "label", value: str | bytes = "", line_end: str = "\r\n") -> Path:
        csv = tmp_path / "train.csv"
        lines = [line.split(b",") for line in _csv_text(_synthetic(5), "\n").encode().splitlines()]
        if row:
            lines[row][lines[0].index(column.encode())] = (
                value if isinstance(value, bytes) else value.encode()
            )
        csv.write_bytes(b"".join(b",".join(line) + line_end.encode() for line in lines))
        return csv

    return write


@pytest.fixture
def small_test_file(monkeypatch: pytest.MonkeyPatch) -> int:
    """Let the competition have a test file of 500 rows, so that a submission is quick; return the number."""
    monkeypatch.setitem(vars(DIGIT_RECOGNIZER), "test_rows", DIGITS_MINI.test_rows)
    return DIGITS_MINI.test_rows


@pytest.fixture(scope="session")
def full_size() -> Digits:
    """Return 42,000 labelled digits, with the class counts of Kaggle's train.csv."""
    counts = [4132, 4684, 4177, 4351, 4072, 3795, 4137, 4401, 4063, 4188]
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(10), counts))
    return Digits(_synthetic(42_000).pixels, labels)
