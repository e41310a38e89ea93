"""Commands answer at once: what they do not need is not imported."""

import os
import subprocess
import sys

import pytest

HEAVY = {"torch", "fastai", "prefect", "numpy", "pandas", "boto3", "fastapi", "onnxruntime", "kagglesdk"}
LOADED = """
import sys
from importlib import import_module

try:
    import_module(sys.argv.pop(1)).main()
except SystemExit as end:
    print(*sys.modules, file=sys.stderr)
    raise
"""


@pytest.mark.parametrize(
    "command",
    [
        ("flows.__main__", "--version"),
        ("flows.__main__", "doctor", "--help"),
        ("flows.__main__", "versions"),
        ("flows.__main__", "status"),
        ("mnist_core.__main__", "--help"),
    ],
    ids=" ".join,
)
def test_a_command_that_computes_nothing_imports_nothing_heavy(tmp_path, command):
    """Each of these packages takes a tenth of a second to two seconds to import."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MNIST_")}
    environment["MNIST_HOME"] = str(tmp_path)

    done = subprocess.run(
        [sys.executable, "-c", LOADED, *command],
        env=environment, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip

    assert done.returncode in (0, 2), done.stderr  # 2: this store is empty
    assert HEAVY & set(done.stderr.splitlines()[-1].split()) == set()


def test_submitting_imports_no_torch():
    """A submission takes 130 MB; torch alone would take more. Its predictions come from ONNX Runtime."""
    script = "import sys, flows.submit, mnist_core.inference; print(*sys.modules)"

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert {"torch", "fastai", "sqlalchemy"} & set(done.stdout.split()) == set()
