"""The 70,000 digits of MNIST, dealt into the competition's train.csv and test.csv.

Only this module opens the file that holds all labels. The solution lives in memory, in the server alone.
"""

import hashlib
import io
import os
import secrets
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infra.practice.errors import PracticeError

MNIST = Path(__file__).parent / "data" / "mnist.npz"
SHA256 = "06af5dfe73b70e3bc1c36439982b18a8d76803db9b544f6fdf838a37fbb01b64"

TRAIN_ROWS = (4132, 4684, 4177, 4351, 4072, 3795, 4137, 4401, 4063, 4188)
"""Rows of Kaggle's train.csv for each digit 0..9."""
TEST_ROWS = 28_000

ZIP_NAME = "digit-recognizer.zip"
CSV_NAMES = ("sample_submission.csv", "test.csv", "train.csv")
MADE = (2019, 12, 11, 2, 1, 32)
"""The date inside the zip: always the same, so that the same split gives the same bytes."""


@dataclass(frozen=True)
class Split:
    """Rows of the 70,000 (60,000 MNIST train, then 10,000 MNIST test), in the order they are served."""

    train: NDArray[np.int64]
    test: NDArray[np.int64]


def read_pixels(npz: Path | None = None) -> NDArray[np.uint8]:
    """All digits, uint8 (70000, 784): MNIST's 60,000 for training, then its 10,000 for testing."""
    with _open(npz) as mnist:
        return np.concatenate([mnist["x_train"], mnist["x_test"]]).reshape(-1, 28 * 28)


def read_labels(npz: Path | None = None) -> NDArray[np.uint8]:
    """All labels, uint8 (70000,), in the order of the pixels."""
    with _open(npz) as mnist:
        return np.concatenate([mnist["y_train"], mnist["y_test"]])


def deal(labels: NDArray[np.uint8], split_seed: int) -> Split:
    """Deal the 70,000 digits as Kaggle did: the same number of train rows per digit, both parts shuffled.

    `RandomState` and not `default_rng`: NumPy promises its stream for ever (NEP 19), and a zip made under one
    version of NumPy is scored under another.
    """
    random = np.random.RandomState(split_seed)
    order = random.permutation(len(labels))
    in_train = np.zeros(len(labels), dtype=bool)
    for digit, rows in enumerate(TRAIN_ROWS):
        in_train[order[labels[order] == digit][:rows]] = True
    return Split(random.permutation(order[in_train[order]]), random.permutation(order[~in_train[order]]))


def solve(split_seed: int, npz: Path | None = None) -> NDArray[np.uint8]:
    """The labels of test.csv, uint8 (28000,): what the server scores with and never hands out."""
    labels = read_labels(npz)
    return labels[deal(labels, split_seed).test]


def make_zip(folder: Path, split_seed: int, npz: Path | None = None) -> Path:
    """The competition's zip in this folder, made on the first call and kept.

    It is written under a temporary name, synced, then renamed: what a killed process left never counts,
    and the next call removes it. One process at a time may call this for a folder.
    """
    made = folder / ZIP_NAME
    folder.mkdir(parents=True, exist_ok=True)
    for left_over in folder.glob(".*.tmp"):
        left_over.unlink()
    if made.exists() and sorted(sizes(made)) == sorted(CSV_NAMES):
        return made
    pixels, labels = read_pixels(npz), read_labels(npz)
    split = deal(labels, split_seed)
    names = ",".join(f"pixel{i}" for i in range(28 * 28))
    train = np.concatenate([labels[split.train, None], pixels[split.train]], axis=1)
    part = temporary(made)
    with part.open("wb") as file:
        with zipfile.ZipFile(file, "w") as archive:
            _add(archive, "sample_submission.csv", _sample())
            _add(archive, "test.csv", f"{names}\r\n".encode() + b"".join(_csv(pixels[split.test])))
            _add(archive, "train.csv", f"label,{names}\r\n".encode() + b"".join(_csv(train)))
        file.flush()
        os.fsync(file.fileno())
    part.rename(made)
    return made


def sizes(archive: Path) -> dict[str, int]:
    """Names and unpacked sizes in bytes of a zip's files; nothing where it is no whole zip."""
    try:
        with zipfile.ZipFile(archive) as opened:
            return {info.filename: info.file_size for info in opened.infolist()}
    except zipfile.BadZipFile:
        return {}


def unpack(archive: Path, name: str) -> Path:
    """One file of the zip, unpacked beside it on the first call and kept."""
    made = archive.with_name(name)
    if not made.exists():
        part = temporary(made)
        with zipfile.ZipFile(archive) as opened, opened.open(name) as packed, part.open("wb") as file:
            while chunk := packed.read(1 << 20):
                file.write(chunk)
        part.rename(made)
    return made


def temporary(path: Path) -> Path:
    """A name in the same folder for a file that is renamed to `path` when it is whole."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def _open(npz: Path | None) -> np.lib.npyio.NpzFile:
    path = npz or MNIST
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise PracticeError(
            f"{path} can not be read ({error.strerror}): the practice competition runs from a checkout, "
            "which holds it; images do not. Elsewhere set MNIST_KAGGLE to `live` or to a server's address"
        ) from error
    if hashlib.sha256(raw).hexdigest() != SHA256:
        raise PracticeError(f"{path} is damaged (sha256 differs): restore it with `git checkout {path.name}`")
    opened: np.lib.npyio.NpzFile = np.load(io.BytesIO(raw))
    return opened


def _add(archive: zipfile.ZipFile, name: str, text: bytes) -> None:
    info = zipfile.ZipInfo(name, date_time=MADE)
    info.external_attr = 0o644 << 16
    archive.writestr(info, text, compress_type=zipfile.ZIP_DEFLATED, compresslevel=1)


def _sample() -> bytes:
    return b"ImageId,Label\r\n" + b"".join(b"%d,0\r\n" % (row + 1) for row in range(TEST_ROWS))


def _csv(cells: NDArray[np.uint8]) -> Iterator[bytes]:
    """CSV lines of uint8 (N, columns): each byte looks up its padded text, then the padding is dropped."""
    comma = _texts(",", width=4).view(np.uint32)[:, 0]
    end = _texts("\r\n", width=5)
    for start in range(0, len(cells), 1000):
        rows = cells[start : start + 1000]
        text = np.concatenate([comma[rows[:, :-1]].view(np.uint8), end[rows[:, -1]]], axis=1)
        yield text[text != 0].tobytes()


def _texts(suffix: str, width: int) -> NDArray[np.uint8]:
    padded = b"".join(f"{value}{suffix}".encode().ljust(width, b"\0") for value in range(256))
    return np.frombuffer(padded, dtype=np.uint8).reshape(256, width)
