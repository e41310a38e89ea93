"""The labels of the practice competition's test set stay where they belong."""

import ast
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
ALLOWED = ("infra/practice/", "tests/bench/", "tests/infra/", "tests/conftest.py")
"""Who may open the file with all labels: the server, benchmarks that score, and the server's own tests."""


def test_nobody_else_opens_the_file_with_all_labels():
    """No other Python file names the data file, or takes more of the server than a way to find it."""
    tracked = subprocess.run(
        ["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    others = [name for name in tracked if not name.startswith(ALLOWED)]
    assert len(others) > 20

    for name in others:
        tree = ast.parse((ROOT / name).read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert ".npz" not in node.value or "held_out.npz" in node.value, f"{name}: {node.value}"
            names = {getattr(node, "attr", None), getattr(node, "id", None), getattr(node, "name", None)}
            assert not names & {"read_labels", "solve"}, f"{name}:{node.lineno} reads the solution"
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("infra.practice"):
                taken = {alias.name for alias in node.names}
                assert taken <= {
                    "find_or_start",
                    "Practice",
                    "PracticeError",
                    "PracticeOptions",
                    "read_record",
                }, f"{name}:{node.lineno} takes more of the practice competition than its address"
