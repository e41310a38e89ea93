"""Which fields of a model's recipe may be searched, within which bounds, and how a recipe is written down.

A recipe is written as the fields in which it differs from its preset: `{"lr": 0.02, "epochs": 12}`.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mnist_core.errors import ModelError

Value = bool | int | float | str
Values = Mapping[str, Value]
"""Fields of a recipe that differ from its preset, by name."""


@dataclass(frozen=True)
class Range:
    """The numbers that a field may have, both bounds included.

    Attributes:
        low, high: the bounds.
        unit: what the number counts, for people.
        log: whether it is searched by factors rather than by steps.
        whole: whether it is a whole number.
    """

    low: float
    high: float
    unit: str
    log: bool = False
    whole: bool = False

    def check(self, value: Any) -> str:
        """Return what is wrong with a value; empty if nothing is."""
        kind = int if self.whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kind) or not self.low <= value <= self.high:
            number = "a whole number" if self.whole else "a number"
            return f"must be {number} from {self.low:g} to {self.high:g} ({self.unit})"
        return ""


@dataclass(frozen=True)
class Choice:
    """The values that a field may have."""

    values: tuple[Value, ...]

    def check(self, value: Any) -> str:
        """Return what is wrong with a value; empty if nothing is."""
        if any(value == known and type(value) is type(known) for known in self.values):
            return ""
        return f"must be one of {', '.join(json.dumps(known) for known in self.values)}"


Space = Mapping[str, Range | Choice]
"""What may be searched, by the names of a recipe's fields."""

DIGITS = 4
"""Significant digits of a number that a search proposes: enough, and readable."""


def recipe_name(values: Values) -> str:
    """Return the name of a recipe: `preset`, or `r-` and eight hex digits that follow from its values."""
    if not values:
        return "preset"
    return "r-" + hashlib.sha256(json.dumps(dict(sorted(values.items()))).encode()).hexdigest()[:8]


def in_line(values: Values) -> str:
    """Return values as people read them, `epochs 12, lr 0.02`."""
    return ", ".join(f"{name} {json.dumps(value)}" for name, value in sorted(values.items()))


def rounded(values: Values) -> dict[str, Value]:
    """Return values with numbers of `DIGITS` significant digits, by name."""
    return {
        name: float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
        for name, value in sorted(values.items())
    }


def apply(recipe: Any, values: Values, space: Space, where: str = "recipe") -> Any:
    """Return a recipe with other values in some fields.

    Args:
        recipe: of a preset, a frozen dataclass.
        values: of the fields that differ.
        space: which fields may differ, and how far.
        where: names the values in an error.

    Raises:
        ModelError: a field cannot be set, or its value is out of bounds.
    """
    for name, value in values.items():
        if name not in space:
            raise ModelError(f"{where}: {name} cannot be set", f"choose from {', '.join(space) or 'nothing'}")
        if fault := space[name].check(value):
            raise ModelError(f"{where}: {name} is {value!r}", f"it {fault}")
    return replace(recipe, **values)


def read_recipe(path: Path) -> dict[str, Value]:
    """Return the values of a recipe's file: TOML, a line for each field that differs from the preset.

    Raises:
        ModelError: it is missing or not TOML, or a value is neither number, text nor true or false.
    """
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}", "name a file of a recipe") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: is not TOML: {error}", "write a line such as `lr = 0.02`") from None
    for name, value in values.items():
        if not isinstance(value, bool | int | float | str):
            raise ModelError(f"{path}: {name} is not a number, a text, true or false", "give one of these")
    return values
