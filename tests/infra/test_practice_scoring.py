"""A submission is scored as Kaggle scores it, or ends in an error that names the line."""

import numpy as np
import pytest

from infra.practice.data import Solution
from infra.practice.scoring import cut_score, grade, score

SOLUTION = Solution(["1", "2", "3", "4"], np.array([3, 1, 4, 1]), np.ones(4, bool))


@pytest.mark.parametrize(
    ("correct", "score"),
    [(27_844, "0.99442"), (23_749, "0.84817"), (27_999, "0.99996"), (28_000, "1.00000"), (0, "0.00000")],
)
def test_a_score_is_cut_not_rounded(correct, score):
    """27,999 of 28,000 is 0.999964…, 23,749 is 0.848178…: the sixth digit is dropped."""
    assert cut_score(correct, 28_000) == score


@pytest.mark.parametrize(
    ("text", "correct"),
    [
        ("ImageId,Label\r\n1,3\r\n2,1\r\n3,4\r\n4,1\r\n", 4),
        ("ImageId,Label\n1,3\n2,1\n3,4\n4,1", 4),
        ('Label,Extra,"ImageId"\n1,x,4\n4,x,3\n0,x,2\n3,x,1\n\n', 3),
        ("\ufeffImageId,Label\n1,0\n2,0\n3,0\n4,0\n", 0),
    ],
)
def test_right_rows_are_counted_by_their_id(text, correct):
    """Order of rows and columns, line ends, quotes and a byte order mark do not matter."""
    result = grade(text.encode(), SOLUTION)

    assert (score(result, SOLUTION), result.error) == (cut_score(correct, 4), "")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "empty"),
        (b"\xff\xfe\x00binary", "Unable to read"),
        (b'ImageId,Label\n1,"3\n', "Unable to read"),
        (b"ImageId,label\n1,3\n", "Required column 'Label' could not be found"),
        (b"Id,Label\n1,3\n", "Required column 'ImageId' could not be found"),
        (b"ImageId,Label\n1,3\n2,1\n3,4\n", "must have 4 rows"),
        (b"ImageId,Label\n1,3\n2,1\n3,4\n4,1\n5,1\n", "must have 4 rows"),
        (b"ImageId,Label\n1,3\n2,1\n2,4\n4,1\n", "'2' appears twice in the key column 'ImageId' (Line 4)"),
        (b"ImageId,Label\n1,3\n2,1\n3,4\n9,1\n", "Unexpected value '9' in the key column 'ImageId' (Line 5)"),
        (b"ImageId,Label\n0,3\n1,1\n2,4\n3,1\n", "Unexpected value '0'"),
        (b"ImageId,Label\n1,3\n2,\n3,4\n4,1\n", "null values in the column 'Label' (Line 3)"),
        (
            b"ImageId,Label\n1,3\n2,10\n3,4\n4,1\n",
            "Label '10' is not one of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 (Line 3)",
        ),
        (b"ImageId,Label\n1,3\n2,-1\n3,4\n4,1\n", "Label '-1'"),
        (b"ImageId,Label\n1,3\n2,nan\n3,4\n4,1\n", "Label 'nan'"),
        (b"ImageId,Label\n1,3\n2\n3,4\n4,1\n", "1 columns, too few for the header (Line 3)"),
    ],
)
def test_a_bad_file_is_named(body, says):
    """Each way to be wrong has its own text, with the line where there is one."""
    assert says in grade(body, SOLUTION).error
