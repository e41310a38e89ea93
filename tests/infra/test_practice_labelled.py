"""Any labelled rows are dealt as a competition of their own, and scored by its metric."""

import csv
import io
import math
import zipfile

import numpy as np
import pytest

from infra.practice import PracticeError, catalog, data, labelled
from infra.practice.data import Solution
from infra.practice.scoring import grade, score
from mnist_core.spec import parse_spec

SPEC = """
name = "stripes"
classes = ["across", "down, then up", "x"]
shape = [8, 8, 1]
{top}

[columns]
label = "label"
{columns}

[submission]
header = ["row", "what"]
first_id = 7
"""
CLASSES = ("across", "down, then up", "x")
ROWS = 90


def make_spec(top="", columns=""):
    """Return the text of a specification with these further keys."""
    return SPEC.format(top=top, columns=columns)


def write_rows(path, first=(), last=("label",), delimiter=","):
    """Write labelled rows whose first pixel is their number; columns stand before and after the pixels."""
    pixels = [f"pixel{number}" for number in range(64)]
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow([*first, *pixels, *last])
        for row in range(ROWS):
            named = {"label": CLASSES[row % 3], "id": f"p-{row:03d}", "1": CLASSES[row % 3]}
            writer.writerow(
                [*(named[name] for name in first), row, *[0] * 63, *(named[name] for name in last)]
            )
    return path


def read_zip(archive):
    """Return the tables of a zip by file name, each a list of rows."""
    with zipfile.ZipFile(archive) as opened:
        return {name: list(csv.reader(io.StringIO(opened.read(name).decode()))) for name in opened.namelist()}


@pytest.mark.parametrize(("first", "last"), [(["label"], []), ([], ["label"]), (["id"], ["label"])])
def test_rows_are_dealt_as_they_stand(tmp_path, first, last):
    """A third of each class is the test, without its label, wherever that stands, and with its own ids."""
    own_ids = "id" in first
    spec = parse_spec(make_spec(columns='id = "id"' if own_ids else ""), "here")
    rows = labelled.read(write_rows(tmp_path / "all.csv", first, last), spec)

    tables = read_zip(data.make_zip(tmp_path / "zip", 3, spec, rows))
    solution = data.solve(3, spec, rows)

    train, test, sample = (tables[name] for name in spec.files)
    pixel = train[0].index("pixel0"), test[0].index("pixel0")
    assert [len(train), len(test), len(sample)] == [61, 31, 31]
    assert test[0] == [name for name in train[0] if name != "label"]
    assert np.bincount(solution.labels).tolist() == [10, 10, 10]
    dealt = [int(row[place]) for table, place in zip((train, test), pixel, strict=True) for row in table[1:]]
    assert sorted(dealt) == list(range(ROWS))
    for row in train[1:]:
        assert row[train[0].index("label")] == CLASSES[int(row[pixel[0]]) % 3]
    assert [int(row[pixel[1]]) % 3 for row in test[1:]] == solution.labels.tolist()
    assert solution.ids == [row[0] for row in sample[1:]]
    assert solution.ids == ([row[0] for row in test[1:]] if own_ids else [str(7 + n) for n in range(30)])


def test_the_sample_of_a_class_with_a_comma_is_a_submission(tmp_path):
    """The class is in quotes there, and spaces around a label of the labelled rows do not count."""
    text = make_spec().replace('"across", "down, then up"', '"down, then up", "across"')
    spec = parse_spec(text, "here")
    path = write_rows(tmp_path / "all.csv")
    path.write_text(path.read_text("utf-8-sig").replace(",x\n", ", x \n"))

    rows = labelled.read(path, spec)
    with zipfile.ZipFile(data.make_zip(tmp_path / "zip", 0, spec, rows)) as opened:
        sample = opened.read(spec.sample_file)

    solution = data.solve(0, spec, rows)
    assert spec.classes[0] == "down, then up"
    assert grade(sample, solution, spec).error == ""
    assert score(grade(sample, solution, spec), solution, spec) == "0.33333"


