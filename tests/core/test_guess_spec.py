"""A specification is written from a competition's files, and reads them."""

import gzip
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from mnist_core.__main__ import app
from mnist_core.digits import Digits, read_test, read_train, write_csv
from mnist_core.errors import DataError
from mnist_core.guess_spec import Known, guess_spec
from mnist_core.spec import CompetitionSpec, Metric, read_spec
from mnist_core.spec_csv import count_rows
from mnist_core.submission import read_csv, to_csv

NAMES = ("no", "yes", "maybe")
BASE = CompetitionSpec("x", None, None, (8, 8, 1), NAMES)
CHANGES = {
    "usual": {},
    "one by one": {"pixel_column": "{row}x{column}", "first_pixel": 1},
    "transposed names": {"pixel_column": "{row}_{column}", "transposed": True},
    "not square": {"shape": (9, 13, 1), "pixel_column": "p{row}_{column}"},
    "largest": {"shape": (64, 64, 3), "pixel_column": "pixel{}"},
    "bright paper": {"value_range": (255, 0)},
    "colour": {"shape": (8, 8, 3), "pixel_column": "r{row}c{column}k{channel}"},
    "ids": {"id_column": "id"},
    "semicolons": {"delimiter": ";"},
    "tabs": {"delimiter": "\t"},
    "0 to 16": {"value_range": (0, 16)},
    "0 to 1": {"value_range": (0, 1.0)},
    "no header": {"header": False, "label_column": "1"},
}


def change_lines(change):
    """Return a function that changes each line of a file."""
    return lambda data: b"".join(change(line) for line in data.splitlines(keepends=True))


def move_first_last(line):
    """Return a line with its first field behind the others."""
    first, _, rest = line.rstrip(b"\r\n").partition(b",")
    return rest + b"," + first + b"\n"


FORMS = {
    "label last": move_first_last,
    "quoted header": lambda line: (
        b'"' + line.rstrip().replace(b",", b'","') + b'"\n' if b"pix" in line else line
    ),
    "spaces": lambda line: line.replace(b",", b", "),
}


def write_files(folder, spec, ids=None):
    """Write the three files of a competition of 40 pictures each; return what is in them."""
    random = np.random.RandomState(0)
    pixels = random.randint(0, 2, (40, *spec.picture_shape)).astype(np.uint8) * 255
    pixels[:, 0] = pixels[:, -1] = pixels[:, :, 0] = pixels[:, :, -1] = 0
    labels = np.arange(40) % 3
    write_csv(Digits(pixels, labels, spec), folder / "train.csv")
    write_csv(Digits(pixels[::-1].copy(), None, spec, ids), folder / "test.csv")
    names = ids or [str(number) for number in range(40)]
    sample = "".join(f"{name},no\n" for name in names)
    (folder / "sample_submission.csv").write_text(f"id,label\n{sample}")
    return pixels, labels


def guess(folder, **known):
    """Return the specification that the files of a folder suggest, read back from a file, and the notes."""
    files = [folder / name for name in ("train.csv", "test.csv", "sample_submission.csv")]
    found = guess_spec(*files, Known("x", **known))
    (folder / "spec.toml").write_text(found.text)
    return read_spec(folder / "spec.toml"), found.notes


def check(folder, spec, pixels, labels):
    """Check that both files are read through a specification."""
    train, test = read_train(folder / "train.csv", spec), read_test(folder / "test.csv", spec)
    assert [spec.classes[label] for label in train.true_labels] == [NAMES[label] for label in labels]
    assert np.array_equal(train.pixels, pixels)
    assert np.array_equal(test.pixels, pixels[::-1])
    return test


@pytest.mark.parametrize("change", CHANGES)
def test_what_a_specification_writes_is_guessed_and_read(change, tmp_path):
    """Columns, shape, delimiter and values are found again, and the files hold the same pictures."""
    spec = replace(BASE, **CHANGES[change])
    ids = tuple(f"row-{number * 3}" for number in range(40)) if spec.id_column else None
    written = write_files(tmp_path, spec, ids)
    found, _ = guess(tmp_path, transposed=spec.transposed or None)
    test = check(tmp_path, found, *written)

    assert (found.shape, found.delimiter, found.header) == (spec.shape, spec.delimiter, spec.header)
    assert found.value_range == spec.value_range
    assert sorted(found.classes) == sorted(spec.classes)
    assert test.ids == ids
    if spec.header:
        assert found.pixel_columns == spec.pixel_columns


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_the_field_are_read(form, tmp_path):
    """A label behind the pixels, a quoted header and spaces after commas change nothing."""
    written = write_files(tmp_path, BASE)
    for name in ("train.csv", "test.csv") if form != "label last" else ("train.csv",):
        file = tmp_path / name
        file.write_bytes(change_lines(FORMS[form])(file.read_bytes()))

    check(tmp_path, guess(tmp_path)[0], *written)


