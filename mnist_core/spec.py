"""The one definition of a competition: its files, rows, columns, picture shape and classes."""

from __future__ import annotations

from dataclasses import dataclass

from mnist_core.errors import DataError


@dataclass(frozen=True)
class CompetitionSpec:
    """A competition in which small grey pictures are classified.

    Attributes:
        name: as in the competition's URL.
        train_rows: labelled rows of the training file.
        test_rows: rows of the test file, and so of a submission.
        shape: rows and columns of a picture in pixels.
        classes: the labels as they stand in the files, in the order of the model's outputs.
        train_file, test_file, sample_file: the competition's files.
        label_column: the column of the training file that holds the label; the first.
        pixel_column: the names of the pixel columns, with `{}` for the pixel's number, from 0, row-major.
        submission_header: the submission's two columns, id and label.
        first_id: the id of the test file's first row; the others count up from it.
        share_floor: lowest share of each class among predictions that may be submitted.

    Raises:
        DataError: a name, class or column occurs twice, or not every class can have its lowest share.
    """

    name: str
    train_rows: int
    test_rows: int
    shape: tuple[int, int] = (28, 28)
    classes: tuple[str, ...] = tuple("0123456789")
    train_file: str = "train.csv"
    test_file: str = "test.csv"
    sample_file: str = "sample_submission.csv"
    label_column: str = "label"
    pixel_column: str = "pixel{}"
    submission_header: tuple[str, str] = ("ImageId", "Label")
    first_id: int = 1
    share_floor: float = 0.05

    def __post_init__(self) -> None:
        for names in (self.classes, self.files, self.submission_header):
            if len(set(names)) < len(names):
                raise DataError(f"competition {self.name}: {', '.join(names)} are not all different")
        if self.class_count * self.share_floor > 1:
            raise DataError(
                f"competition {self.name}: {self.class_count} classes cannot all have a share of "
                f"{self.share_floor}",
                f"share_floor can be at most {1 / self.class_count:.3f}",
            )

    @property
    def files(self) -> tuple[str, str, str]:
        """The names of the training, test and sample files."""
        return self.train_file, self.test_file, self.sample_file

    @property
    def pixels(self) -> int:
        """Pixels of a picture."""
        return self.shape[0] * self.shape[1]

    @property
    def class_count(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def class_range(self) -> str:
        """The classes as messages show them, `0..9`."""
        return f"{self.classes[0]}..{self.classes[-1]}"

    @property
    def size(self) -> str:
        """Width and height of a picture as messages show them, `28 × 28`."""
        return f"{self.shape[1]} × {self.shape[0]}"

    def columns(self, *, labelled: bool) -> list[str]:
        """Return the header of the training file (`labelled`) or of the test file."""
        pixels = [self.pixel_column.format(number) for number in range(self.pixels)]
        return [self.label_column, *pixels] if labelled else pixels


DIGIT_RECOGNIZER = CompetitionSpec("digit-recognizer", train_rows=42_000, test_rows=28_000)
"""Kaggle's competition. Source: kaggle.com/competitions/digit-recognizer/data"""

DIGITS_MINI = CompetitionSpec("digits-mini", train_rows=1_500, test_rows=500)
"""2,000 of the same digits, dealt by the practice server: for tests, and for a night in seconds."""

SPECS = {spec.name: spec for spec in (DIGIT_RECOGNIZER, DIGITS_MINI)}
"""The built-in competitions by name."""


def find_spec(name: str) -> CompetitionSpec:
    """Return the built-in competition of a name.

    Raises:
        DataError: there is none; the message lists those that exist.
    """
    if name not in SPECS:
        raise DataError(f"competition {name!r} is not known", f"choose one of {', '.join(SPECS)}")
    return SPECS[name]
