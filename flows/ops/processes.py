"""The processes that `make ui` started in a home, known across reboots and clocks that are set."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from flows.ops.daemon import without_credentials

STOP_S = 15
"""Seconds that a process may take to end before it is killed."""
PROC = Path("/proc")


@dataclass(frozen=True)
class Process:
    """A process that was started.

    Attributes:
        pid: its number, and that of its group.
        began: when it started, which tells it from a later process with the same number; empty: it has ended.
    """

    pid: int
    began: str

    @classmethod
    def find(cls, pid: int) -> "Process":
        """Return the process that has this number now."""
        try:
            # Field 22, in ticks since the machine was started: no clock that is set later changes it.
            state, *fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
            boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
        except (OSError, ValueError):
            return cls(pid, "" if PROC.exists() else _began_by_ps(pid))
        return cls(pid, "" if state in "ZX" else f"{boot} {fields[18]}")

    def is_alive(self) -> bool:
        """Return whether it still runs."""
        return bool(self.began) and Process.find(self.pid) == self


def end(processes: Collection[Process]) -> None:
    """End processes with their groups, all at once; kill those that do not end when asked."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + STOP_S
        alive = [process for process in processes if process.is_alive()]
        for process in alive:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
        while any(process.is_alive() for process in alive) and time.monotonic() < deadline:
            time.sleep(0.1)


def _began_by_ps(pid: int) -> str:
    """Return when a process started, on systems without /proc; empty if it has ended."""
    command = ["ps", "-o", "lstart=,stat=", "-p", str(pid)]
    environment = without_credentials(os.environ) | {"LC_ALL": "C"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    words = done.stdout.split()
    return "" if words and words[-1].startswith("Z") else " ".join(words[:-1])


def process_file(prefect_home: Path) -> Path:
    """Return the file that records the processes of a home."""
    return prefect_home / "processes.json"


def read_processes(prefect_home: Path) -> dict[str, Process]:
    """Return the processes that were started in a home: `server`, and each worker by its pool."""
    try:
        recorded = json.loads(process_file(prefect_home).read_text())
        return {name: Process(**process) for name, process in recorded.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def is_alive(prefect_home: Path, name: str) -> bool:
    """Return whether the server or a worker of a home runs."""
    process = read_processes(prefect_home).get(name)
    return process is not None and process.is_alive()
