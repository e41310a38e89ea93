"""Native Windows, which has neither the file locks nor the process groups that the job needs."""

from __future__ import annotations

import sys


def refuse_windows() -> None:
    """Exit with one sentence on native Windows; called before what is not on Windows is imported."""
    if sys.platform == "win32":
        sys.exit(
            "error: native Windows is not supported; install WSL (`wsl --install`) and run this in its Linux"
        )
