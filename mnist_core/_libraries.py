"""Settings of third-party libraries: variables that C code reads, unless the user has set them."""

from __future__ import annotations

import ctypes
from typing import Any


def set_default(name: str, value: str) -> None:
    """Set a variable that the C libraries of this process read, unless it is set; Python does not see it."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "setenv"):
        libc.setenv(name.encode(), value.encode(), 0)


def load_onnxruntime() -> Any:
    """Return the module `onnxruntime`, imported without its telemetry.

    From 1.29 on, its builds for Linux and macOS report to Microsoft which models run where, and keep an id of
    the machine in ~/.cache (https://github.com/microsoft/onnxruntime/pull/27379). It reads the variable when
    it is imported.

    Raises:
        ImportError: it is not installed.
    """
    set_default("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime
