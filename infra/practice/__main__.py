"""`python -m infra.practice`: a practice server in the foreground."""

import logging
import shlex
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from infra.practice import catalog
from infra.practice.errors import PracticeError
from infra.practice.faults import Fault, make_fault
from infra.practice.options import PracticeOptions
from mnist_core.errors import MnistError
from mnist_core.spec import DIGIT_RECOGNIZER, parse_spec
from mnist_core.terminal import print_anywhere

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
DEFAULT = PracticeOptions()


@app.command()
def practice(
    home: Annotated[Path, typer.Option(help="Folder of its submissions, zips and credentials.")] = Path(
        ".mnist/practice"
    ),
    competition: Annotated[
        str,
        typer.Option(
            help="Opened at once: a built-in one, or one that the home offers; the others open on their "
            "first call.",
        ),
    ] = DIGIT_RECOGNIZER.name,
    spec: Annotated[
        Path | None, typer.Option(help="Specification of a competition to offer and to open, a TOML file.")
    ] = None,
    labelled: Annotated[
        Path | None,
        typer.Option("--data", help="Its labelled rows, CSV or npz (default: the specification's source)."),
    ] = None,
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
    """Serve competitions on loopback for the real Kaggle client. Ctrl-C stops it."""
    from infra.practice.server import serve

    opened = _choose(home, competition, spec, labelled)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    serve(
        home,
        opened,
        PracticeOptions(split_seed, daily_limit, day_seconds, score_seconds),
        port=port,
        faults=[_read_fault(text) for text in fault or []],
        announce=partial(_announce, home, split_seed),
        while_jobs=while_jobs,
    )


def _choose(home: Path, competition: str, spec: Path | None, labelled: Path | None) -> catalog.Offer:
    """Return what is opened at once, offered first if it has a specification."""
    if spec is not None:
        text = _read_text(spec)
        source = parse_spec(text, str(spec), spec.parent).source
        competition = catalog.offer(home, text, labelled or Path(source)).name
    opened = catalog.find(home, competition)
    if opened is None:
        raise typer.BadParameter(
            f"{competition!r} is not one of {', '.join(catalog.names(home))}", param_hint="--competition"
        )
    return opened


def _announce(home: Path, split_seed: int, url: str) -> None:
    typer.echo(f"Practice server with {', '.join(catalog.names(home))} (split {split_seed}) at {url}")
    typer.echo("Point a job at it with")
    typer.echo(f"  export MNIST_KAGGLE={url}")
    typer.echo(f'  export MNIST_KAGGLE_TOKEN="$(cat {shlex.quote(str(home.resolve() / "access_token"))})"')


def _read_fault(text: str) -> Fault:
    name, count, rpc = [*text.split(":"), "", ""][:3]
    try:
        return make_fault({"name": name, "count": int(count or 1), "rpc": rpc or None})
    except (PracticeError, ValueError) as error:
        raise typer.BadParameter(f"{text}: {error}", param_hint="--fault") from error


def _read_text(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{file}: cannot be read ({error})", param_hint="--spec") from error


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
