"""Errors carry what is wrong, the remedy, and whether to try again."""

import ast
import re
from pathlib import Path

import pytest

from mnist_core import errors
from mnist_core.errors import BundleError, DataError, MnistError, ModelError, SubmissionError


def test_an_error_says_what_is_wrong_and_what_to_do():
    """The text joins both; code reads the attributes."""
    error = DataError("train.csv: 3 rows, expected 5", "download it again")

    assert str(error) == "train.csv: 3 rows, expected 5; download it again"
    assert (error.problem, error.remedy) == ("train.csv: 3 rows, expected 5", "download it again")


def test_a_remedy_is_optional():
    """The problem may say enough."""
    error = DataError("the file is empty")

    assert (str(error), error.remedy) == ("the file is empty", "")


@pytest.mark.parametrize("kind", [BundleError, DataError, ModelError, SubmissionError])
def test_every_error_of_the_library_is_one_of_ours(kind):
    """`except MnistError` catches them all; none of them goes away by itself."""
    assert issubclass(kind, MnistError)
    assert kind("problem").retryable is False


def test_a_raise_can_say_that_trying_again_may_help():
    """The attribute of the class holds unless a raise says otherwise."""

    class ServerError(MnistError):
        retryable = True

    assert ServerError("down").retryable is True
    assert ServerError("refused", retryable=False).retryable is False
    assert ServerError.retryable is True


def test_the_picture_shows_the_whole_tree():
    """Each error of the project stands in the docstring of `errors`, at the depth of its base."""
    bases = {}
    for package in ("mnist_core", "flows", "infra"):
        for file in (Path(errors.__file__).parents[1] / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.ClassDef) and len(node.bases) == 1:
                    bases[node.name] = ast.unparse(node.bases[0])

    def depth(name):
        """Return how far an error is below MnistError; None if it is not one."""
        if name == "MnistError":
            return 0
        above = depth(bases[name]) if name in bases else None
        return None if above is None else above + 1

    drawn = {
        name: len(line) // 4 + 1
        for line, name in re.findall(r"^((?:│   )*)[├└]── (\w+)", errors.__doc__, re.M)
    }

    assert drawn == {name: depth(name) for name in bases if depth(name)}
