"""Labelled rows, dealt into a competition's training and test files. The solution stays in the server."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infra.practice import labelled
from infra.practice.errors import PracticeError
from infra.practice.labelled import Labelled, Rows
from mnist_core._atomic import PART, atomic_write
from mnist_core.spec import DIGIT_RECOGNIZER, CompetitionSpec
from mnist_core.spec_csv import quoted

TEST_SHARE = 3
"""One row in this number is dealt to the test file if the specification states no number of test rows."""
ZIP_DATE = (2019, 12, 11, 2, 1, 32)
"""Date of the files in a zip: fixed, so that the same split gives the same bytes."""


@dataclass(frozen=True)
class Split:
    """Rows of the labelled ones, in the order they are served."""

    train: Rows
    test: Rows


@dataclass(frozen=True, eq=False)
class Solution:
    """What a submission is scored with.

    Attributes:
        ids: of the test rows, in their order.
        labels: int64 (N,), each the number of a class.
        public: whether a row counts for the public score, bool (N,).
    """

    ids: Sequence[str]
    labels: NDArray[np.int64] = field(repr=False)
    public: NDArray[np.bool_] = field(repr=False)


def deal(rows: Labelled, split_seed: int, spec: CompetitionSpec = DIGIT_RECOGNIZER) -> Split:
    """Deal rows as Kaggle did: a fixed number of training rows of each class, both parts shuffled.

    `RandomState` and not `default_rng`: NumPy promises never to change its stream (NEP 19), and a zip made
    with one version of NumPy is scored with another.

    Raises:
        PracticeError: there are fewer rows than the specification says.
    """
    labels, total = rows.labels, len(rows.labels)
    test_total = spec.test_rows or (total - spec.train_rows if spec.train_rows else total // TEST_SHARE)
    train_total = spec.train_rows or total - test_total
    if train_total < 1 or test_total < 1 or train_total + test_total > total:
        raise PracticeError(
            f"{spec.name}: {total:,} labelled rows cannot be dealt into {train_total:,} for training and "
            f"{test_total:,} for the test",
            "correct train_rows and test_rows of the specification",
        )
    random = np.random.RandomState(split_seed)
    order = random.permutation(total)
    train_rows = apportion(train_total, rows.shares)
    rows_left = np.bincount(labels, minlength=spec.class_count) - np.asarray(rows.shares)
    if not rows_left.any():  # the shares are all rows, not those of a training file
        rows_left = np.asarray(rows.shares) - train_rows
    test_rows = apportion(test_total, rows_left)
    in_train, in_test = np.zeros(total, dtype=bool), np.zeros(total, dtype=bool)
    for number in range(spec.class_count):
        of_class = order[labels[order] == number]
        in_train[of_class[: train_rows[number]]] = True
        in_test[of_class[train_rows[number] :][: test_rows[number]]] = True
    return Split(random.permutation(order[in_train[order]]), random.permutation(order[in_test[order]]))


def apportion(total: int, shares: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    """Divide a total in proportion to shares, in whole numbers (largest remainders are rounded up)."""
    exact = total * np.asarray(shares) / np.sum(shares)
    parts = np.floor(exact).astype(np.int64)
    parts[np.argsort(parts - exact, kind="stable")[: total - parts.sum()]] += 1
    return parts


def solve(
    split_seed: int, spec: CompetitionSpec = DIGIT_RECOGNIZER, rows: Labelled | None = None
) -> Solution:
    """Return what the test file's rows are: the server scores with it and never sends it."""
    rows = labelled.digits(spec) if rows is None else rows
    test = deal(rows, split_seed, spec).test
    ids = rows.ids(test) if rows.ids else [str(spec.first_id + number) for number in range(len(test))]
    if len(set(ids)) < len(ids):
        raise PracticeError(f"{spec.name}: two test rows have the same id", "give each row its own id")
    public = np.ones(len(test), dtype=bool)
    if spec.public_rows is not None:
        public[np.random.RandomState(split_seed).permutation(len(test))[spec.public_rows :]] = False
    return Solution(ids, rows.labels[test], public)


def make_zip(
    folder: Path, split_seed: int, spec: CompetitionSpec = DIGIT_RECOGNIZER, rows: Labelled | None = None
) -> Path:
    """Return the competition's zip in this folder; the first call makes it.

    A killed process leaves no half zip under this name; the next call removes what it left. Only one process
    at a time may call this for a folder.

    Args:
        folder: of this split and these rows.
        split_seed: of the split.
        spec: the competition.
        rows: what is dealt; None for the 70,000 digits.
    """
    made = folder / zip_name(spec)
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in (*folder.glob(f".{made.name}.*{PART}"), *made.with_suffix("").glob(f".*{PART}")):
        leftover.unlink()
    if made.exists() and sorted(sizes(made)) == sorted(spec.files):
        return made
    rows = labelled.digits(spec) if rows is None else rows
    split = deal(rows, split_seed, spec)
    texts = {
        spec.sample_file: _sample(spec, solve(split_seed, spec, rows).ids),
        spec.test_file: rows.format(split.test, False),
        spec.train_file: rows.format(split.train, True),
    }
    with atomic_write(made, sync=True) as file, zipfile.ZipFile(file, "w") as archive:
        for name, lines in texts.items():
            info = zipfile.ZipInfo(name, date_time=ZIP_DATE)
            info.external_attr = 0o644 << 16
            text = b"".join(lines)
            archive.writestr(info, text, compress_type=zipfile.ZIP_DEFLATED, compresslevel=1)
    return made


def zip_name(spec: CompetitionSpec) -> str:
    """Return the name under which Kaggle serves a competition's files."""
    return f"{spec.name}.zip"


def sizes(archive: Path) -> dict[str, int]:
    """Return the names and unpacked sizes in bytes of a zip's files; nothing if it is not a whole zip."""
    try:
        with zipfile.ZipFile(archive) as opened:
            return {info.filename: info.file_size for info in opened.infolist()}
    except zipfile.BadZipFile:
        return {}


def unpack(archive: Path, name: str) -> Path:
    """Return one file of the zip, unpacked on the first call into a folder that is named like the zip."""
    made = archive.with_suffix("") / name
    if not made.exists():
        made.parent.mkdir(exist_ok=True)
        with zipfile.ZipFile(archive) as opened, opened.open(name) as packed, atomic_write(made) as file:
            shutil.copyfileobj(packed, file, 1 << 20)
    return made


def _sample(spec: CompetitionSpec, ids: Sequence[str]) -> Iterator[bytes]:
    yield f"{','.join(map(quoted, spec.submission_header))}\r\n".encode()
    value = quoted(spec.classes[0])
    if spec.metric.of_probabilities:
        value = ",".join([f"{1 / spec.class_count:.6f}"] * spec.class_count)
    for name in ids:
        yield f"{quoted(name)},{value}\r\n".encode()
