"""The units of systemd and the lines of cron that docs/unattended.md installs."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "infra" / "unattended"
LINES = [line for line in (FOLDER / "crontab").read_text().splitlines() if not line.startswith("#")]


@pytest.fixture
def home(tmp_path):
    """A home with a clone whose Python notes where it was started, and with what."""
    python = tmp_path / "mnist-nightly/.venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "$PWD: $*"\necho "rejected" >&2\n')
    python.chmod(0o755)
    return tmp_path


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_accepts_the_units(home, tmp_path):
    """systemd finds nothing to warn about in the service and its timer."""
    runtime = tmp_path / "run"
    runtime.mkdir()
    environment = {"HOME": str(home), "XDG_RUNTIME_DIR": str(runtime), "PATH": "/usr/bin:/bin"}

    done = subprocess.run(
        ["systemd-analyze", "--user", "verify", *map(str, sorted(FOLDER.glob("mnist-nightly.*")))],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, "")


def test_a_missed_night_is_made_up_for():
    """The timer is persistent: what fell into a time when the machine was off runs when it is on."""
    assert "Persistent=true" in (FOLDER / "mnist-nightly.timer").read_text().splitlines()
    assert LINES[1].startswith("@reboot ")


@pytest.mark.parametrize("line", LINES, ids=["daily", "reboot"])
def test_a_line_of_cron_runs_a_night_in_the_clone(home, line):
    """With cron's empty environment it finds the clone and its `.env`, and keeps what the night prints."""
    command = re.sub(r"^(@reboot sleep 60; |(\S+ ){5})", "", line).replace("/home/you", str(home))

    for _ in range(2):
        subprocess.run(["env", "-i", "PATH=/usr/bin:/bin", "sh", "-c", command], cwd="/", check=True)

    log = (home / "mnist-nightly.log").read_text()
    assert log == f"{home}/mnist-nightly: -m flows nightly\nrejected\n" * 2


def test_the_guide_shows_the_lines_of_the_file():
    """What a reader copies from the guide is what was tried."""
    guide = (ROOT / "docs" / "unattended.md").read_text()

    assert all(f"\n{line}\n" in guide for line in LINES)
