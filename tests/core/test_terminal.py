"""What the command line shows on a terminal."""

import re
import sys
import warnings
from io import BytesIO, StringIO, TextIOWrapper
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from mnist_core.terminal import print_anywhere, progress_bar, show_prediction, silence_torch


def terminal(**options):
    """Return a colour terminal of 80 columns whose output is `console.file.getvalue()`."""
    return Console(file=StringIO(), force_terminal=True, color_system="truecolor", width=80, **options)


def test_a_prediction_shows_the_digit_on_a_colour_terminal(synthetic):
    """The 28 × 28 pixels are beside the bars, in 14 lines of half blocks."""
    digit = synthetic(1).pixels[0]
    console = terminal()

    console.print(show_prediction(console, digit, np.full(10, 0.1, np.float32), "a digit"))

    text = console.file.getvalue()
    assert text.count("▀") == 28 * 14
    upper, lower = digit[0, 0], digit[1, 0]
    assert f"38;2;{upper};{upper};{upper};48;2;{lower};{lower};{lower}m" in text


def test_a_prediction_names_the_classes(synthetic):
    """The most probable class comes first, then one line for each."""
    console = Console(file=StringIO(), width=80)
    probabilities = np.array([0.25, 0.75], np.float32)

    console.print(show_prediction(console, synthetic(1).pixels[0], probabilities, "a letter", ["A", "B"]))

    title, answer, *bars = [line for line in console.file.getvalue().splitlines() if line]
    assert (title, answer) == ("a letter", "B  with 75.00 %")
    assert [line.split()[0] for line in bars] == ["A", "B"]
    assert [line.split()[-2] for line in bars] == ["25.00", "75.00"]


def test_a_progress_bar_shows_share_and_note():
    """The bar shows how much is done, and the note unless it repeats the title."""
    console = terminal()

    with progress_bar("train", console) as advance:
        advance(1, 4, "epoch 1/4")
        advance(2, 4, "train")

    text = console.file.getvalue()
    assert "train" in text
    assert "50 %" in text


@pytest.mark.parametrize("width", [60, 80])
def test_no_figure_of_a_progress_bar_is_cut_off(width):
    """On a narrow terminal the note gives way, and the time that has passed; not the time that is left."""
    console = Console(file=StringIO(), width=width, force_terminal=True, color_system=None)

    with progress_bar("train convnet fast", console) as advance:
        advance(1, 4, "epoch 3/9, hard rows  loss 0.41")

    assert re.search(r"25 % (0:00:00 )?-:--:-- epoch 3/9", console.file.getvalue())


def test_there_is_no_progress_bar_off_a_terminal():
    """A log file gets nothing."""
    console = Console(file=StringIO())

    with progress_bar("train", console) as advance:
        advance(1, 4, "epoch 1/4")

    assert console.file.getvalue() == ""


@pytest.mark.parametrize("python", [(3, 13), (3, 14)])
def test_torch_is_silent_about_what_fastai_uses(python, monkeypatch):
    """Its warning about `torch.jit.script`, which differs from Python 3.14 on, does not reach the user."""
    import torch

    monkeypatch.setattr("torch.jit._script.sys", SimpleNamespace(version_info=python))
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        torch.jit.script(torch.nn.Identity())
        assert [warning.category for warning in shown] == [FutureWarning]
        silence_torch()
        torch.jit.script(torch.nn.Identity())

    assert len(shown) == 1


@pytest.mark.parametrize(("encoding", "printed"), [("ascii", "a -> b - ?\n"), ("utf-8", "a → b – ★\n")])
def test_a_terminal_without_utf_8_shows_what_it_can(monkeypatch, encoding, printed):
    """An arrow is printed as `->` instead of ending the command; a terminal that knows it gets the arrow."""
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, TextIOWrapper(BytesIO(), encoding=encoding))

    print_anywhere()
    print("a → b – ★", flush=True)

    assert sys.stdout.buffer.getvalue().decode(encoding) == printed
