"""Start processes that outlive this one, each with its own session and log file.

Imports the standard library alone, so that the practice server can use it too.
"""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

CREDENTIALS = (
    "KAGGLE_",
    "MNIST_KAGGLE_TOKEN",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
)
"""How the variables begin that hold what a run logs in with at the competition and at the store."""


def start_daemon(
    command: Sequence[str],
    log: Path,
    *,
    folder: Path,
    environment: Mapping[str, str] | None = None,
    log_bytes: int = 5_000_000,
) -> "subprocess.Popen[bytes]":
    """Start a process in a session of its own, away from this process's terminal and signals.

    Args:
        command: the program and its arguments.
        log: where both of its output streams go, as UTF-8; appended to.
        folder: its working directory.
        environment: variables for it; None: those of this process.
        log_bytes: size above which an old log is renamed to `….log.1` first.

    Returns:
        The started process.
    """
    if log.exists() and log.stat().st_size > log_bytes:
        log.replace(log.with_suffix(".log.1"))
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            cwd=folder,
            env={**(os.environ if environment is None else environment), "PYTHONIOENCODING": "utf-8"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def without_credentials(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables for a process that neither submits nor uses the store."""
    return {name: value for name, value in environment.items() if not name.startswith(CREDENTIALS)}
