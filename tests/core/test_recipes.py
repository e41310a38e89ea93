"""Recipes written as what differs from a preset: bounds, files, names."""

import pytest

from mnist_core.errors import ModelError
from mnist_core.models.base import COMMON_PRESETS, kinds
from mnist_core.models.convnet import PRESETS
from mnist_core.recipes import (
    Choice,
    Range,
    apply,
    in_line,
    read_recipe,
    recipe_name,
    rounded,
)
from mnist_core.training import recipe_of

SEARCHED = [kind for kind in kinds().values() if kind.space is not None]


@pytest.mark.parametrize("kind", SEARCHED, ids=lambda kind: kind.name)
@pytest.mark.parametrize("preset", COMMON_PRESETS)
def test_a_search_starts_from_the_preset(kind, preset):
    """Each preset's own values lie within its bounds, and each bound names a unit."""
    recipe = kind.recipe(preset)
    space = kind.space_of(recipe)

    assert {name: part.check(getattr(recipe, name)) for name, part in space.items()} == dict.fromkeys(
        space, ""
    )
    assert all(part.unit for part in space.values() if isinstance(part, Range))


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"lr": 1.0}, r"lr is 1.0; it must be a number from 0.002 to 0.04"),
        ({"lr": True}, "lr is True"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"epochs": 9.5}, "epochs is 9.5; it must be a whole number"),
        ({"batch_size": 100}, "batch_size is 100; it must be one of 64, 128, 256"),
        ({"upright": 1}, "upright is 1; it must be one of false, true"),
        ({"widths": 3}, "widths cannot be set; choose from epochs"),
    ],
)
def test_a_value_out_of_bounds_is_refused(values, says):
    """The message names the field, its value and what is allowed."""
    with pytest.raises(ModelError, match=says):
        recipe_of("convnet", "fast", values=values)


def test_a_width_changes_all_convolutions_in_steps_of_eight_channels():
    """The preset's own are unchanged, and none vanishes."""
    channels = {
        width: recipe_of("convnet", "fast", values={"width": width})[1].channels for width in (0.5, 1, 1.5)
    }

    assert channels == {0.5: (8, 16, 24, 32), 1: PRESETS["fast"].widths, 1.5: (24, 32, 72, 96)}


def test_a_recipe_differs_only_in_its_values():
    """The other fields are the preset's."""
    preset = recipe_of("convnet", "fast")[1]
    recipe = recipe_of("convnet", "fast", values={"lr": 0.02})[1]

    assert (recipe.lr, recipe.weight_decay, recipe.epochs) == (0.02, preset.weight_decay, preset.epochs)
    assert apply(preset, {}, {}) == preset


def test_a_file_and_a_name_say_the_same_recipe(tmp_path):
    """A file is read as written, and the name does not depend on the order of the fields."""
    values = rounded({"upright": True, "lr": 0.0123456, "epochs": 12})
    file = tmp_path / "recipe.toml"
    file.write_text("upright = true\nlr = 0.01235\nepochs = 12\n")

    assert read_recipe(file) == values == {"epochs": 12, "lr": 0.01235, "upright": True}
    assert recipe_name(values) == recipe_name(dict(reversed(values.items())))
    assert recipe_name(values).startswith("r-")
    assert recipe_name({}) == "preset"
    assert in_line(values) == "epochs 12, lr 0.01235, upright true"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"lr = ", "is not TOML"),
        (b"lr = [1]", "lr is not a number"),
        (b"\xff", "is not TOML"),
        (None, "No such file"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path, text, says):
    """The message names the file and what is wrong with it."""
    file = tmp_path / "recipe.toml"
    if text is not None:
        file.write_bytes(text)

    with pytest.raises(ModelError, match=rf"recipe\.toml: .*{says}"):
        read_recipe(file)


def test_a_choice_is_not_a_number():
    """True is not 1, and 64.0 is not 64."""
    assert Choice((64, 128)).check(64) == ""
    assert Choice((64, 128)).check(64.0)
    assert Choice((False, True)).check(1)
