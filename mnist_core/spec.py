"""The one definition of a competition: its files, rows, columns, picture shape, classes and metric.

A competition is a TOML file; those in the folder `competitions` are built in. `docs/competitions` describes
its keys.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from functools import cached_property
from itertools import product
from math import isfinite, sqrt
from pathlib import Path
from typing import Any

from mnist_core._spec_keys import KEYS, Key
from mnist_core.errors import DataError
from mnist_core.metric import Metric as Metric


@dataclass(frozen=True)
class CompetitionSpec:
    """A competition in which small pictures are classified.

    Attributes:
        name: as in the competition's URL.
        train_rows, test_rows: rows of the two files; None if the competition does not state them.
        shape: rows, columns and channels (1 or 3) of a picture in pixels.
        classes: the labels as they stand in the files, in the order of the model's outputs.
        source: `competition`, `dataset:<owner>/<slug>`, or the path of a file of labelled pictures; the
            latter two are dealt by the practice server.
        metric: what a submission is scored by.
        public_rows: rows behind the public score; None if it is not stated.
        transposed: whether the files hold pictures column by column.
        value_range: the numbers in the files that mean background and full ink.
        train_file, test_file, sample_file: the competition's files.
        label_column: the column of the training file that holds the label; without a header its number, "1"
            the first and "-1" the last.
        id_column: the column of the test file that holds the id, in the same way; None if there is none.
        pixel_column: the names of the pixel columns: `{}` stands for the pixel's number, or `{row}` and
            `{column}` for its place (and `{channel}`). They run row by row, a pixel's channels side by side.
        first_pixel: the first of those numbers.
        header: whether the files have one.
        delimiter: the character between two columns.
        ignore: further columns that are there and mean nothing.
        submission_header: the columns of a submission: id and label, or id and one for each class.
        first_id: the id of the test file's first row if it has no id column; the others count up from it.
        floor: lowest held-out accuracy that may be submitted; None for the model's own.
        share_min: lowest share of each class among predictions that may be submitted; None for
            `share_floor`'s default.
        mirror: whether a mirrored picture shows the same class.
        amount: how strong augmentation is, 1 as for digits.
        least_rows: on fewer training rows a preset takes as many steps as on these.
        margin: pixels of background that the files keep around the ink. A picture from elsewhere is then
            cropped to its ink, fitted and centred by mass; None resizes it as a whole.

    Raises:
        DataError: the fields contradict each other; the message names field, value and what is allowed.
    """

    name: str
    train_rows: int | None
    test_rows: int | None
    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    source: str = "competition"
    metric: Metric = Metric.ACCURACY
    public_rows: int | None = None
    transposed: bool = False
    value_range: tuple[float, float] = (0, 255)
    train_file: str = "train.csv"
    test_file: str = "test.csv"
    sample_file: str = "sample_submission.csv"
    label_column: str = "label"
    id_column: str | None = None
    pixel_column: str = "pixel{}"
    first_pixel: int = 0
    header: bool = True
    delimiter: str = ","
    ignore: tuple[str, ...] = ()
    submission_header: tuple[str, ...] = ("id", "label")
    first_id: int = 0
    floor: float | None = None
    share_min: float | None = None
    mirror: bool = False
    amount: float = 1.0
    least_rows: int = 33_600
    margin: int | None = None

    def __post_init__(self) -> None:
        for field, value, allowed in _contradictions(self):
            raise DataError(f"competition {self.name}: {field} is {value}", allowed)

    @property
    def files(self) -> tuple[str, str, str]:
        """The names of the training, test and sample files."""
        return self.train_file, self.test_file, self.sample_file

    @property
    def sides(self) -> tuple[int, int]:
        """Rows and columns of a picture."""
        return self.shape[:2]

    @property
    def channels(self) -> int:
        """Channels of a picture: 1 for grey, 3 for red, green and blue."""
        return self.shape[2]

    @property
    def picture_shape(self) -> tuple[int, ...]:
        """Axes of a picture in `Digits.pixels`: rows and columns, and the channels if there are three."""
        return picture_shape(self.shape)

    @property
    def pixels(self) -> int:
        """Numbers that make a picture: one for each pixel and channel."""
        return self.shape[0] * self.shape[1] * self.channels

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
        return f"{self.shape[1]} × {self.shape[0]}" + (" × 3" if self.channels == 3 else "")

    @property
    def scored_rows(self) -> int | None:
        """Rows behind the public score: those stated, else all of the test file; None if neither is."""
        return self.test_rows if self.public_rows is None else self.public_rows

    @property
    def share_floor(self) -> float:
        """Lowest share of each class among predictions that may be submitted.

        If it is not stated: half of an equal share, and on few rows less, so that a class with its equal
        share falls below it by chance once in a million (five standard deviations of its count).
        """
        if self.share_min is not None:
            return self.share_min
        share = 1 / self.class_count
        if self.test_rows is None:
            return share / 2
        return max(0.0, min(share / 2, share - 5 * sqrt(share / self.test_rows)))

    @cached_property
    def pixel_columns(self) -> tuple[str, ...]:
        """The names of the pixel columns, in the files' order."""
        first, name = self.first_pixel, self.pixel_column
        if "{}" in name:
            return tuple(name.replace("{}", str(first + number)) for number in range(self.pixels))
        rows, columns, channels = self.shape
        sides = (columns, rows) if self.transposed else (rows, columns)
        places = product(range(sides[0]), range(sides[1]), range(channels))
        return tuple(
            name.replace("{row}", str(first + (inner if self.transposed else outer)))
            .replace("{column}", str(first + (outer if self.transposed else inner)))
            .replace("{channel}", str(first + channel))
            for outer, inner, channel in places
        )

    def is_like(self, other: CompetitionSpec) -> bool:
        """Tell whether pictures and classes are those of another competition."""
        return (self.shape, self.classes) == (other.shape, other.classes)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values, without the path of a file on this machine."""
        source = self.source if self.source.startswith(DATASET) else "competition"
        return asdict(self) | {"metric": self.metric.value, "source": source}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> CompetitionSpec:
        """Return what `to_json` described; fields that this code does not know are ignored.

        Raises:
            DataError: the fields contradict each other.
            KeyError, TypeError, ValueError: a field is missing, or its type is wrong.
        """
        known = {each.name for each in fields(cls)} & value.keys()
        lists = {name: tuple(value[name]) for name in known if isinstance(value[name], list)}
        given: dict[str, Any] = {name: value[name] for name in known} | lists
        return cls(**{**given, "metric": Metric(given.get("metric", Metric.ACCURACY))})

    def columns(self, *, labelled: bool) -> list[str]:
        """Return the header of the training file (`labelled`) or of the test file."""
        ids = [] if self.id_column is None else [self.id_column]
        return [self.label_column, *self.pixel_columns] if labelled else [*ids, *self.pixel_columns]


def _contradictions(spec: CompetitionSpec) -> Iterator[tuple[str, str, str]]:
    """Yield field, value and what is allowed of each field that does not fit the others."""
    named = [spec.label_column, *([] if spec.id_column is None else [spec.id_column]), *spec.ignore]
    for field, names in (
        ("classes", spec.classes),
        ("files", spec.files),
        ("submission header", spec.submission_header),
        # Without a header the label's number counts in the training file, the others in the test file.
        ("columns", named if spec.header else named[1:]),
    ):
        if len(set(names)) < len(names):
            yield field, ", ".join(names), "they must all be different"
    columns = 1 + (spec.class_count if spec.metric.of_probabilities else 1)
    if len(spec.submission_header) != columns:
        yield (
            "submission header",
            ", ".join(spec.submission_header),
            "id and one column for each class, in the order of classes"
            if spec.metric.of_probabilities
            else "two columns, id and label",
        )
    if spec.share_min is not None and spec.share_min * spec.class_count > 1:
        yield (
            "share_min",
            f"{spec.share_min}",
            f"{spec.class_count} classes can have at most {1 / spec.class_count:.3f} each",
        )
    if spec.margin is not None and (2 * spec.margin >= min(spec.sides) or spec.channels != 1):
        yield "margin", f"{spec.margin}", "less than half a side of the picture, and in grey only"
    if spec.public_rows is not None and spec.test_rows is not None and spec.public_rows > spec.test_rows:
        yield "public_rows", f"{spec.public_rows}", f"at most test_rows, {spec.test_rows}"
    if spec.header and (twice := sorted({*named} & {*spec.pixel_columns})):
        yield "pixels", repr(spec.pixel_column), f"{twice[0]} would be a pixel and another column"
    if len({*spec.pixel_columns}) < spec.pixels:
        yield (
            "pixels",
            repr(spec.pixel_column),
            "a name with {}, as in pixel{}, or with {row} and {column}"
            + (" and {channel}" if spec.channels == 3 else "")
            + ", as in {row}x{column}",
        )
    if not spec.header:
        for field, column in zip(("label", "id"), named, strict=False):
            if not column.removeprefix("-").isdecimal() or int(column) == 0:
                yield field, repr(column), "without a header, the column's number: 1 the first, -1 the last"


DATASET = "dataset:"
"""What the source of a Kaggle data set begins with."""
REQUIRED = ("name", "classes", "shape", "columns.label", "submission.header")


def read_spec(file: Path) -> CompetitionSpec:
    """Read the specification of a competition, a TOML file.

    Args:
        file: its keys are those of `KEYS`; `REQUIRED` must be there. For `log_loss` the submission's header
            may be `["id"]`, which stands for the id and the classes, or `["id", "p_{}"]` with a pattern.

    Raises:
        DataError: it cannot be read, a key is unknown or missing, or a value is not allowed; the message
            names file, key, value and what is allowed.
    """
    try:
        text = file.read_text("utf-8")
    except OSError as error:
        raise DataError(
            f"{file}: cannot be read: {error.strerror}", "name the specification of a competition"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: is not TOML: {error}", "correct it") from error
    return parse_spec(text, str(file), file.parent)


def parse_spec(text: str, file: str, folder: Path = Path()) -> CompetitionSpec:
    """Return the competition that the text of a specification describes.

    Args:
        text: TOML.
        file: what messages call it.
        folder: what the path of its source is relative to.

    Raises:
        DataError: as `read_spec`.
    """
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{file}: is not TOML: {error}", "correct it") from error
    fields: dict[str, Any] = {"train_rows": None, "test_rows": None}
    for path, value in _entries(file, found):
        table, _, name = path.rpartition(".")
        key = KEYS[table][name]
        if not key.fits(value) or (isinstance(value, float) and not isfinite(value)):
            raise DataError(f"{file}: {path} is {_shown(value)}", f"allowed is {key.allowed}")
        fields[key.field] = key.read(value)
    if missing := [path for path in REQUIRED if _field(path) not in fields]:
        raise DataError(f"{file}: {missing[0]} is missing", f"it is {_key(missing[0]).allowed}")
    fields["submission_header"] = _header(fields)
    source = str(fields.get("source", "competition"))
    if source != "competition" and not source.startswith(DATASET):
        fields["source"] = str((folder / source).absolute())
    try:
        return CompetitionSpec(**fields)
    except DataError as error:
        raise DataError(f"{file}: {error.problem}", error.remedy) from error


def _entries(file: str, found: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the keys of a specification, `table.key`, and their values; refuse what is unknown."""
    known = [f"{table}.{key}".lstrip(".") for table, keys in KEYS.items() for key in keys]
    for name, value in found.items():
        table = name if name in KEYS and isinstance(value, dict) else ""
        for key, inner in value.items() if table else [(name, value)]:
            path = f"{table}.{key}".lstrip(".")
            if path not in known:
                raise DataError(f"{file}: {path} is unknown", _nearest(path, known))
            yield path, inner