@pytest.mark.parametrize("form", ["BOM", "UTF-16", "gzip", "index column"])
def test_encodings_and_index_columns_are_read(form, tmp_path):
    """A byte order mark, UTF-16, gzip and the index column of pandas change nothing."""
    written = write_files(tmp_path, BASE)
    for name in ("train.csv", "test.csv"):
        file = tmp_path / name
        data = file.read_bytes()
        if form == "index column":
            lines = data.decode().splitlines()
            numbered = [f"{number - 1 if number else ''},{line}" for number, line in enumerate(lines)]
            file.write_text("\n".join(numbered))
        else:
            text = data.decode()
            file.write_bytes({
                "BOM": b"\xef\xbb\xbf" + data, "UTF-16": text.encode("utf-16"), "gzip": gzip.compress(data)
            }[form])  # fmt: skip

    check(tmp_path, guess(tmp_path)[0], *written)


@pytest.mark.parametrize("form", ["plain", "blank lines at its end", "gzip"])
def test_rows_are_counted_as_they_are_read(form, tmp_path):
    """Where a specification does not state how many there are, a blank last line or gzip changes nothing."""
    write_files(tmp_path, BASE)
    file = tmp_path / "train.csv"
    data = file.read_bytes()
    file.write_bytes({"plain": data, "gzip": gzip.compress(data)}.get(form, data + b"\r\n\r\n"))

    assert count_rows(file, BASE) == len(read_train(file, BASE)) == 40


def test_a_file_that_was_cut_is_named(tmp_path):
    """Half of a compressed file is not a crash of the command that looks at it."""
    write_files(tmp_path, BASE)
    file = tmp_path / "train.csv"
    file.write_bytes(gzip.compress(file.read_bytes())[:-50])

    with pytest.raises(DataError, match=r"train\.csv: is damaged: .*; download it again"):
        guess(tmp_path)
    with pytest.raises(DataError, match=r"train\.csv: is damaged"):
        count_rows(file, BASE)


def test_other_columns_are_ignored_and_named(tmp_path):
    """A column that is neither label nor pixel nor id is listed, and said to be ignored."""
    written = write_files(tmp_path, BASE)
    file = tmp_path / "train.csv"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([f"writer,{lines[0]}", *(f"ada,{line}" for line in lines[1:])]))
    found, notes = guess(tmp_path)
    check(tmp_path, found, *written)

    assert found.ignore == ("writer",)
    assert "the columns writer are ignored" in notes


def test_a_column_for_each_class_means_log_loss(tmp_path):
    """The classes stand in the order of the sample's columns."""
    write_files(tmp_path, BASE)
    rows = "".join(f"{number},0.4,0.3,0.3\n" for number in range(40))
    (tmp_path / "sample_submission.csv").write_text(f"id,p_no,p_yes,p_maybe\n{rows}")
    found, _ = guess(tmp_path)

    assert found.metric is Metric.LOG_LOSS
    assert found.classes == NAMES


def test_a_class_without_a_training_row_is_kept_and_said(tmp_path):
    """The sample's columns name all classes, so the specification has the one that no training row has."""
    write_files(tmp_path, BASE)
    rows = "".join(f"{number},0.25,0.25,0.25,0.25\n" for number in range(40))
    (tmp_path / "sample_submission.csv").write_text(f"id,p_no,p_yes,p_never,p_maybe\n{rows}")

    found, notes = guess(tmp_path)

    assert found.classes == ("no", "yes", "never", "maybe")
    assert "no row of train.csv is of class never" in notes
    (tmp_path / "sample_submission.csv").write_text(f"id,a,b,c,d\n{rows}")
    with pytest.raises(DataError, match=r"4 columns beside the id, and .* 3 classes, which they do not name"):
        guess(tmp_path)


def test_label_and_id_may_both_be_the_first_column_without_a_header(tmp_path):
    """The label's number counts in the training file, the id's in the test file."""
    spec = replace(BASE, header=False, label_column="1", id_column="1", delimiter=";")
    ids = tuple(f"no. {number * 3}" for number in range(40))
    pixels, _ = write_files(tmp_path, spec, ids)

    found, _ = guess(tmp_path)

    assert (found.label_column, found.id_column, found.header) == ("1", "1", False)
    test = read_test(tmp_path / "test.csv", found)
    assert test.ids == ids
    assert np.array_equal(test.pixels, pixels[::-1])


