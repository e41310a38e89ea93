"""`python -m infra.practice.examples`: make an example competition in a folder."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from infra.practice.examples.make import Example, make_example
from mnist_core.errors import MnistError
from mnist_core.terminal import print_anywhere

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def make(
    example: Annotated[Example, typer.Argument(help="Which competition.")],
    folder: Annotated[Path, typer.Argument(help="Folder for labelled.csv and spec.toml.")],
    rows: Annotated[int | None, typer.Option(min=1, help="Labelled rows (default: the example's).")] = None,
    test_rows: Annotated[
        int | None,
        typer.Option(min=1, help="How many of them become the test file (default: the example's share)."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of what is drawn at random.")] = 0,
) -> None:
    """Make an example competition: labelled pictures, and the specification beside them."""
    spec = make_example(example, folder, rows=rows, test_rows=test_rows, seed=seed)
    typer.echo(f"{spec.parent}: labelled.csv and spec.toml. Run its first night with")
    typer.echo(f"  MNIST_SPEC={shlex.quote(str(spec))} python -m flows nightly")


def main() -> None:
    """Run the command; an expected error is one line and exit code 1."""
    print_anywhere()
    try:
        app()
    except MnistError as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
