"""What keeps the code readable: short functions, short files, and layers that know only those below them."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(file for folder in ("mnist_core", "flows", "infra") for file in (ROOT / folder).rglob("*.py"))
NAMES = [file.relative_to(ROOT).as_posix() for file in FILES]
FUNCTION_LINES, FILE_LINES = 60, 450


def code_lines(source, function):
    """Return the number of lines of a function that are neither blank, nor comments, nor docstrings."""
    documented = {
        line
        for node in ast.walk(function)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and ast.get_docstring(node) is not None
        for line in range(node.body[0].lineno, node.body[0].end_lineno + 1)
    }
    lines = source.splitlines()
    return sum(
        bool(lines[number - 1].strip()) and not lines[number - 1].lstrip().startswith("#")
        for number in range(function.lineno, function.end_lineno + 1)
        if number not in documented
    )


def long_functions(source, limit):
    """Return the functions that have more code lines than the limit, with their number."""
    return {
        node.name: code_lines(source, node)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and code_lines(source, node) > limit
    }


@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_functions_and_files_are_short(file):
    """No function has more than 60 lines of code, and no file more than 450 lines."""
    source = file.read_text()

    assert long_functions(source, FUNCTION_LINES) == {}
    assert len(source.splitlines()) <= FILE_LINES


def test_the_practice_server_knows_nothing_of_the_job():
    """It is given a specification and labelled rows; `flows/ops/practice.py` starts it."""
    names = {
        name
        for file in (ROOT / "infra" / "practice").glob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        for name in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else []
        )
    }

    assert {name for name in names if name.partition(".")[0] in ("flows", "prefect", "kaggle")} == set()
    assert "mnist_core.spec" in names


def test_long_functions_are_found():
    """The check above counts code, and neither docstrings nor comments nor blank lines."""
    source = 'def f():\n    """Two\n\n    lines."""\n    # a comment\n\n    a = 1\n    return a\n'

    assert long_functions(source, 3) == {}
    assert long_functions(source, 2) == {"f": 3}
