"""Damaged and hostile files, in limited memory; `make fuzz` reads a million."""

import re
import subprocess
import sys
from pathlib import Path


def test_damaged_files_are_read_alike_or_refused(tmp_path):
    """Of 6,000 CSV files and pictures none ends the process, divides the readers, or takes a gigabyte."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.core.fuzz", "--inputs", "6000", "--seed", "1"],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
    counts = {what: int(n.replace(",", "")) for n, what in re.findall(r"([\d,]+) ([a-zA-Z ]+)", done.stdout)}
    for what in ("CSV files read", "CSV files refused", "pictures read", "pictures refused"):
        assert counts[what] > 300
