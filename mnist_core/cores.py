"""How many cores this process may use: affinity, the CPU quota of its container, and a limit that is set."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from mnist_core._libraries import set_default

_limit: int | None = None


def cores() -> int:
    """Return the number of cores that this process may use, 1 or more.

    The least of its affinity (else the machine's cores), its container's quota, and what `limit_cores` said.
    """
    machine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    bounds = (machine, None if quota is None else math.ceil(quota), _limit)
    return max(1, min(bound for bound in bounds if bound is not None))


def limit_cores(count: int | None) -> None:
    """Use no more than `count` cores in this process; None: as many as it may."""
    global _limit  # one number for the process, as torch's own number of threads is
    _limit = count


def limit_torch() -> None:
    """Let torch use no more threads than there are cores for them: it knows no quota."""
    import torch

    if torch.get_num_threads() > cores():
        torch.set_num_threads(cores())


def let_threads_sleep() -> None:
    """Let threads that wait for each other sleep; call it before torch is imported. A set policy stays.

    OpenMP's default is to spin, which is a little faster on idle cores. Beside one other process it is many
    times slower: the thread that spins takes the core that the awaited one needs.
    """
    set_default("OMP_WAIT_POLICY", "passive")


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let this thread's operations use `count` of torch's threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


ThreadMap = Callable[..., Iterable[Any]]


@contextmanager
def thread_map(count: int) -> Iterator[ThreadMap]:
    """Yield `map`, or one that runs on `count` threads, which divide torch's own threads among them.

    Threads inside one operation wait for each other at its end, thousands of times a second: beside another
    process that uses a core, each time for a thread that is not running. Threads that each have a batch, or a
    share of one, wait seldom.
    """
    if count == 1:
        yield map
        return
    import torch

    few = max(1, torch.get_num_threads() // count)
    with (
        torch_threads(few),  # the caller's own helpers would wait for its next operation on needed cores
        ThreadPoolExecutor(count, initializer=partial(torch.set_num_threads, few)) as pool,
    ):
        yield pool.map


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Return how many cores' time the control groups of this process allow; None: they set no limit.

    Both versions of Linux's control groups are read, in a container or not, and the groups above too.

    Args:
        root: the folder that has `proc` and `sys`.
    """
    found = [quota for folder in _groups(root) if (quota := _quota_of(folder)) is not None]
    return min(found, default=None)


def _groups(root: Path) -> Iterator[Path]:
    """Yield the folders of the groups of this process that may limit its CPU time, and those above them."""
    mount = root / "sys/fs/cgroup"
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except (OSError, ValueError):
        return
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        group = Path(path.lstrip("/"))
        # Version 2 lies in the mount itself, version 1 in a folder with the names of its controllers. In a
        # container the path may be that of the host, which is not there: what is mounted is its own group.
        for base in (mount / controllers, mount / "cpu") if controllers else (mount,):
            yield from (base / part for part in (group, *group.parents))


def _quota_of(group: Path) -> float | None:
    """Return the quota of one group in cores; None if it has none."""
    try:
        if (limits := group / "cpu.max").exists():
            quota, period = limits.read_text().split()
        else:
            quota = (group / "cpu.cfs_quota_us").read_text()
            period = (group / "cpu.cfs_period_us").read_text()
        cores = int(quota) / int(period)  # "max" is no number, -1 no limit
    except (OSError, ValueError, ZeroDivisionError):
        return None
    return cores if cores > 0 else None
