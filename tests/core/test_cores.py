"""How many cores are used: affinity, quotas of both versions of control groups, and a limit."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mnist_core import cores as module
from mnist_core.cores import cores, cpu_quota, limit_cores, limit_torch, thread_map, torch_threads

ROOT = Path(__file__).parents[2]
GROUPS = Path("/sys/fs/cgroup")
CPU = next(
    (group for group in (GROUPS / "cpu", GROUPS / "unified", GROUPS) if os.access(group, os.W_OK)), None
)


@pytest.fixture(autouse=True)
def no_limit(monkeypatch):
    """A process for which nobody has set a limit."""
    monkeypatch.setattr(module, "_limit", None)


@pytest.mark.parametrize(
    ("groups", "files", "quota"),
    [
        ("0::/", {"cpu.max": "max 100000"}, None),
        ("0::/", {"cpu.max": "200000 100000"}, 2.0),
        ("0::/", {"cpu.max": "50000 100000"}, 0.5),
        ("0::/", {"cpu.max": "nonsense"}, None),
        ("0::/", {"cpu.max": "100000 0"}, None),
        ("0::/a/b", {"a/b/cpu.max": "max 100000", "a/cpu.max": "300000 100000"}, 3.0),
        ("0::/a/b", {"a/b/cpu.max": "150000 100000", "a/cpu.max": "300000 100000"}, 1.5),
        ("0::/of/the/host", {"cpu.max": "400000 100000"}, 4.0),
        ("4:cpu,cpuacct:/", {"cpu,cpuacct/cpu.cfs_quota_us": "-1"}, None),
        ("4:cpu,cpuacct:/", {"cpu,cpuacct/cpu.cfs_quota_us": "250000"}, 2.5),
        ("4:cpu,cpuacct:/docker/x", {"cpu/cpu.cfs_quota_us": "200000"}, 2.0),
        ("4:cpu,cpuacct:/docker/x", {"cpu/docker/x/cpu.cfs_quota_us": "100000"}, 1.0),
        ("2:cpuset:/x\n1:memory:/y", {"cpuset/x/cpu.cfs_quota_us": "100000"}, None),
        ("1:cpu:/\n0::/", {"cpu/cpu.cfs_quota_us": "300000"}, 3.0),
        ("", {}, None),
        (None, {}, None),
    ],
)
def test_the_quota_of_the_control_groups_is_found(tmp_path, groups, files, quota):
    """Of version 1 or 2, of the group or one above it, in a container with its own view or the host's."""
    if groups is not None:
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text(f"{groups}\n")
    for name, content in files.items():
        path = tmp_path / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
        if name.endswith("quota_us"):
            path.with_name("cpu.cfs_period_us").write_text("100000\n")

    assert cpu_quota(tmp_path) == quota


@pytest.mark.parametrize(
    ("affinity", "quota", "limit", "used"),
    [
        (8, None, None, 8),
        (8, 2.0, None, 2),
        (8, 2.5, None, 3),
        (8, 0.2, None, 1),
        (8, 4.0, 1, 1),
        (2, 9, 9, 2),
    ],
)
def test_the_least_of_affinity_quota_and_limit_counts(monkeypatch, affinity, quota, limit, used):
    """A part of a core counts as one, so that no time of the quota is left."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(affinity)), raising=False)
    monkeypatch.setattr(module, "cpu_quota", lambda: quota)
    limit_cores(limit)

    assert cores() == used


def test_torch_gets_no_more_threads_than_cores(monkeypatch):
    """On a machine of 64 cores with a quota of two, 64 threads would wait for each other."""
    before = torch.get_num_threads()
    monkeypatch.setattr(module, "cores", lambda: 2)
    try:
        torch.set_num_threads(4)
        limit_torch()
        assert torch.get_num_threads() == 2
        torch.set_num_threads(1)
        limit_torch()
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


POLICY = """
import ctypes, sys
from mnist_core.cores import let_threads_sleep

let_threads_sleep()
getenv = ctypes.CDLL(None).getenv
getenv.restype = ctypes.c_char_p
print(getenv(b"OMP_WAIT_POLICY").decode(), "torch" in sys.modules)
"""


@pytest.mark.parametrize(("given", "found"), [({}, "passive"), ({"OMP_WAIT_POLICY": "active"}, "active")])
def test_threads_sleep_while_they_wait_unless_somebody_wants_them_to_spin(given, found):
    """OpenMP reads the policy when torch is imported, so it is set before."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"} | given

    done = subprocess.run(
        [sys.executable, "-c", POLICY], env=environment, capture_output=True, text=True, check=True
    )

    assert done.stdout.split() == [found, "False"]


def test_batches_side_by_side_share_torchs_threads():
    """Each of two has half of them, and the caller has all of them again afterwards."""
    with torch_threads(4):
        with thread_map(2) as run_each:
            assert list(run_each(lambda _: torch.get_num_threads(), range(3))) == [2, 2, 2]
        assert torch.get_num_threads() == 4


@pytest.mark.skipif(CPU is None or os.geteuid() != 0, reason="needs control groups that it may write to")
def test_a_real_quota_is_found():
    """A process that the kernel gives half a core's time uses one thread."""
    group = CPU / f"mnist-{os.getpid()}"
    group.mkdir()
    try:
        if (group / "cpu.cfs_quota_us").exists():
            (group / "cpu.cfs_quota_us").write_text("50000")
        elif (group / "cpu.max").exists():
            (group / "cpu.max").write_text("50000 100000")
        else:
            pytest.skip("the control groups here do not limit CPU time")
        code = "from mnist_core.cores import *; print(cores(), cpu_quota())"
        script = f'echo $$ > {group}/cgroup.procs; exec {sys.executable} -c "{code}"'
        done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    finally:
        group.rmdir()

    assert done.stdout == "1 0.5\n"
