"""The definition of a competition."""

from dataclasses import replace

import pytest

from mnist_core.errors import DataError
from mnist_core.spec import DIGIT_RECOGNIZER, DIGITS_MINI, SPECS, find_spec


def test_kaggles_competition_is_as_on_its_page():
    """Source: kaggle.com/competitions/digit-recognizer/data and /overview/evaluation."""
    spec = DIGIT_RECOGNIZER

    assert (spec.name, spec.train_rows, spec.test_rows) == ("digit-recognizer", 42_000, 28_000)
    assert spec.files == ("train.csv", "test.csv", "sample_submission.csv")
    assert (spec.shape, spec.pixels, spec.size) == ((28, 28), 784, "28 × 28")
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
        ({"classes": ("a", "b", "a")}, "a, b, a are not all different"),
        ({"test_file": "train.csv"}, "train.csv, train.csv, .* are not all different"),
        ({"submission_header": ("id", "id")}, "id, id are not all different"),
        (
            {"classes": tuple("abcdefghijklmnopqrstuvwxyz")},
            "26 classes cannot all have a share of 0.05; share_floor can be at most 0.038",
        ),
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