def test_values_that_nearly_reach_1_run_from_minus_1_to_1(tmp_path):
    """Of some rows the largest value need not be the largest of all rows."""
    write_files(tmp_path, replace(BASE, value_range=(-0.99, 0.98)))

    assert guess(tmp_path)[0].value_range == (-1, 1)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\nno,", "\n,", r"train\.csv: a row has nothing in the label's column label; fill it in"),
        ("\nno,", '\n"n\no",', r"row 1: 1 values, expected 65; take out the line break between its quotes"),
    ],
)
def test_a_label_that_cannot_be_one_is_refused(old, new, message, tmp_path):
    """An empty label, or one with a line break, is named before a specification is written."""
    write_files(tmp_path, BASE)
    text = (tmp_path / "train.csv").read_text()
    (tmp_path / "train.csv").write_text(text.replace(old, new, 1))

    with pytest.raises(DataError, match=message):
        guess(tmp_path)


def test_pictures_of_another_size_are_refused(tmp_path):
    """Too small, or not the shape that was stated: the message names the training file."""
    write_files(tmp_path, BASE)
    with pytest.raises(DataError, match=r"train\.csv: a row has 64 pixels, and 9 × 9 × 1 are 81; correct"):
        guess(tmp_path, shape=(9, 9, 1))
    with pytest.raises(DataError, match=r"train\.csv: its pictures have 4 × 16 pixels; shrink or enlarge"):
        guess(tmp_path, shape=(4, 16, 1))


@pytest.mark.parametrize(
    ("shape", "message"), [((8, 16, 1), "--shape, 8x16x1 or 16x8x1"), ((8, 20, 3), r"--shape, .*8x20x3")]
)
def test_a_shape_that_is_not_square_is_asked_for(shape, message, tmp_path):
    """The message lists the shapes that fit; with one of them the files are read."""
    spec = replace(BASE, shape=shape)
    written = write_files(tmp_path, spec)
    with pytest.raises(DataError, match=message):
        guess(tmp_path)

    check(tmp_path, guess(tmp_path, shape=shape)[0], *written)


def test_a_label_that_is_not_certain_is_asked_for(tmp_path):
    """Of two columns that only the training file has, neither is taken for the label."""
    write_files(tmp_path, replace(BASE, label_column="one"))
    file = tmp_path / "train.csv"
    lines = file.read_text().splitlines()
    file.write_text("\n".join(["two," + lines[0], *(f"{n % 2},{line}" for n, line in enumerate(lines[1:]))]))

    with pytest.raises(DataError, match=r"two, one may be the label; state it with --label"):
        guess(tmp_path)
    assert guess(tmp_path, label="one")[0].label_column == "one"


def test_the_command_writes_the_file_and_says_what_it_guessed(tmp_path):
    """`mnist-core spec` writes the file, reads the data with it, and does not overwrite it."""
    write_files(tmp_path, BASE)
    files = [str(tmp_path / name) for name in ("train.csv", "test.csv", "sample_submission.csv")]
    arguments = ["spec", *files, "--name", "answers", "--out", str(tmp_path / "spec.toml")]
    result = CliRunner().invoke(app, arguments)
    again = CliRunner().invoke(app, arguments)

    assert "guessed: the label is the column label" in result.stderr
    assert "3 classes, 8 × 8; read 40 + 40 rows with it" in result.stdout
    assert read_spec(tmp_path / "spec.toml").name == "answers"
    assert isinstance(again.exception, DataError)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\nno,", "\nNo,", r"train\.csv: row 1 \(line 2\), column label: found 'No', expected one of"),
        ("\nno,0", "\nno,17", r"row 1 \(line 2\), column pixel0: found '17', expected a number 0\.\.16"),
        ("\nno,0", "\nno,x", r"row 1 \(line 2\), column pixel0: found 'x'"),
        ("\nno,0", "\nno,1 2", r"row 1 \(line 2\), column pixel0: found '1 2'"),
        ("\nno,0,", "\nno,", r"row 1 \(line 2\): 64 values, expected 65"),
        ("pixel63", "pixel64", r"header: has no column pixel63"),
    ],
)
def test_a_flaw_is_named_by_row_and_column(old, new, message, tmp_path):
    """What contradicts the specification is refused with file, row, column and value."""
    spec = replace(BASE, value_range=(0, 16))
    write_files(tmp_path, spec)
    file = tmp_path / "train.csv"
    file.write_text(file.read_text().replace(old, new, 1))

    with pytest.raises(DataError, match=message):
        read_train(file, spec)


def test_ids_are_repeated_in_the_submission():
    """A submission has the test file's ids and text labels, in quotes if need be, and is read again."""
    spec = replace(BASE, id_column="id", classes=("a,b", 'say "c"', "d"))
    csv = to_csv(np.array([2, 0, 1]), spec, ids=("0", "4", "5"))

    assert csv.decode() == 'id,label\n0,d\n4,"a,b"\n5,"say ""c"""\n'
    assert read_csv(csv, spec).tolist() == [2, 0, 1]
