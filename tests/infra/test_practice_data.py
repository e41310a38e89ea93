"""The practice server's files have Kaggle's size and form, and reveal no label of test.csv."""

import hashlib
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from infra.practice import PracticeError, data, labelled
from mnist_core.spec import DIGIT_RECOGNIZER, DIGITS_MINI

ROOT = Path(__file__).parents[2]
ZIP_NAME = "digit-recognizer.zip"


@pytest.fixture(scope="module")
def archive(practice_zip):
    """The zip of split 0."""
    return practice_zip(DIGIT_RECOGNIZER)


@pytest.fixture(scope="module")
def tables(archive):
    """The three files of the zip: names of the columns, and the numbers below them."""

    def read(text):
        header, _, rows = text.decode().partition("\r\n")
        names = header.split(",")
        return names, np.fromstring(rows.replace("\r\n", ","), dtype=np.int32, sep=",").reshape(
            -1, len(names)
        )

    with zipfile.ZipFile(archive) as opened:
        return {name: read(opened.read(name)) for name in opened.namelist()}


def test_the_zip_holds_kaggles_files_in_kaggles_sizes(archive):
    """The digits are the same, so the two big files have Kaggle's size together, and the sample its own."""
    sizes = data.sizes(archive)

    assert sorted(sizes) == ["sample_submission.csv", "test.csv", "train.csv"]
    assert sizes["train.csv"] + sizes["test.csv"] == 76_775_041 + 51_118_296
    assert sizes["sample_submission.csv"] == 240_909
    assert sizes["train.csv"] == pytest.approx(76_775_041, rel=0.001)


def test_names_rows_and_line_ends_are_kaggles(archive, tables):
    """Headers, row counts and CRLF are what a reader of Kaggle's files expects."""
    pixels = [f"pixel{i}" for i in range(784)]
    names, sample = tables["sample_submission.csv"]

    assert tables["train.csv"][0] == ["label", *pixels]
    assert tables["test.csv"][0] == pixels
    assert names == ["ImageId", "Label"]
    assert tables["train.csv"][1].shape == (42_000, 785)
    assert tables["test.csv"][1].shape == (28_000, 784)
    assert np.array_equal(sample[:, 0], np.arange(1, 28_001))
    assert not sample[:, 1].any()
    with zipfile.ZipFile(archive) as opened:
        for name, (_, rows) in tables.items():
            text = opened.read(name)
            assert text.count(b"\r\n") == text.count(b"\n") == len(rows) + 1
            assert text.endswith(b"\r\n")


def test_train_and_test_are_the_seventy_thousand(tables):
    """Every digit is in exactly one of the files, with its own label, in Kaggle's numbers by class."""
    whole = np.concatenate([labelled.read_labels()[:, None], labelled.read_pixels()], axis=1)
    train, test = tables["train.csv"][1], tables["test.csv"][1]
    dealt = np.concatenate([train, np.concatenate([data.solve(0).labels[:, None], test], axis=1)])

    assert dealt.min() == 0
    assert dealt.max() == 255
    rows = sorted(row.tobytes() for row in dealt.astype(np.uint8))
    assert rows == sorted(row.tobytes() for row in whole)
    assert tuple(np.bincount(train[:, 0])) == labelled.TRAIN_SHARES


def test_both_parts_are_shuffled(tables):
    """Runs of equal digits are as rare as chance makes them."""
    for part in (tables["train.csv"][1][:, 0], data.solve(0).labels):
        assert 0.08 < np.mean(part[1:] == part[:-1]) < 0.12


def test_a_seed_always_deals_the_same_split():
    """The same seed gives the same split (pinned: NumPy's stream must not change), another seed another."""
    assert (
        hashlib.sha256(data.solve(0).labels.astype(np.uint8).tobytes()).hexdigest()[:16] == "f9afcad03cd0a780"
    )
    assert np.array_equal(data.solve(7).labels, data.solve(7).labels)
    assert np.mean(data.solve(7).labels == data.solve(8).labels) < 0.2
    labels = labelled.read_labels()
    for seed in (0, 7):
        split = data.deal(labelled.digits(DIGIT_RECOGNIZER), seed)
        assert np.array_equal(np.sort(np.concatenate([split.train, split.test])), np.arange(70_000))
        assert tuple(np.bincount(labels[split.train])) == labelled.TRAIN_SHARES


