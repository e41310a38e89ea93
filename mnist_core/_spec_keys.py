"""The keys of a competition's specification, and the values that each may have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnist_core.metric import Metric


@dataclass(frozen=True)
class Key:
    """A key of a specification: the field that it sets, and which values it may have."""

    field: str
    fits: Callable[[Any], bool]
    allowed: str
    read: Callable[[Any], Any] = lambda value: value


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != "" and value.isprintable()


def _is_whole(low: int, high: float = float("inf")) -> Callable[[object], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_number(low: float, high: float) -> Callable[[object], bool]:
    def fits(value: object) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high

    return fits


def _are_texts(low: int, high: float = float("inf")) -> Callable[[object], bool]:
    return lambda value: isinstance(value, list) and low <= len(value) <= high and all(map(_is_text, value))


def _is_switch(value: object) -> bool:
    return isinstance(value, bool)


def _is_name(value: object) -> bool:
    """Tell whether this is a competition's name: also a folder's name, and a part of a URL."""
    return isinstance(value, str) and value.replace("-", "").isalnum() and value.isascii()


def _is_file(value: object) -> bool:
    return isinstance(value, str) and _is_text(value) and value == Path(value).name and value != ".."


def _is_source(value: object) -> bool:
    if not isinstance(value, str) or not value.startswith("dataset:"):
        return _is_text(value)
    owner, _, slug = value.removeprefix("dataset:").partition("/")
    return bool(owner and slug) and "/" not in slug


def _is_shape(value: object) -> bool:
    if not isinstance(value, list) or len(value) != 3:
        return False
    return all(map(_is_whole(*SIDES), value[:2])) and value[2] in (1, 3) and not isinstance(value[2], bool)


def _is_range(value: object) -> bool:
    number = _is_number(-1e9, 1e9)
    return isinstance(value, list) and len(value) == 2 and all(map(number, value)) and value[0] != value[1]


def _is_column(value: object) -> bool:
    return _is_text(value) or _is_whole(-100_000)(value)


def _are_columns(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_column, value))


SIDES = (8, 64)
"""Fewest and most pixels of a picture's side."""
CLASSES = (2, 1000)
"""Fewest and most classes."""

_ROWS = (_is_whole(1), "a whole number above 0")
_COLUMN = (_is_column, "the column's name, or without a header its number: 1 the first, -1 the last", str)
_SWITCH = (_is_switch, "true or false")
_FILE = (_is_file, "the name of a file, without a folder")

KEYS: dict[str, dict[str, Key]] = {
    "": {
        "name": Key("name", _is_name, "letters, digits and hyphens, as in the competition's URL"),
        "source": Key("source", _is_source, '"competition", "dataset:owner/slug", or the path of a file'),
        "metric": Key("metric", lambda v: v in list(Metric), f"one of {', '.join(Metric)}", Metric),
        "classes": Key(
            "classes",
            lambda value: _are_texts(*CLASSES)(value) and all(name == name.strip() for name in value),
            f"{CLASSES[0]} to {CLASSES[1]:,} texts, the labels as they stand in the files, "
            "without spaces around",
            tuple,
        ),
        "shape": Key(
            "shape",
            _is_shape,
            f"[rows, columns, channels], {SIDES[0]} to {SIDES[1]} pixels a side, 1 or 3 channels",
            tuple,
        ),
        "train_rows": Key("train_rows", *_ROWS),
        "test_rows": Key("test_rows", *_ROWS),
        "public_rows": Key("public_rows", *_ROWS),
        "transposed": Key("transposed", *_SWITCH),
        "value_range": Key("value_range", _is_range, "[background, full ink], two different numbers", tuple),
    },
    "files": {
        "train": Key("train_file", *_FILE),
        "test": Key("test_file", *_FILE),
        "sample": Key("sample_file", *_FILE),
    },
    "columns": {
        "label": Key("label_column", *_COLUMN),
        "id": Key("id_column", *_COLUMN),
        "pixels": Key("pixel_column", _is_text, "a name with {}, as in pixel{}"),
        "first_pixel": Key("first_pixel", _is_whole(0), "a whole number from 0"),
        "header": Key("header", *_SWITCH),
        "delimiter": Key("delimiter", lambda v: v in list(",;\t| "), "a comma, semicolon, tab, bar or space"),
        "ignore": Key("ignore", _are_columns, "a list of columns", lambda value: tuple(map(str, value))),
    },
    "submission": {
        "header": Key("submission_header", _are_texts(1), "the column names of a submission", tuple),
        "first_id": Key("first_id", _is_whole(0), "a whole number from 0"),
    },
    "gate": {
        "floor": Key("floor", _is_number(0, 1), "a number from 0 to 1"),
        "share_min": Key("share_min", _is_number(0, 1), "a number from 0 to 1"),
    },
    "augmentation": {
        "mirror": Key("mirror", *_SWITCH),
        "amount": Key("amount", _is_number(0, 3), "a number from 0 (none) to 3, 1 as for digits"),
    },
    "training": {
        "least_rows": Key("least_rows", _is_whole(0), "a whole number from 0"),
    },
    "pictures": {
        "margin": Key("margin", _is_whole(0, SIDES[1] // 2 - 1), "a whole number from 0, below half a side"),
    },
}
"""What a specification may say, by table and key."""
