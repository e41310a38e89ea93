"""Writing and reading the submission file."""

from dataclasses import replace

import numpy as np
import pytest

from mnist_core.errors import SubmissionError
from mnist_core.metric import Metric
from mnist_core.spec import DIGITS_MINI
from mnist_core.submission import read_csv, to_csv

GOOD = b"ImageId,Label\n1,7\n2,0\n3,9\n"


def test_labels_become_a_submission_file():
    """Header, ids from 1, one label a row, LF: the same bytes each time."""
    assert to_csv(np.array([7, 0, 9]), rows=3) == GOOD


def test_a_submission_is_read_as_it_was_written():
    """28,000 labels are the same after writing and reading."""
    labels = np.random.default_rng(0).integers(0, 10, 28_000)

    text = to_csv(labels)

    assert text.count(b"\n") == 28_001
    assert text.endswith(b"\n28000,%d\n" % labels[-1])
    assert np.array_equal(read_csv(text), labels)


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8, np.float32, np.float64])
def test_whole_numbers_of_any_type_are_labels(dtype):
    """Integers and whole floats of any type are written alike, 7.0 as 7."""
    assert to_csv(np.array([7, 0, 9], dtype), rows=3) == GOOD


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([3, 10, 11], r"ImageId 2: the label 10 is not a class.*\(2 of 3 are wrong\).*clip"),
        ([3, 4, -1], "ImageId 3: the label -1"),
        ([0.0, 3.5, 1.0], r"ImageId 2: the label 3\.5"),
        ([np.nan, 1.0, 2.0], "ImageId 1: the label nan"),
        ([1.0, np.inf, 2.0], "ImageId 2: the label inf"),
        ([1, 2], "2 labels, expected 3"),
        ([1, 2, 3, 4], "4 labels, expected 3"),
        ([], "0 labels, expected 3"),
        ([[1, 2, 3]], r"shape \(1, 3\)"),
        (["1", "2", "3"], "expected integers"),
        ([True, False, True], "bool"),
    ],
)
def test_labels_that_are_not_a_submission_are_refused(labels, message):
    """A rounded regression's 10s and 11s, NaN and a wrong number never become a file."""
    with pytest.raises(SubmissionError, match=message):
        to_csv(np.array(labels), rows=3)


@pytest.mark.parametrize(
    ("labels", "remedy"),
    [
        ([3, 10, 11], r"a regression's rounded number is not a class.*clipped \(clip=True\)"),
        ([3.0, 10.0, -1.0], r"a regression's rounded number is not a class"),
        ([3.0, 10.4, 7.0], "must be rounded first"),
        ([np.nan, 1.0, 2.0], "must be rounded first"),
    ],
)
def test_the_remedy_depends_on_what_is_wrong_with_the_label(labels, remedy):
    """Whole numbers outside 0..9 come from a regression: the message says why, and how to clip them."""
    with pytest.raises(SubmissionError, match=remedy):
        to_csv(np.array(labels), rows=3)


@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.float32])
def test_whole_numbers_are_clipped_on_request(dtype):
    """With clip, 10s and 11s become 9 and negative numbers 0; digits stay as they are."""
    labels = np.array([7, -1, 11, 10, 0, 9], dtype)

    assert read_csv(to_csv(labels, rows=6, clip=True), rows=6).tolist() == [7, 0, 9, 9, 0, 9]
    assert labels.tolist() == [7, -1, 11, 10, 0, 9]


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf, 10.5, 3.5])
def test_clipping_does_not_hide_what_is_not_a_whole_number(wrong):
    """NaN, infinities and fractions are refused with clip, too."""
    with pytest.raises(SubmissionError, match="ImageId 2: the label"):
        to_csv(np.array([1.0, wrong, 10.0]), rows=3, clip=True)


def test_the_number_of_rows_is_that_of_the_competition():
    """By default 28,000 labels or rows are expected."""
    with pytest.raises(SubmissionError, match="27,999 labels, expected 28,000"):
        to_csv(np.zeros(27_999, np.int64))
    with pytest.raises(SubmissionError, match="3 rows, expected 28,000"):
        read_csv(GOOD)


def test_another_competition_has_its_own_file():
    """Header, first id, class names and number of rows come from the spec."""
    spec = replace(
        DIGITS_MINI, test_rows=3, classes=("a", "b", "c"), submission_header=("id", "letter"), first_id=0
    )

    text = to_csv(np.array([2, 0, 1]), spec)

    assert text == b"id,letter\n0,c\n1,a\n2,b\n"
    assert read_csv(text, spec).tolist() == [2, 0, 1]
    with pytest.raises(
        SubmissionError, match=r"id 1: the label 3 is not a class, expected an integer 0\.\.2"
    ):
        to_csv(np.array([2, 3, 1]), spec)
    with pytest.raises(SubmissionError, match=r"line 2, column letter: 'd', expected one of a\.\.c"):
        read_csv(text.replace(b"c", b"d"), spec)


