"""Which process this is, so that another one on the same machine can tell whether it has ended."""

import os
from pathlib import Path

from flows.records import ProcessId

PROC = Path("/proc")


def this_process() -> ProcessId | None:
    """Return the identity of this process; None where the system does not give it (no Linux)."""
    try:
        return ProcessId(boot=_boot(), namespace=_namespace(), pid=os.getpid(), started=_stat(os.getpid())[1])
    except (OSError, ValueError, IndexError):
        return None


def has_ended(process: ProcessId | None) -> bool:
    """Return whether a process ran on this machine since it was booted, and is gone.

    Another machine's, or another container's, is not known to have ended. A process number that was given to
    another process since is recognised by when that one started, in ticks since the boot.
    """
    try:
        if process is None or (process.boot, process.namespace) != (_boot(), _namespace()):
            return False
        os.kill(process.pid, 0)
        state, started = _stat(process.pid)
    except ProcessLookupError:
        return True
    except (OSError, ValueError, IndexError, OverflowError):  # of another user: it exists
        return False
    return state in "ZX" or started != process.started


def _boot() -> str:
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()


def _namespace() -> int:
    """Return the namespace of process numbers: each container has its own."""
    return (PROC / "self/ns/pid").stat().st_ino


def _stat(pid: int) -> tuple[str, int]:
    """Return the state of a process, and the tick of the boot at which it started."""
    fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()  # its name may hold anything
    return fields[0], int(fields[19])
