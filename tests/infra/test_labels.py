"""The labels of the practice competition's test set stay where they belong."""

import ast
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
ALLOWED = ("infra/practice/", "tests/bench/", "tests/infra/")
"""Who may open the file with all labels: the server, benchmarks that score, and the server's own tests."""


def test_nobody_else_opens_the_file_with_all_labels():
    """No other Python file names the data file or takes the server's functions that read labels."""
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
