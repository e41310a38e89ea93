"""The definition of a competition."""

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from mnist_core._spec_keys import KEYS
from mnist_core.errors import DataError
from mnist_core.spec import (
    DIGIT_RECOGNIZER,
    DIGITS_MINI,
    SPECS,
    CompetitionSpec,
    Metric,
    find_spec,
    read_spec,
)


def test_kaggles_competition_is_as_on_its_page():
    """Source: kaggle.com/competitions/digit-recognizer/data and /overview/evaluation."""
    spec = DIGIT_RECOGNIZER

    assert (spec.name, spec.train_rows, spec.test_rows) == ("digit-recognizer", 42_000, 28_000)
    assert spec.files == ("train.csv", "test.csv", "sample_submission.csv")
    assert (spec.shape, spec.pixels, spec.size) == ((28, 28, 1), 784, "28 × 28")
    assert (spec.class_count, spec.classes[0], spec.classes[9], spec.class_range) == (10, "0", "9", "0..9")
    assert (spec.submission_header, spec.first_id) == (("ImageId", "Label"), 1)


def test_the_columns_are_those_of_the_files():
    """The training file has the label first; the test file has pixels only."""
    train, test = (DIGIT_RECOGNIZER.columns(labelled=labelled) for labelled in (True, False))

    assert train == ["label", *test]
    assert (len(test), test[0], test[-1]) == (784, "pixel0", "pixel783")


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_a_built_in_competition_is_consistent(spec):
    """Columns occur once, and both files have rows."""
    assert len({*spec.columns(labelled=True)}) == 1 + spec.pixels
    assert min(spec.train_rows, spec.test_rows) > 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"classes": ("a", "b", "a")}, "classes is a, b, a; they must all be different"),
        ({"test_file": "train.csv"}, "files is train.csv, train.csv, .*; they must all be different"),
        ({"submission_header": ("id", "id")}, "submission header is id, id; they must all be different"),
        ({"submission_header": ("id", "a", "b")}, "submission header is id, a, b; two columns"),
        (
            {"metric": Metric.LOG_LOSS},
            "submission header is ImageId, Label; id and one column for each class",
        ),
        (
            {"classes": tuple("abcdefghijklmnopqrstuvwxyz")},
            "share_min is 0.05; 26 classes can have at most 0.038",
        ),
        ({"public_rows": 501}, "public_rows is 501; at most test_rows, 500"),
        ({"pixel_column": "ink"}, "pixels is 'ink'; a name with {}, as in pixel{}"),
        ({"pixel_column": "{row}"}, "pixels is '{row}'; a name with {}, as in pixel{}, or with {row} and"),
        ({"id_column": "pixel7"}, "pixels is 'pixel{}'; pixel7 would be a pixel and another column"),
        ({"ignore": ("label",)}, "columns is label, label; they must all be different"),
        ({"header": False}, "label is 'label'; without a header, the column's number: 1 the first"),
    ],
)
def test_an_inconsistent_competition_is_refused(fields, message):
    """A mistake in a definition shows when it is made, and not in a rejected night."""
    with pytest.raises(DataError, match=message):
        replace(DIGITS_MINI, **fields)


def test_the_small_competition_differs_in_its_rows_alone():
    """What works on the small one works on Kaggle's."""
    same = ("shape", "classes", "label_column", "pixel_column", "submission_header", "first_id", "files")

    assert all(getattr(DIGITS_MINI, name) == getattr(DIGIT_RECOGNIZER, name) for name in same)
    assert DIGITS_MINI.train_rows + DIGITS_MINI.test_rows == 2_000


def test_a_competition_is_found_by_its_name():
    """The name is the one in the competition's URL."""
    assert all(find_spec(name) is spec for name, spec in SPECS.items())


def test_an_unknown_competition_is_refused():
    """The message lists the names that exist."""
    with pytest.raises(DataError, match="'titanic' is not known") as caught:
        find_spec("titanic")

    assert caught.value.remedy == "choose one of digit-recognizer, digits-mini"


