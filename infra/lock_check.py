"""`make lock-check`: do the locks have wheels for every Python and system that is supported?

dev.lock for all of them, the images' locks for Linux on both of its architectures and the images' Python.
Resolved without downloading a wheel. Intel Macs and macOS before 14 are left out: torch and onnxruntime have
no wheels for them, and `infra/environment.py` refuses them.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

LOCK = "requirements/dev.lock"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
SYSTEMS = {
    "Linux x86-64": "x86_64-manylinux_2_28",
    "Linux aarch64": "aarch64-manylinux_2_28",
    "macOS 14 arm64": "aarch64-apple-darwin",
}
"""What uv calls each."""
IMAGE_LOCKS = ("requirements/predict.lock", "requirements/train.lock")
IMAGE_PYTHON = "3.11"


def missing(python: str, platform: str, lock: str = LOCK) -> str:
    """Return why a lock does not do for a Python and a system; empty if it does.

    It lacks a wheel, or a package that another one needs there: with hashes, nothing else is installed.
    """
    uv = Path(sys.executable).with_name("uv")
    command = [
        str(uv), "pip", "compile", "--only-binary", ":all:", "--python-version", python,
        "--python-platform", platform, "--no-python-downloads", "--no-header", "--no-annotate", lock,
    ]  # fmt: skip
    environment = os.environ | {"MACOSX_DEPLOYMENT_TARGET": "14.0"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        return done.stderr.strip()
    more = _names(done.stdout) - _names(Path(lock).read_text())
    return f"missing from the lock: {', '.join(sorted(more))}" if more else ""


def _names(requirements: str) -> set[str]:
    return set(re.findall(r"^([A-Za-z0-9][A-Za-z0-9._-]*)", requirements, re.MULTILINE))


def main() -> None:
    """Print a line for each Python and system; exit with 1 if a wheel is missing."""
    failed = False
    linux = [system for system in SYSTEMS if system.startswith("Linux")]
    wanted = [(LOCK, python, system) for python in PYTHONS for system in SYSTEMS]
    wanted += [(lock, IMAGE_PYTHON, system) for lock in IMAGE_LOCKS for system in linux]
    for lock, python, system in wanted:
        why = missing(python, SYSTEMS[system], lock)
        failed |= bool(why)
        print(f"{lock:25} {system:15} Python {python}: {why or 'ok'}", flush=True)  # noqa: T201
    sys.exit(failed)


if __name__ == "__main__":
    main()
