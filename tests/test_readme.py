"""The README says what the code does: a setting, command or file that it lacks fails here."""

import re
import subprocess
from pathlib import Path
from typing import get_args

import pytest

from flows.settings import PREFIX, Settings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_settings_table_is_the_class():
    """Every setting has its row with its default, and no row is without a setting."""
    rows = dict(re.findall(r"^\| `(MNIST_\w+)` \| (.+?) \|", README, re.M))

    assert set(rows) == {PREFIX + name.upper() for name in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        if field.default is not None:
            assert rows[PREFIX + name.upper()] == f"`{field.default}`"


def test_the_models_and_presets_are_named():
    """Each value that a setting takes stands in the README."""
    choices = [value for field in Settings.model_fields.values() for value in get_args(field.annotation)]

    for value in ["live", *choices]:
        if isinstance(value, str):
            assert f"`{value}`" in README


def test_the_tree_is_the_tree():
    """Every file that the README's tree names exists, and every module of ours is in it."""
    tree = README.split("## The tree")[1].split("```")[1]

    for package in ("flows", "mnist_core"):
        section = tree.split(f"\n{package}/")[1]
        modules = [path.name for path in (ROOT / package).glob("*.py") if path.name != "__init__.py"]
        for name in set(modules) - {"__main__.py", "errors.py"}:
            assert name in section, f"{package}/{name} is missing in the README's tree"
    for name in re.findall(r"^  (\w+\.py)", tree, re.M):
        assert list(ROOT.glob(f"*/{name}")), f"the README's tree names {name}, which does not exist"


@pytest.mark.parametrize("target", re.findall(r"^make ([a-z0-9-]+)", README, re.M))
def test_a_make_target_in_the_readme_exists(target):
    """No command of the quickstart is made up."""
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert re.search(rf"^  make {target} ", listed, re.M)


def test_what_can_go_wrong_names_tests_that_exist():
    """Each row of the table of faults names its tests, and each of them is there."""
    table = README.split("## What can go wrong")[1].split("\n\n**Once.**")[0]
    rows = re.findall(r"^\| (?!what goes wrong|---)(.+) \|$", table, re.M)
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))

    assert len(rows) > 10
    for row in rows:
        named = re.findall(r"`(test_\w+)`", row)
        assert named, row
        for name in named:
            assert f"def {name}(" in tests
