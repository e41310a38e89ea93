"""The labels of the practice competitions' test sets stay in the server."""

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ALLOWED = ("infra/practice/", "tests/bench/", "tests/infra/", "tests/conftest.py", "tests/practice_server.py")
"""Who may open the file with all labels: the server, benchmarks that score, and the server's own tests."""
PUBLIC = {"catalog", "PracticeError", "PracticeOptions", "read_record", "app", "KINDS"}
"""What others may import: how to start a server and find it, its command line, its faults."""


def breaches(source: str) -> Iterator[str]:
    """Yield each place in a source file that could reach the labels."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Constant(value=str(text)) if ".npz" in text and "held_out.npz" not in text:
                yield f"line {node.lineno} names {text}"
            case ast.Constant(value=str(text)) if "infra.practice.data" in text:
                yield f"line {node.lineno} names {text}"
            case ast.Import() if any(alias.name.startswith("infra.practice") for alias in node.names):
                yield f"line {node.lineno} imports the practice server as a whole"
            case ast.ImportFrom(module="infra") if any(alias.name == "practice" for alias in node.names):
                yield f"line {node.lineno} imports the practice server as a whole"
            case ast.ImportFrom(module=str(module)) if module.startswith("infra.practice"):
                if taken := {alias.name for alias in node.names} - PUBLIC:
                    yield f"line {node.lineno} imports {', '.join(sorted(taken))} of the practice server"


def test_nobody_else_opens_the_file_with_all_labels():
    """No other Python file names the data file, or takes more of the server than a way to find it."""
    tracked = subprocess.run(
        ["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    others = [name for name in tracked if not name.startswith(ALLOWED)]

    assert len(others) > 20
    assert [f"{name}: {found}" for name in others for found in breaches((ROOT / name).read_text())] == []


@pytest.mark.parametrize(
    "source",
    [
        "import infra.practice.data",
        "import infra.practice as p",
        "from infra import practice",
        "from infra.practice import data",
        "from infra.practice.data import solve",
        "from infra.practice.scoring import grade",
        "importlib.import_module('infra.practice.data')",
        "np.load('infra/practice/data/mnist.npz')",
    ],
)
def test_the_check_notices_each_way_to_the_labels(source):
    """Each of these lines is a breach, and what others do import is none."""
    assert len(list(breaches(source))) == 1
    assert list(breaches("from infra.practice import PracticeOptions, catalog")) == []