def _nearest(path: str, known: Sequence[str]) -> str:
    """Return the remedy for an unknown key: the key or table that was probably meant, or all keys."""
    paths = {other.rpartition(".")[2]: other for other in [*filter(None, KEYS), *known]}
    if near := get_close_matches(path.rpartition(".")[2], paths, n=1):
        return f"did you mean {paths[near[0]]}?"
    return f"known are {', '.join(known)}"


def _key(path: str) -> Key:
    table, _, name = path.rpartition(".")
    return KEYS[table][name]


def _field(path: str) -> str:
    return _key(path).field


def _header(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the submission's header, with a column for each class if they stand for it."""
    first, *others = fields["submission_header"]
    if not fields.get("metric", Metric.ACCURACY).of_probabilities or len(others) > 1:
        return first, *others
    pattern = others[0] if others else "{}"
    return first, *(pattern.replace("{}", name) for name in fields["classes"])


def _shown(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


def picture_shape(shape: tuple[int, int, int]) -> tuple[int, ...]:
    """Return the axes of a picture in memory: rows, columns, and the channels if there are three."""
    return shape[:2] if shape[2] == 1 else shape


SPECS = {
    spec.name: spec
    for spec in map(read_spec, sorted((Path(__file__).parent / "competitions").glob("*.toml")))
}
"""The built-in competitions by name: the package's own data."""

DIGIT_RECOGNIZER = SPECS["digit-recognizer"]
DIGITS_MINI = SPECS["digits-mini"]


def open_spec(value: str) -> CompetitionSpec:
    """Return a built-in competition by its name, or the one that a file describes.

    Raises:
        DataError: it is neither, or the file has an error.
    """
    if value in SPECS:
        return SPECS[value]
    if not Path(value).is_file():
        raise DataError(
            f"{value}: is neither a file nor a built-in competition",
            f"name the competition's TOML file, or one of {', '.join(SPECS)}",
        )
    return read_spec(Path(value))


def find_spec(name: str) -> CompetitionSpec:
    """Return the built-in competition of a name.

    Raises:
        DataError: there is none; the message lists those that exist.
    """
    if name not in SPECS:
        raise DataError(f"competition {name!r} is not known", f"choose one of {', '.join(SPECS)}")
    return SPECS[name]