@pytest.mark.parametrize(
    "text", [GOOD, GOOD.replace(b"\n", b"\r\n"), GOOD[:-1], GOOD.replace(b"\n", b"\r\n")[:-2]]
)
def test_either_line_end_is_read(text):
    """Kaggle's own sample has CRLF, ours LF, and the last may be missing."""
    labels = read_csv(text, rows=3)

    assert labels.dtype == np.int64
    assert labels.tolist() == [7, 0, 9]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "is empty"),
        (b"\n", "line 1: header ''"),
        (b"1,7\n2,0\n3,9\n", "line 1: header '1,7', expected 'ImageId,Label'"),
        (b"\xef\xbb\xbf" + GOOD, "line 1: header .*byte order mark"),
        (GOOD.replace(b"ImageId", b"imageid"), "line 1: header 'imageid,Label'"),
        (GOOD.replace(b"2,0", b"2,10"), "line 3, column Label: '10', expected one of 0..9"),
        (GOOD.replace(b"2,0", b"2,-1"), "line 3, column Label: '-1'"),
        (GOOD.replace(b"2,0", b"2,0.0"), "line 3, column Label: '0.0'.*decimals"),
        (GOOD.replace(b"2,0", b"2,"), "line 3, column Label: ''"),
        (GOOD.replace(b"2,0", b"2, 0"), "line 3, column Label: ' 0'"),
        (GOOD.replace(b"2,0", b'2,"0"'), "line 3, column Label: '\"0\"'.*quotes"),
        (GOOD.replace(b"2,0", b"2,nan"), "line 3, column Label: 'nan'"),
        (GOOD.replace(b"2,0", b"2,\xb2"), "line 3, column Label"),
        (GOOD.replace(b"2,0", b"3,0"), "line 3, column ImageId: '3', expected 2"),
        (GOOD.replace(b"2,0", b"02,0"), "line 3, column ImageId: '02'"),
        (GOOD.replace(b"1,7\n2,0", b"0,7\n1,0"), "line 2, column ImageId: '0', expected 1"),
        (GOOD.replace(b"1,7\n2,0", b"2,0\n1,7"), "line 2, column ImageId: '2', expected 1.*in the order"),
        (GOOD.replace(b"2,0", b"2,0,5"), "line 3: '2,0,5', expected two columns"),
        (GOOD.replace(b"2,0", b"2"), "line 3: '2', expected two columns"),
        (GOOD.replace(b"2,0\n", b"\n2,0\n"), "line 3: '', expected two columns"),
        (GOOD.replace(b"3,9\n", b""), "line 4, column ImageId: 2 rows, expected 3"),
        (GOOD + b"4,4\n", "line 5, column ImageId: 4 rows, expected 3"),
        (GOOD + b"\n", "line 5, column ImageId: 4 rows, expected 3"),
    ],
)
def test_a_file_that_is_not_a_submission_is_refused(tmp_path, text, message):
    """The message names line, column and value, of bytes and of a file alike."""
    file = tmp_path / "submission.csv"
    file.write_bytes(text)

    with pytest.raises(SubmissionError, match=rf"submission.csv.*{message}"):
        read_csv(file, rows=3)
    with pytest.raises(SubmissionError, match=message):
        read_csv(text, rows=3)


def test_a_missing_file_is_refused(tmp_path):
    """A missing file is a SubmissionError with its path."""
    with pytest.raises(SubmissionError, match=r"gone.csv: cannot be read: No such file"):
        read_csv(tmp_path / "gone.csv")


def test_probabilities_are_a_table():
    """A metric of probabilities takes a column for each class; read again, the most probable class counts."""
    spec = replace(
        DIGITS_MINI,
        classes=("a", "b", "c"),
        test_rows=None,
        metric=Metric.LOG_LOSS,
        submission_header=("id", "a", "b", "c"),
    )

    text = to_csv(np.array([[0.25, 0.5, 0.25], [1 + 1e-7, 0, 0]], np.float32), spec)

    assert text == b"id,a,b,c\n1,0.250000,0.500000,0.250000\n2,1.000000,0.000001,0.000001\n"
    assert read_csv(text, spec).tolist() == [1, 0]
    with pytest.raises(SubmissionError, match="not between 0 and 1"):
        to_csv(np.array([[np.nan, 0, 0]]), spec)
    with pytest.raises(SubmissionError, match=r"line 2: .* are not probabilities"):
        read_csv(text.replace(b"0.25", b"1.25"), spec)