WHOLE = """
name = "leaves"
source = "dataset:botany/leaves"
metric = "log_loss"
classes = ["oak", "ash, white", "elm"]
shape = [9, 12, 1]
train_rows = 300
test_rows = 60
public_rows = 20
transposed = true
value_range = [0, 1]

[files]
train = "a.csv"
test = "b.csv"
sample = "c.csv"

[columns]
label = "species"
id = "leaf"
pixels = "{row}x{column}"
first_pixel = 1
header = true
delimiter = ";"
ignore = ["usage"]

[submission]
header = ["leaf", "p_{}"]
first_id = 5

[gate]
floor = 0.9
share_min = 0.1

[augmentation]
mirror = true
amount = 0.5

[training]
least_rows = 5000

[pictures]
margin = 2
"""
SHORT = """
name = "leaves"
classes = ["oak", "elm"]
shape = [8, 8, 1]
[columns]
label = "species"
[submission]
header = ["id", "species"]
"""


@pytest.fixture
def read(tmp_path):
    """Return a function that reads a specification from text."""

    def read_text(text):
        file = tmp_path / "leaves.toml"
        file.write_text(text)
        return read_spec(file)

    return read_text


def test_a_specification_says_all_that_there_is_to_say(read):
    """Each key sets its field."""
    spec = read(WHOLE)

    assert (spec.name, spec.source, spec.metric) == ("leaves", "dataset:botany/leaves", Metric.LOG_LOSS)
    assert (spec.classes, spec.shape) == (("oak", "ash, white", "elm"), (9, 12, 1))
    assert (spec.train_rows, spec.test_rows, spec.public_rows) == (300, 60, 20)
    assert (spec.transposed, spec.value_range) == (True, (0, 1))
    assert spec.files == ("a.csv", "b.csv", "c.csv")
    assert (spec.label_column, spec.id_column, spec.ignore) == ("species", "leaf", ("usage",))
    assert (spec.delimiter, spec.header) == (";", True)
    assert spec.pixel_columns[:3] == ("1x1", "2x1", "3x1")  # column by column
    assert (len(spec.pixel_columns), spec.pixel_columns[-1]) == (9 * 12, "9x12")
    assert spec.submission_header == ("leaf", "p_oak", "p_ash, white", "p_elm")
    assert (spec.first_id, spec.floor, spec.share_floor) == (5, 0.9, 0.1)
    assert (spec.mirror, spec.amount, spec.least_rows, spec.margin) == (True, 0.5, 5_000, 2)


def test_a_pixel_in_colour_has_three_columns(read):
    """They stand side by side, whatever the order of rows and columns."""
    text = WHOLE.replace("[9, 12, 1]", "[9, 12, 3]").replace("x{column}", "x{column}x{channel}")

    spec = read(text.replace("margin = 2\n", ""))

    assert spec.pixel_columns[:4] == ("1x1x1", "1x1x2", "1x1x3", "2x1x1")
    assert (len(spec.pixel_columns), spec.pixel_columns[-1]) == (9 * 12 * 3, "9x12x3")
    with pytest.raises(
        DataError, match="margin is 2; less than half a side of the picture, and in grey only"
    ):
        read(text)


def test_a_specification_survives_json():
    """A bundle keeps it as JSON; fields of newer code are ignored."""
    for spec in SPECS.values():
        kept = json.loads(json.dumps(spec.to_json())) | {"of_newer_code": 1}
        assert CompetitionSpec.from_json(kept) == spec


def test_the_example_has_every_key():
    """What the test above reads is all that a specification knows."""
    found = tomllib.loads(WHOLE)

    assert {table: set(found[table]) if table else set(found) - set(KEYS) for table in KEYS} == {
        table: set(keys) for table, keys in KEYS.items()
    }


def test_every_key_is_documented():
    """The page on competitions has a row for each key, with its table."""
    page = (Path(__file__).parents[2] / "docs" / "competitions" / "index.md").read_text()
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]

    for table, keys in KEYS.items():
        for key in keys:
            assert any(f"`{key}`" in row and (not table or f"`[{table}]`" in row) for row in rows), key


def test_a_specification_needs_five_keys(read):
    """Everything else has a default."""
    spec = read(SHORT)

    assert (spec.train_rows, spec.test_rows, spec.scored_rows, spec.id_column) == (None, None, None, None)
    assert (spec.source, spec.metric, spec.value_range, spec.first_id) == (
        "competition",
        "accuracy",
        (0, 255),
        0,
    )
    assert (spec.pixel_columns[0], spec.pixel_columns[-1], spec.share_floor) == ("pixel0", "pixel63", 0.25)


def test_a_file_of_labelled_pictures_is_found_beside_the_specification(read, tmp_path):
    """The specification and its data can be moved together."""
    assert read('source = "all.csv"' + SHORT).source == str(tmp_path / "all.csv")


