"""`infra/setup.sh`, which finds a Python, and the Makefile that calls it."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# infra/setup.sh: which Python

PYTHONS = {
    "good": 'case "$*" in *infra.environment*) echo "made with $0" ;; esac',
    "old": 'case "$1" in --version) echo Python 3.9.2 ;; *) exit 1 ;; esac',
}


@pytest.fixture
def choose(tmp_path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `infra/setup.sh` with nothing on the path but played programs: `choose({"python3": "old"})`."""
    for name in ("infra/setup.sh", "requirements/dev.lock", "pyproject.toml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("sh", "dirname", "cksum", "sed", "tail"):
        (programs / name).symlink_to(str(shutil.which(name)))

    def play(played: dict[str, str], **variables: str) -> subprocess.CompletedProcess[str]:
        for name, code in played.items():
            (programs / name).write_text(f"#!/bin/sh\n{PYTHONS.get(code, code)}\n")
            (programs / name).chmod(0o755)
        return subprocess.run(
            [tmp_path / "infra/setup.sh"], capture_output=True, text=True, check=False,
            env={"PATH": str(programs), "HOME": str(tmp_path)} | variables,
        )  # fmt: skip

    return play


UV_WITH_A_PYTHON = """
case "$*" in
    "python install 3.13") : > "$HOME/brought" ;;
    "python find "*) [ -e "$HOME/brought" ] && echo "$HOME/programs/brought" ;;
esac"""


@pytest.mark.parametrize(
    ("played", "variables", "made_with"),
    [
        ({"python3": "good", "python3.12": "good"}, {}, "python3"),
        ({"python3": "old", "python3.12": "good"}, {}, "python3.12"),
        ({"python3": "good", "python3.12": "good"}, {"PYTHON": "python3.12"}, "python3.12"),
        ({"python3.11": "good"}, {"PYTHON": "", "TORCH": ""}, "python3.11"),
        ({"python3": "old", "uv": UV_WITH_A_PYTHON, "brought": "good"}, {}, "brought"),
    ],
    ids=["python3", "another one", "the one asked for", "empty variables", "the one that uv brings"],
)
def test_a_supported_python_is_found(choose, played, variables, made_with):
    """On the path, or brought by uv."""
    done = choose(played, **variables)

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith(f"/programs/{made_with}")


@pytest.mark.parametrize(
    ("played", "variables", "said"),
    [
        (
            {"python3": "old"},
            {},
            "Python 3.11 to 3.14 is needed, python3 is Python 3.9.2; install one, or uv",
        ),
        ({}, {}, "Python 3.11 to 3.14 is needed, python3 is missing; install one, or uv"),
        ({"python3": "good"}, {"PYTHON": "python3.9"}, "PYTHON=python3.9 is missing; Python 3.11 to 3.14"),
        ({"python3": "old", "uv": "exit 2"}, {}, "uv cannot install Python 3.13"),
    ],
)
def test_without_a_supported_python_one_line_says_what_to_type(choose, played, variables, said):
    """The line ends with the command to repeat."""
    done = choose(played, **variables)

    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"setup: {said}")
    assert last.endswith("make setup")


# The Makefile


def test_what_needs_no_environment_makes_none():
    """Such as `make clean`, or `make ui-stop` in a fresh clone; what needs one begins with the set-up."""
    plain = ["make", "--dry-run", "--always-make"]
    for targets, sets_up in ((["help", "clean", "image", "deploy", "ui-stop"], False), (["nightly"], True)):
        done = subprocess.run([*plain, *targets], cwd=ROOT, capture_output=True, text=True, check=True)
        assert ("infra/setup.sh" in done.stdout) is sets_up


def test_make_help_fits_a_terminal():
    """What a user needs is apart from what the work on the project needs, in 80 columns."""
    lines = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()

    places = [number for number, line in enumerate(lines) if line.endswith(":")]
    targets = {line.split()[1]: number for number, line in enumerate(lines) if line.startswith("  make ")}
    assert len(places) == 2
    assert targets["setup"] < targets["nightly"] < places[1] < targets["test"]
    assert [line for line in lines if len(line) > 80] == []
