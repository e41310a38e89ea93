"""The grid of a sweep: its points, each the parameters of a training and the fields of its recipe."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from flows.parameters import SweepParameters, TrainParameters
from flows.settings import SettingsError
from mnist_core.recipes import Value

PARAMETERS = ("model", "preset", "seed", "device")
"""What a point may change of a training's parameters; any other name is a field of a recipe."""
MOST = 1000
"""Points of a grid."""
OPTION = "--set"


@dataclass(frozen=True)
class Point:
    """One training of a sweep.

    Attributes:
        parameters: of the training, by name.
        recipe: the fields in which its recipe differs from its preset's.
    """

    parameters: Mapping[str, Value]
    recipe: Mapping[str, Value]

    @property
    def values(self) -> dict[str, Value]:
        """All that the point sets."""
        return {**self.parameters, **self.recipe}


def read_grid(options: Iterable[str]) -> list[Point]:
    """Return the points of a grid, the last option's values changing fastest.

    Args:
        options: such as `preset=fast,balanced`, one for each name.

    Raises:
        SettingsError: an option has another form, a name or value occurs twice, or there are too many points.
    """
    axes: dict[str, list[Value]] = {}
    for option in options:
        name, equals, text = option.partition("=")
        texts = [part.strip() for part in text.split(",")]
        name = name.strip().replace("-", "_")
        if not equals or not name or not all(texts):
            raise SettingsError(f"{OPTION} {option}: has no values", "give such as preset=fast,balanced")
        if name in axes:
            raise SettingsError(
                f"{OPTION} {option}: {name} occurs twice", f"give all its values in one {OPTION}"
            )
        values = [_value(part) for part in texts]
        if len(set(map(repr, values))) < len(values):
            raise SettingsError(f"{OPTION} {option}: a value occurs twice", "give each value once")
        axes[name] = values
    if not axes:
        raise SettingsError(f"{OPTION} is missing", "give what to change, such as --set seed=1,2,3")
    points = [
        Point(
            {name: value for name, value in zip(axes, chosen, strict=True) if name in PARAMETERS},
            {name: value for name, value in zip(axes, chosen, strict=True) if name not in PARAMETERS},
        )
        for chosen in itertools.islice(itertools.product(*axes.values()), MOST + 1)
    ]
    if len(points) > MOST:
        raise SettingsError(f"{OPTION}: the grid has more than {MOST:,} points", "sweep over less at once")
    return points


def training_of(parameters: SweepParameters, point: Point) -> TrainParameters:
    """Return the parameters of a point's training, without its recipe.

    Raises:
        SettingsError: one of them is out of range.
    """
    base = {
        name: getattr(parameters, name) for name in ("night", "model", "preset", "seed", "device", "recipe")
    }
    given = TrainParameters.check(**(base | dict(point.parameters)))
    given.read_settings()
    return given


def _value(text: str) -> Value:
    """Return a number, true or false, or a word."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, bool | int | float) else text
