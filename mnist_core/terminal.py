"""What the command line shows on a terminal: a progress bar, and a prediction with a bar for each class."""

from __future__ import annotations

import codecs
import io
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mnist_core.progress import Progress
from mnist_core.spec import DIGIT_RECOGNIZER

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.console import Console, RenderableType
    from rich.text import Text

WIDE = 80
"""Columns of a terminal whose bars show the time that has passed too."""
FIGURES = 36
"""Columns that a bar's figures take, beside its title and a note."""
BAR = 30
"""Characters of the bar of a class that is certain."""
MOST_BARS = 26
"""Most classes that all have a bar."""
LIKELY = 10
"""How many likely classes have one if there are more."""
SHADES = " .:-=+*#%@"
"""Characters for no ink to full ink."""
PLAIN = {
    "→": "->",
    "–": "-",
    "…": "...",
    "·": ".",
    "×": "x",
    "±": "+-",
    "≥": ">=",
    "≤": "<=",
    "━": "-",
    "╸": "-",
}
"""What is printed for a character that an encoding does not have; for any other one `?`."""


def silence_torch() -> None:
    """Ignore what torch says about fastai's use of `torch.jit`: nothing that the user can change.

    From Python 3.14 on it has other words than before.
    """
    warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is (deprecated|not supported in)", FutureWarning)


def print_anywhere() -> None:
    """Let both output streams take every character, whatever their encoding: `→` becomes `->`.

    Otherwise one arrow ends a command on a terminal, or in a pipe, that knows ASCII or Latin-1 alone.
    """
    codecs.register_error("mnist.plain", _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="mnist.plain")


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Return what stands for the characters that an encoding does not have, and where they end."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    return "".join(PLAIN.get(letter, "?") for letter in letters), error.end


@contextmanager
def progress_bar(title: str, console: Console) -> Iterator[Progress]:
    """Show a bar on a terminal while the block runs, and yield the function that advances it."""
    if not console.is_terminal:
        yield lambda _done, _total, _note: None
        return
    from rich import progress

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.TextColumn("{task.percentage:>3.0f} %"),
        *([progress.TimeElapsedColumn()] if console.width >= WIDE else []),
        progress.TimeRemainingColumn(),
        progress.TextColumn("{task.fields[note]}"),
    )
    room = console.width - len(title) - FIGURES
    with progress.Progress(*columns, console=console, transient=True) as bars:
        bar = bars.add_task(title, total=None, note="")

        def advance(done: int, total: int, note: str) -> None:
            shown = note if len(note) <= room else re.split(r",|  ", note)[0]
            bars.update(bar, completed=done, total=total, note="" if title.startswith(note) else shown)

        yield advance


def draw_in_letters(digit: NDArray[np.uint8]) -> str:
    """Return a picture, uint8 (28, 28), as 14 lines of plain characters, two rows of pixels in a line."""
    grey = _even(digit) if digit.ndim == 2 else _even(digit).astype(int).sum(2) // 3
    darkness = (grey[::2].astype(int) + grey[1::2]) // 2 * len(SHADES) // 256
    return "\n".join("".join(SHADES[shade] for shade in line).rstrip() for line in darkness.tolist())


def show_prediction(
    console: Console,
    digit: NDArray[np.uint8],
    probabilities: NDArray[np.float32],
    title: str,
    classes: Sequence[str] = DIGIT_RECOGNIZER.classes,
) -> RenderableType:
    """Return the answer with a bar for each class; on a colour terminal, beside the digit as it was read.

    Of many classes the likeliest have bars.

    Args:
        console: decides whether there are colours, and more than ASCII.
        digit: uint8 (28, 28).
        probabilities: float (10,).
        title: the first line.
        classes: their names.
    """
    from rich.bar import Bar
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    best = int(probabilities.argmax())
    bars = Table.grid(padding=(0, 1))
    shown = range(len(classes)) if len(classes) <= MOST_BARS else probabilities.argsort()[::-1][:LIKELY]
    for number in map(int, shown):
        probability = float(probabilities[number])
        style, colour = ("bold green", "green") if number == best else ("dim", "default")
        bar: RenderableType = Bar(1, 0, probability, width=BAR, color=colour)
        if console.options.ascii_only:
            bar = Text("#" * round(BAR * probability))
        bars.add_row(Text(classes[number], style), bar, Text(f"{100 * probability:6.2f} %", style))
    more = [Text(f"and {len(classes) - len(shown)} others")] if len(shown) < len(classes) else []
    best_of = Text(f"{classes[best]}  with {100 * probabilities[best]:.2f} %", "bold")
    answer = Group(best_of, "", bars, *more)
    if not console.is_terminal or console.color_system is None or console.options.ascii_only:
        return Group(Text(title), answer)
    beside = Table.grid(padding=(0, 3, 0, 0))
    beside.add_row(draw_in_blocks(digit), answer)
    return Group(Text(title), "", beside)


def draw_in_blocks(digit: NDArray[np.uint8]) -> Text:
    """Return a digit as text, two rows of pixels in a line: an upper half block has two colours."""
    import numpy as np
    from rich.text import Text

    picture = Text()
    rows = _even(digit)
    colours = (rows if digit.ndim == 3 else np.repeat(rows[:, :, None], 3, 2)).tolist()
    for upper, lower in zip(colours[::2], colours[1::2], strict=True):
        for above, below in zip(upper, lower, strict=True):
            picture.append("▀", f"rgb({','.join(map(str, above))}) on rgb({','.join(map(str, below))})")
        picture.append("\n")
    return picture


def _even(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a picture with an even number of rows, a black one added if need be."""
    import numpy as np

    return np.pad(picture, [(0, len(picture) % 2), *[(0, 0)] * (picture.ndim - 1)])
