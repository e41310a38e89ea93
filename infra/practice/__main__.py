"""`python -m infra.practice`: a practice server in the foreground."""

import logging
import shlex
from pathlib import Path
from typing import Annotated

import typer

from infra.practice.errors import PracticeError
from infra.practice.options import PracticeOptions
from mnist_core.errors import MnistError
from mnist_core.spec import DIGIT_RECOGNIZER, SPECS
from mnist_core.terminal import print_anywhere

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
DEFAULT = PracticeOptions()


@app.command()
def practice(
    home: Annotated[Path, typer.Option(help="Folder of its submissions, zips and credentials.")] = Path(
        ".mnist/practice"
    ),
    competition: Annotated[
        str, typer.Option(help=f"Opened at once: {' or '.join(SPECS)}; the others open on their first call.")
    ] = DIGIT_RECOGNIZER.name,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0: any free one.")] = 8765,
    split_seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="Seed of the split into training and test rows.")
    ] = DEFAULT.split_seed,
    daily_limit: Annotated[
        int, typer.Option(min=0, help="Submissions a day and competition.")
    ] = DEFAULT.daily_limit,
    day_seconds: Annotated[
        float, typer.Option(min=0.1, help="Length of a day in seconds.")
    ] = DEFAULT.day_seconds,
    score_seconds: Annotated[
        float, typer.Option(min=0, help="Seconds from a submission to its score.")
    ] = DEFAULT.score_seconds,
    fault: Annotated[list[str] | None, typer.Option(help="name[:count[:rpc]], repeatable.")] = None,
    while_jobs: Annotated[bool, typer.Option("--while-jobs", hidden=True)] = False,
) -> None:
    """Serve the built-in competitions on loopback for the real Kaggle client. Ctrl-C stops it."""
    from infra.practice.faults import Fault, make_fault
    from infra.practice.server import serve

    def read_fault(text: str) -> Fault:
        name, count, rpc = [*text.split(":"), "", ""][:3]
        try:
            return make_fault({"name": name, "count": int(count or 1), "rpc": rpc or None})
        except (PracticeError, ValueError) as error:
            raise typer.BadParameter(f"{text}: {error}", param_hint="--fault") from error

    def announce(url: str) -> None:
        typer.echo(f"Practice server with {', '.join(SPECS)} (split {split_seed}) at {url}")
        typer.echo("Point a job at it with")
        typer.echo(f"  export MNIST_KAGGLE={url}")
        typer.echo(
            f'  export MNIST_KAGGLE_TOKEN="$(cat {shlex.quote(str(home.resolve() / "access_token"))})"'
        )

    if competition not in SPECS:
        raise typer.BadParameter(
            f"{competition!r} is not one of {', '.join(SPECS)}", param_hint="--competition"
        )
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    serve(
        home,
        SPECS[competition],
        PracticeOptions(split_seed, daily_limit, day_seconds, score_seconds),
        port=port,
        faults=[read_fault(text) for text in fault or []],
        announce=announce,
        while_jobs=while_jobs,
    )


def main() -> None:
    """Run the command; an expected error is one line and exit code 1."""
    print_anywhere()
    try:
        app()
    except MnistError as error:
        typer.echo(f"mnist-practice: {error}", err=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