def test_a_header_of_one_column_stands_for_the_classes(read):
    """The columns of a probability table are as a rule named as the classes."""
    text = SHORT.replace('["id", "species"]', '["id"]')

    assert read('metric = "log_loss"' + text).submission_header == ("id", "oak", "elm")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "leaves"', 'name = "my leaves"', "name is 'my leaves'; allowed is letters, digits"),
        ("[8, 8, 1]", "[8, 7, 1]", r"shape is \[8, 7, 1\]; allowed is .*8 to 64 pixels a side"),
        ("[8, 8, 1]", "[8, 65, 1]", r"shape is \[8, 65, 1\]; allowed is"),
        ("[8, 8, 1]", "[8, 8, 2]", r"shape is \[8, 8, 2\]; allowed is"),
        ("[8, 8, 1]", "[8, 8]", r"shape is \[8, 8\]; allowed is"),
        ('["oak", "elm"]', '["oak"]', r"classes is \['oak'\]; allowed is 2 to 1,000 texts"),
        ('["oak", "elm"]', "[0, 1]", r"classes is \[0, 1\]; allowed is 2 to 1,000 texts"),
        ('["oak", "elm"]', '["oak ", "elm"]', r"classes is \['oak ', 'elm'\]; .* without spaces around"),
        ('["oak", "elm"]', '["oak", "oak"]', "classes is oak, oak; they must all be different"),
        ("shape =", "metric = 'auc'\nshape =", "metric is 'auc'; allowed is one of accuracy"),
        ("shape =", "train_rows = 0\nshape =", "train_rows is 0; allowed is a whole number above 0"),
        ("shape =", "transposed = 1\nshape =", "transposed is 1; allowed is true or false"),
        ("shape =", "value_range = [1, 1]\nshape =", r"value_range is \[1, 1\]; allowed is"),
        ("shape =", "source = 'dataset:leaves'\nshape =", 'allowed is "competition", "dataset:owner/slug"'),
        ("shape =", "clases = []\nshape =", "clases is unknown; did you mean classes"),  # codespell:ignore
        ("shape =", "label = 'x'\nshape =", "label is unknown; did you mean columns.label"),
        ("shape =", "quixotic = 1\nshape =", "quixotic is unknown; known are name, source, "),
        ("[columns]", "[column]", "column is unknown; did you mean columns"),
        ("[submission]", "divider = ','\n[submission]", "columns.divider is unknown; known are"),
        ("[submission]", "delimiter = '::'\n[submission]", "columns.delimiter is '::'; allowed is a comma"),
        ("[submission]", "[files]\ntrain = 'a/b.csv'\n[submission]", "files.train is 'a/b.csv'; allowed"),
        ("[submission]", "[gate]\nfloor = 1.5\n[submission]", "gate.floor is 1.5; allowed is a number"),
        ("[submission]", "[augmentation]\namount = nan\n[submission]", "augmentation.amount is nan; allowed"),
        ('label = "species"', "", "columns.label is missing; it is the column's name"),
        ("shape = [8, 8, 1]", "", r"shape is missing; it is \[rows, columns, channels\]"),
        ("shape =", "shape", "is not TOML: .*line 4"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_specification_is_named(read, old, new, message):
    """The error names the file, the key, the value and what is allowed."""
    assert old in SHORT

    with pytest.raises(DataError, match=rf"leaves\.toml: .*{message}"):
        read(SHORT.replace(old, new))


def test_a_missing_specification_is_named(tmp_path):
    """The path may be misspelled."""
    with pytest.raises(DataError, match=r"no\.toml: cannot be read: No such file"):
        read_spec(tmp_path / "no.toml")


@pytest.mark.parametrize(
    ("classes", "rows", "floor"),
    [
        (10, 28_000, 0.05),  # half of an equal share
        (26, 2_600, 0.5 / 26),
        (10, None, 0.05),
        (
            10,
            500,
            0.1 - 5 * (0.1 / 500) ** 0.5,
        ),  # 15 of 500: a class of 50 has 15 by chance once in a million
        (26, 500, 0.0),  # 19 rows of a class prove nothing
    ],
)
def test_the_lowest_share_follows_from_classes_and_rows(classes, rows, floor):
    """With 26 classes no night could have 5 % of each, and on few rows chance alone takes half of a class."""
    names = tuple(f"class {number}" for number in range(classes))
    spec = replace(DIGIT_RECOGNIZER, classes=names, test_rows=rows, share_min=None)

    assert spec.share_floor == pytest.approx(floor)
