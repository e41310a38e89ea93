"""The library guide works: each command and each line of Python in it is run, in order."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer

import mnist_core
from mnist_core.__main__ import app, main
from mnist_core.digits import Digits, read_train, write_csv
from mnist_core.models.base import kinds
from mnist_core.spec import DIGITS_MINI

GUIDE = (Path(mnist_core.__file__).parent / "README.md").read_text()
BLOCKS = re.findall(r"^```(console|python)\n(.*?)^```$", GUIDE, re.M | re.S)


def commands(block):
    """Yield each command of a console block, and the lines of output that are shown below it."""
    for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
        command, *shown = part.splitlines()
        yield command, [line for line in shown if line]


COMMANDS = [command for kind, block in BLOCKS if kind == "console" for command, _ in commands(block)]


@pytest.mark.usefixtures("small_test_file")
def test_the_guide_works_from_top_to_bottom(tmp_path, monkeypatch, unpack, capfd):
    """Each command ends with 0 and prints what is shown, up to numbers; each Python block runs."""
    # test.csv is complete, as a submission needs it; train.csv has a few rows of each digit.
    files = unpack(DIGITS_MINI)
    train = read_train(files / "train.csv")
    rows = np.argsort(train.labels, kind="stable")[:: len(train) // 60]
    write_csv(Digits(train.pixels[rows], train.labels[rows]), tmp_path / "train.csv")
    for name in ("test.csv", "sample_submission.csv"):
        shutil.copy(files / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(Path(mnist_core.__file__).parents[1]), *sys.path])
    python: dict[str, object] = {}

    for kind, block in BLOCKS:
        if kind == "python":
            exec(compile(block, "README.md", "exec"), python)
            continue
        assert block.startswith("$ ")
        for command, shown in commands(block):
            printed = [without_numbers(line) for line in run(command, monkeypatch, capfd)]
            for line in shown:
                assert without_numbers(line) in printed, f"{command} does not print: {line}"

    assert {"submission.csv", "scratch.csv", "cover.png", "cover-from-python.png"} <= {
        path.name for path in tmp_path.iterdir()
    }


def without_numbers(line):
    """Return a line of output with # for each number, and without the bar of a probability."""
    return re.sub(r"[\d.,]*\d|…", "#", re.sub(r"[ ▏▎▍▌▋▊▉█]+", " ", line)).strip()


def run(command, monkeypatch, capfd):
    """Run a command and return the lines that it prints; those of mnist_core run in this process."""
    words = shlex.split(command)
    if words[:3] == ["python", "-m", "mnist_core"]:
        monkeypatch.setattr(sys, "argv", words[2:])
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code
    else:
        code = subprocess.run(words, check=False).returncode
    printed, errors = capfd.readouterr()
    assert not code, f"{command}: {errors}"
    return [*printed.splitlines(), *errors.splitlines()]


def test_every_command_and_model_is_in_the_guide():
    """The guide shows each command and each model."""
    lines = [shlex.split(command) for command in COMMANDS]
    shown = {words[3] for words in lines if words[:3] == ["python", "-m", "mnist_core"]}
    trained = {words[words.index("--model") + 1] for words in lines if "--model" in words}

    assert shown == set(typer.main.get_group(app).commands)
    assert set(kinds()) - trained - set(re.findall(r"`([\w-]+)`", GUIDE)) == set()


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#]+)\)", GUIDE))
def test_every_link_of_the_guide_has_a_target(link):
    """Files that the guide names exist."""
    assert (Path(mnist_core.__file__).parent / link).exists()


@pytest.mark.parametrize("anchor", re.findall(r"\]\(#([^)]+)\)", GUIDE))
def test_every_anchor_of_the_guide_is_a_heading(anchor):
    """The table at the top links to the sections."""
    headings = re.findall(r"^##+ (.+)$", GUIDE, re.M)

    assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
