"""Native Windows is refused."""

import subprocess
import sys

import pytest

WINDOWS = """
import asyncio, importlib, subprocess, sys
sys.modules.update(fcntl=None, pwd=None, grp=None, resource=None)
module = importlib.import_module(sys.argv.pop(1))
sys.platform = "win32"
module.main()
"""


@pytest.mark.parametrize("command", ["flows.__main__", "mnist_core.__main__"])
def test_native_windows_is_refused_in_one_sentence(command):
    """The sentence names WSL, and comes before a module that Windows does not have is imported."""
    done = subprocess.run(
        [sys.executable, "-c", WINDOWS, command, "--help"], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "WSL" in done.stderr
