"""`python -m mnist_core spec`: write a competition's specification from its files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from mnist_core.errors import DataError
from mnist_core.metric import Metric


def spec(
    train: Annotated[Path, typer.Argument(metavar="TRAIN", help="The training file, with labels.")],
    test: Annotated[Path, typer.Argument(metavar="TEST", help="The test file, without.")],
    sample: Annotated[Path, typer.Argument(metavar="SAMPLE", help="The sample submission.")],
    name: Annotated[str, typer.Option(help="Name of the competition, as in its URL.")],
    out: Annotated[Path, typer.Option(help="File to write.")] = Path("spec.toml"),
    shape: Annotated[
        str | None,
        typer.Option(
            help="ROWSxCOLUMNS of a picture, or ROWSxCOLUMNSx3 in colour (default: square pictures)."
        ),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(help="The label's column; without a header its number, -1 the last (default: found)."),
    ] = None,
    metric: Annotated[
        Metric | None, typer.Option(help="How submissions are scored (default: as the sample suggests).")
    ] = None,
    transposed: Annotated[
        bool, typer.Option("--transposed", help="The files hold pictures column by column.")
    ] = False,
) -> None:
    """Write a competition's specification from its files, and say what was guessed."""
    from mnist_core.digits import read_test, read_train
    from mnist_core.guess_spec import Known, guess_spec
    from mnist_core.spec import parse_spec

    if out.exists():
        raise DataError(f"{out}: exists already", "name another file with --out, or remove it")
    guess = guess_spec(
        train, test, sample, Known(name, _read_shape(shape), label, metric, transposed or None)
    )
    for note in guess.notes:
        typer.echo(f"guessed: {note}", err=True)
    found = parse_spec(guess.text, str(out), out.parent)
    out.write_text(guess.text, "utf-8")
    read = len(read_train(train, found)), len(read_test(test, found))
    typer.echo(
        f"{out}: {found.class_count} classes, {found.size}; read {read[0]:,} + {read[1]:,} rows with it"
    )


def _read_shape(text: str | None) -> tuple[int, int, int] | None:
    if text is None:
        return None
    if not re.fullmatch(r"\d{1,4}x\d{1,4}(x[13])?", text):
        raise typer.BadParameter(f"{text} is not like 28x28, or 32x32x3", param_hint="--shape")
    rows, columns, *channels = map(int, text.split("x"))
    return rows, columns, channels[0] if channels else 1
