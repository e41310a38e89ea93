"""The processes of `make ui`, which later commands must find again."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flows.ops import processes
from flows.ops.processes import Process


@pytest.fixture
def process():
    """A process that waits until its input ends."""
    started = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield started
    started.kill()
    started.wait(30)


@pytest.fixture
def proc(monkeypatch, tmp_path):
    """A /proc with one process, 7; sets its start and the boot."""
    monkeypatch.setattr(processes, "PROC", tmp_path)
    (tmp_path / "7").mkdir()
    (tmp_path / "sys/kernel/random").mkdir(parents=True)

    def write(start: int, boot: str = "boot-1", state: str = "S") -> Process:
        fields = [state, *map(str, range(4, 22)), str(start), "23"]
        (tmp_path / "7" / "stat").write_text(f"7 (a) name (with) S 1) {' '.join(fields)}\n")
        (tmp_path / "sys/kernel/random/boot_id").write_text(f"{boot}\n")
        return Process.find(7)

    return write


def test_a_process_is_found_until_it_ends(process):
    """A killed process that nobody has waited for yet counts as ended."""
    found = Process.find(process.pid)
    assert found.is_alive()
    assert (
        found.began.split()[1] == Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19]
    )

    process.kill()
    while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        pass

    assert not found.is_alive()
    process.wait(30)
    assert not Process.find(process.pid).is_alive()


def test_a_clock_that_is_set_does_not_lose_a_process(proc, monkeypatch):
    """Ticks and boot tell it from a later one with its number; the time of day is not asked."""
    found = proc(4711)
    monkeypatch.setenv("PATH", "/nowhere")  # no `ps`, whose start moves with the clock

    assert proc(4711) == found
    assert found.is_alive()
    assert proc(4712) != found
    assert proc(4711, boot="boot-2") != found
    assert not proc(4711, state="Z").is_alive()


def test_without_proc_the_start_is_asked_of_ps(process, monkeypatch, tmp_path):
    """Such as on macOS."""
    monkeypatch.setattr(processes, "PROC", tmp_path / "missing")

    assert Process.find(process.pid).is_alive()
    assert not Process.find(2**22 + 1).is_alive()


def test_processes_that_do_not_stop_are_killed_together(monkeypatch):
    """`make ui-stop` waits once for all of them, as for two workers whose runs do not end."""
    ignores = (
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); signal.pause()"
    )
    command = [sys.executable, "-c", ignores]
    started = [
        subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True, text=True) for _ in range(2)
    ]
    assert [process.stdout.readline() for process in started] == ["\n", "\n"]
    sent, send = [], os.killpg
    monkeypatch.setattr(processes, "STOP_S", 0.3)
    monkeypatch.setattr(os, "killpg", lambda pid, number: (sent.append(number), send(pid, number)))

    processes.end([Process.find(process.pid) for process in started])

    assert sent == [signal.SIGTERM, signal.SIGTERM, signal.SIGKILL, signal.SIGKILL]
    assert [process.wait(30) for process in started] == [-signal.SIGKILL] * 2
