"""Checks of this machine: GPU, home and clock."""

import time

import pytest
import torch

from flows.ops.doctor import machine
from flows.ops.doctor.finding import State
from flows.ops.doctor.machine import check_clock, check_gpu, check_home, check_s3_clock


def test_a_home_with_free_space(run, tmp_path):
    """It is created, and nothing is left in it."""
    found = run(check_home)["home"]

    assert found.state is State.OK
    assert list((tmp_path / "home").iterdir()) == []


@pytest.mark.parametrize(("free", "state"), [(100_000_000, State.FAILED), (1_000_000_000, State.WARNING)])
def test_a_full_disk(run, monkeypatch, free, state):
    """Too little for one run fails, little for many runs warns."""
    monkeypatch.setattr(machine, "free_bytes", lambda folder: free)

    found = run(check_home)["home"]

    assert found.state is state
    assert "MNIST_HOME" in found.remedy


def test_a_home_that_cannot_be_written_to(run, monkeypatch, tmp_path):
    """A file stands where the home should be."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MNIST_HOME", str(tmp_path / "file" / "home"))

    found = run(check_home)["home"]

    assert found.state is State.FAILED
    assert "a folder that you can write to" in found.remedy


@pytest.mark.parametrize(
    ("off", "state"),
    [(-3600, State.FAILED), (700, State.FAILED), (90, State.WARNING), (-90, State.WARNING), (15, State.OK)],
)
def test_a_clock_that_is_off(job, bucket, run, monkeypatch, off, state):
    """Compared with the competition's clock and with S3's, in either direction."""
    job()
    monkeypatch.setattr(machine, "_now", lambda: time.time() + off)

    competition, s3 = run(check_clock)["clock"], run(check_s3_clock)["clock, S3"]

    assert competition.state is s3.state is state
    if state is not State.OK:
        assert ("ahead of" if off > 0 else "behind") in competition.found
        assert "NTP" in competition.remedy


def test_a_server_that_does_not_answer_states_no_time(job, run):
    """Nothing is known about the clock, which is a warning."""
    job().server.stop()

    assert run(check_clock)["clock"].state is State.WARNING


def test_a_store_in_a_folder_has_this_machines_clock(run):
    """There is nothing to compare."""
    assert run(check_s3_clock) == {}


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_missing_gpu_fails_only_if_it_is_needed(run, monkeypatch):
    """Without MNIST_DEVICE=cuda a training uses the CPU."""
    assert "runs on its CPU" in run(check_gpu)["GPU"].found
    monkeypatch.setenv("MNIST_DEVICE", "cuda")

    found = run(check_gpu)["GPU"]

    assert found.state is State.FAILED
    assert "MNIST_DEVICE=auto" in found.remedy
