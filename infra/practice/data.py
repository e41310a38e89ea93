"""The 70,000 digits of MNIST, dealt into a competition's training and test files.

Only this module opens the file that holds all labels. The solution lives in the server's memory alone.
"""

import hashlib
import io
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infra.practice.errors import PracticeError
from mnist_core._atomic import PART, atomic_write
from mnist_core.digits import Digits, format_csv
from mnist_core.spec import DIGIT_RECOGNIZER, CompetitionSpec

MNIST = Path(__file__).parent / "data" / "mnist.npz"
SHA256 = "06af5dfe73b70e3bc1c36439982b18a8d76803db9b544f6fdf838a37fbb01b64"

TRAIN_SHARES = (4132, 4684, 4177, 4351, 4072, 3795, 4137, 4401, 4063, 4188)
"""Rows of each digit 0..9 in Kaggle's train.csv; a smaller competition keeps their proportions."""

ZIP_DATE = (2019, 12, 11, 2, 1, 32)
"""Date of the files in a zip: fixed, so that the same split gives the same bytes."""


@dataclass(frozen=True)
class Split:
    """Rows of the 70,000 (60,000 MNIST train, then 10,000 MNIST test), in the order they are served."""

    train: NDArray[np.int64]
    test: NDArray[np.int64]


def read_pixels(npz: Path | None = None) -> NDArray[np.uint8]:
    """Return all digits, uint8 (70000, 784): MNIST's 60,000 for training, then its 10,000 for testing."""
    with _open(npz) as mnist:
        pixels = np.concatenate([mnist["x_train"], mnist["x_test"]])
    return pixels.reshape(len(pixels), -1)


def read_labels(npz: Path | None = None) -> NDArray[np.uint8]:
    """Return all labels, uint8 (70000,), in the order of the pixels."""
    with _open(npz) as mnist:
        return np.concatenate([mnist["y_train"], mnist["y_test"]])


def deal(labels: NDArray[np.uint8], split_seed: int, spec: CompetitionSpec = DIGIT_RECOGNIZER) -> Split:
    """Deal the digits as Kaggle did: a fixed number of train rows of each digit, both parts shuffled.

    `RandomState` and not `default_rng`: NumPy promises never to change its stream (NEP 19), and a zip made
    with one version of NumPy is scored with another.
    """
    assert spec.train_rows is not None
    assert spec.test_rows is not None
    random = np.random.RandomState(split_seed)
    order = random.permutation(len(labels))
    rows_left = np.bincount(labels) - TRAIN_SHARES
    train_rows, test_rows = apportion(spec.train_rows, TRAIN_SHARES), apportion(spec.test_rows, rows_left)
    in_train, in_test = np.zeros(len(labels), dtype=bool), np.zeros(len(labels), dtype=bool)
    for digit in range(spec.class_count):
        of_digit = order[labels[order] == digit]
        in_train[of_digit[: train_rows[digit]]] = True
        in_test[of_digit[train_rows[digit] :][: test_rows[digit]]] = True
    return Split(random.permutation(order[in_train[order]]), random.permutation(order[in_test[order]]))


def apportion(total: int, shares: tuple[int, ...] | NDArray[np.int64]) -> NDArray[np.int64]:
    """Divide a total in proportion to shares, in whole numbers (largest remainders are rounded up)."""
    exact = total * np.asarray(shares) / np.sum(shares)
    parts = np.floor(exact).astype(np.int64)
    parts[np.argsort(parts - exact, kind="stable")[: total - parts.sum()]] += 1
    return parts


def solve(
    split_seed: int, spec: CompetitionSpec = DIGIT_RECOGNIZER, npz: Path | None = None
) -> NDArray[np.uint8]:
    """Return the labels of the test file, uint8 (N,): the server scores with them and never sends them."""
    labels = read_labels(npz)
    return labels[deal(labels, split_seed, spec).test]


def make_zip(
    folder: Path, split_seed: int, spec: CompetitionSpec = DIGIT_RECOGNIZER, npz: Path | None = None
) -> Path:
    """Return the competition's zip in this folder; the first call makes it.

    A killed process leaves no half zip under this name; the next call removes what it left. Only one process
    at a time may call this for a folder.
    """
    made = folder / zip_name(spec)
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in (*folder.glob(f".{made.name}.*{PART}"), *made.with_suffix("").glob(f".*{PART}")):
        leftover.unlink()
    if made.exists() and sorted(sizes(made)) == sorted(spec.files):
        return made
    pixels, labels = read_pixels(npz), read_labels(npz)
    split = deal(labels, split_seed, spec)
    pixels = pixels.reshape(-1, *spec.picture_shape)
    texts = {
        spec.sample_file: _sample(spec),
        spec.test_file: format_csv(Digits(pixels[split.test], spec=spec)),
        spec.train_file: format_csv(Digits(pixels[split.train], labels[split.train].astype(np.int64), spec)),
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


def _open(npz: Path | None) -> np.lib.npyio.NpzFile:
    path = npz or MNIST
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise PracticeError(
            f"{path}: cannot read the practice competition's digits ({error.strerror}); they come with a "
            "checkout of the repository and are not in container images",
            "run from a checkout, or set MNIST_KAGGLE to `live` or to a server's address",
        ) from error
    if hashlib.sha256(raw).hexdigest() != SHA256:
        raise PracticeError(
            f"{path} is damaged (its sha256 differs)", f"restore it with `git checkout {path.name}`"
        )
    opened: np.lib.npyio.NpzFile = np.load(io.BytesIO(raw))
    return opened


def _sample(spec: CompetitionSpec) -> Iterator[bytes]:
    assert spec.test_rows is not None
    yield f"{','.join(spec.submission_header)}\r\n".encode()
    for row in range(spec.first_id, spec.first_id + spec.test_rows):
        yield b"%d,0\r\n" % row