@pytest.mark.parametrize(
    ("spec", "digest"), [(DIGIT_RECOGNIZER, "0280ab7a061da8be"), (DIGITS_MINI, "282c54cd33d37f67")]
)
def test_the_bytes_of_the_files_never_change(practice_zip, spec, digest):
    """Their digest names a namespace of the store: with other bytes every version in it would be lost."""
    total = hashlib.sha256()
    with zipfile.ZipFile(practice_zip(spec)) as opened:
        for name in spec.files:
            total.update(opened.read(name))

    assert total.hexdigest()[:16] == digest


def test_a_small_competition_is_dealt_in_the_same_proportions(practice_zip):
    """It has the rows and files of its specification, each digit's share, and no digit twice."""
    labels = labelled.read_labels()
    split = data.deal(labelled.digits(DIGITS_MINI), 0, DIGITS_MINI)
    with zipfile.ZipFile(practice_zip(DIGITS_MINI)) as opened:
        lines = {name: opened.read(name).splitlines() for name in opened.namelist()}

    rows = np.concatenate([split.train, split.test])
    assert len(set(rows)) == len(rows) == DIGITS_MINI.train_rows + DIGITS_MINI.test_rows
    for part, total in ((split.train, DIGITS_MINI.train_rows), (split.test, DIGITS_MINI.test_rows)):
        exact = total * np.bincount(labels) / len(labels)
        assert np.abs(np.bincount(labels[part]) - exact).max() < 2
    assert set(lines) == set(DIGITS_MINI.files)
    assert len(lines["train.csv"]) == DIGITS_MINI.train_rows + 1
    assert len(lines["test.csv"]) == len(lines["sample_submission.csv"]) == DIGITS_MINI.test_rows + 1
    assert [int(line.split(b",")[0]) for line in lines["train.csv"][1:]] == labels[split.train].tolist()
    assert np.array_equal(data.solve(0, DIGITS_MINI).labels, labels[split.test])


@pytest.mark.parametrize(
    ("total", "shares", "parts"),
    [(10, (5, 3, 2), [5, 3, 2]), (4, (1, 1, 1), [2, 1, 1]), (7, (50, 30, 20), [4, 2, 1])],
)
def test_a_total_is_apportioned_in_whole_numbers(total, shares, parts):
    """The parts add up, and the largest remainders are rounded up."""
    assert data.apportion(total, shares).tolist() == parts


def test_the_zip_is_kept(archive):
    """The second call makes nothing."""
    before = archive.stat()
    assert data.make_zip(archive.parent, 0) == archive
    assert archive.stat().st_mtime_ns == before.st_mtime_ns


def test_an_incomplete_zip_is_made_again(practice_zip, tmp_path):
    """What a killed process left is removed, a truncated zip is made again, with the same bytes."""
    archive = practice_zip(DIGITS_MINI)
    (tmp_path / f".{archive.name}.0123abcd.part").write_bytes(b"half")
    (tmp_path / archive.name).write_bytes(archive.read_bytes()[:100_000])

    made = data.make_zip(tmp_path, 0, DIGITS_MINI)

    assert made.read_bytes() == archive.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == [archive.name]


def test_a_process_killed_while_it_makes_the_zip_leaves_none(tmp_path):
    """The zip appears under its name whole or not at all."""
    code = "import pathlib, sys; from infra.practice import data; data.make_zip(pathlib.Path(sys.argv[1]), 0)"
    maker = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT)
    while not list(tmp_path.glob(".*.part")):
        assert maker.poll() is None
        time.sleep(0.01)

    maker.kill()
    maker.wait()

    assert not (tmp_path / ZIP_NAME).exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"PK not this", r"mnist.npz is damaged \(its sha256"),
        (None, r"mnist.npz: cannot read the practice competition.*checkout.*MNIST_KAGGLE"),
    ],
)
def test_bad_data_are_named_with_the_remedy(tmp_path, content, says):
    """A damaged or missing data file is refused before anything is dealt."""
    npz = tmp_path / "mnist.npz"
    if content:
        npz.write_bytes(content)

    with pytest.raises(PracticeError, match=says):
        labelled.digits(DIGIT_RECOGNIZER, npz)