def test_rows_without_a_header_and_stated_rows(tmp_path):
    """Columns are counted, an id that only the test file has is added, and stated rows are kept."""
    columns = 'header = false\nid = 1\ndelimiter = ";"'
    text = make_spec("train_rows = 50\ntest_rows = 20\npublic_rows = 5", columns).replace(
        '"label"\n', "-1\n", 1
    )
    spec = parse_spec(text, "here")
    path = write_rows(tmp_path / "all.csv", delimiter=";")
    path.write_text("".join(path.read_text("utf-8-sig").splitlines(keepends=True)[1:]))

    rows = labelled.read(path, spec)
    with zipfile.ZipFile(data.make_zip(tmp_path / "zip", 0, spec, rows)) as opened:
        train, test = (opened.read(name).decode().splitlines() for name in spec.files[:2])
    solution = data.solve(0, spec, rows)

    assert (len(train), len(test), int(solution.public.sum())) == (50, 20, 5)
    assert [line.split(";")[0] for line in test] == [str(7 + row) for row in range(20)] == solution.ids
    assert {len(line.split(";")) for line in test} == {65}


def test_arrays_are_dealt_as_the_specification_says(tmp_path):
    """An npz file of pictures becomes CSV files, column by column if the competition's are so."""
    pictures = np.zeros((ROWS, 8, 8), np.uint8)
    pictures[:, 0, 1] = np.arange(ROWS)
    np.savez(tmp_path / "all.npz", pixels=pictures, labels=np.array(CLASSES)[np.arange(ROWS) % 3])
    spec = parse_spec(make_spec("transposed = true"), "here")

    rows = labelled.read(tmp_path / "all.npz", spec)
    train = read_zip(data.make_zip(tmp_path / "zip", 0, spec, rows))[spec.train_file]

    assert all(row[0] == CLASSES[int(row[1 + 8]) % 3] for row in train[1:])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("x", "y"), r"all.csv: row 3: label 'y' is not one of across..x"),
        (("label", "kind"), r"all.csv: its header has no column 'label'"),
    ],
)
def test_wrong_rows_are_named(tmp_path, change, words):
    """The message names file, row and value."""
    path = write_rows(tmp_path / "all.csv")
    lines = path.read_text("utf-8-sig").splitlines()
    path.write_text(
        "\n".join(line[: -len(change[0])] + change[1] if line.endswith(change[0]) else line for line in lines)
    )

    with pytest.raises(PracticeError, match=words):
        labelled.read(path, parse_spec(make_spec(), "here"))


def test_a_home_offers_what_it_was_given(tmp_path):
    """Later rows of the same name are another competition, a built-in name and a missing file are refused."""
    path = write_rows(tmp_path / "all.csv")
    catalog.offer(tmp_path, make_spec(), path)
    first = catalog.find(tmp_path, "stripes")
    path.write_text(path.read_text() + path.read_text().splitlines()[-1])

    assert catalog.find(tmp_path, "stripes") != first
    assert "stripes" in catalog.names(tmp_path)
    assert catalog.find(tmp_path, "../stripes") is None
    with pytest.raises(PracticeError, match="digits-mini is built into"):
        catalog.offer(tmp_path, make_spec().replace("stripes", "digits-mini"), path)
    with pytest.raises(PracticeError, match=r"absent\.csv does not exist.*MNIST_PRACTICE_DATA"):
        catalog.offer(tmp_path, make_spec(), tmp_path / "absent.csv")


SOLUTION = Solution(["a", "b", "c", "d"], np.array([0, 0, 1, 2]), np.array([True, True, True, False]))


def test_macro_f1_is_the_mean_over_the_classes():
    """By hand: class 0 has 2·1/(1+2), class 1 has 2·1/(2+1); the private row is not counted."""
    spec = parse_spec(make_spec('metric = "macro_f1"'), "here")
    body = 'row,what\nd,x\na,across\nb,"down, then up"\nc,"down, then up"\n'

    assert score(grade(body.encode(), SOLUTION, spec), SOLUTION, spec) == "0.66666"


def test_log_loss_is_of_probabilities():
    """The rows are scaled to a sum of 1, and a class with probability 0 does not make the loss infinite."""
    text = make_spec('metric = "log_loss"').replace('["row", "what"]', '["row", "p_0", "p_1", "p_2"]')
    spec = parse_spec(text, "here")
    body = "row,p_0,p_1,p_2\na,0.5,0.5,0\nb,1,1,0\nc,0,1,0\nd,1,0,0\n"

    found = score(grade(body.encode(), SOLUTION, spec), SOLUTION, spec)

    assert float(found) == pytest.approx(2 * math.log(2) / 3, abs=1e-5)
    for wrong, words in [
        ("b,1,2,0", "p_1 '2' is not a probability (Line 3)"),
        ("b,0,0,0", "are all 0 (Line 3)"),
    ]:
        assert words in grade(body.replace("b,1,1,0", wrong).encode(), SOLUTION, spec).error
