"""The library from the command line: `python -m mnist_core …`, or `mnist-core …` where it is installed."""

from __future__ import annotations

import sys
from pathlib import Path
from time import perf_counter
from typing import Annotated

import typer

from mnist_core import __version__
from mnist_core.errors import MnistError

app = typer.Typer(
    help="Digits in, predictions out.", no_args_is_help=True, add_completion=False, rich_markup_mode=None
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mnist_core {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Digits in, predictions out."""


@app.command()
def submission(
    bundle: Annotated[Path, typer.Argument(help="Folder of an exported learner.")],
    test_csv: Annotated[Path, typer.Argument(help="test.csv of digit-recognizer.")],
    out: Annotated[Path, typer.Argument(help="Where to write submission.csv.")],
) -> None:
    """Predict test.csv with an exported learner, on the CPU, and write submission.csv."""
    start = perf_counter()
    from mnist_core import load, predict, read_test, to_csv

    net, manifest = load(bundle)
    probabilities = predict(net, read_test(test_csv).pixels)
    out.write_bytes(to_csv(probabilities.argmax(1)))
    typer.echo(
        f"{out}: {len(probabilities):,} digits by {manifest['model']} in {perf_counter() - start:.1f} s",
        err=True,
    )


def main() -> None:
    """Run the command line; what a person can put right ends in one line and exit code 1."""
    try:
        app()
    except (MnistError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
