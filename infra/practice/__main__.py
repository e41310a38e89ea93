"""`python -m infra.practice`: a practice competition in the foreground, for people."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from infra.practice.errors import PracticeError
from mnist_core.errors import MnistError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def practice(
    home: Annotated[Path, typer.Option(help="Its submissions, zips and credentials.")] = Path(
        ".mnist/practice"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 8765,
    split_seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Which split it deals.")] = 0,
    daily_limit: Annotated[int, typer.Option(min=0, help="Submissions a day.")] = 10,
    day_seconds: Annotated[float, typer.Option(min=0.1, help="Length of a day.")] = 86400,
    score_seconds: Annotated[float, typer.Option(min=0, help="From PENDING to a score.")] = 1.0,
    fault: Annotated[list[str] | None, typer.Option(help="name[:count[:rpc]], repeatable.")] = None,
    while_jobs: Annotated[bool, typer.Option("--while-jobs", hidden=True)] = False,
) -> None:
    """The digit-recognizer competition on loopback, for the real Kaggle client. Ctrl-C ends it."""
    from infra.practice.faults import Fault, make_fault
    from infra.practice.server import serve

    def read_fault(text: str) -> Fault:
        name, count, rpc = [*text.split(":"), "", ""][:3]
        try:
            return make_fault({"name": name, "count": int(count or 1), "rpc": rpc or None})
        except (PracticeError, ValueError) as error:
            raise typer.BadParameter(f"{text}: {error}", param_hint="--fault") from error

    def announce(url: str) -> None:
        typer.echo(f"Practice competition digit-recognizer, split {split_seed}, at {url}")
        typer.echo("Point a job or a Kaggle client at it with")
        typer.echo(f"  export MNIST_KAGGLE={url}")
        typer.echo(f"  export KAGGLE_API_TOKEN={home.resolve() / 'access_token'}")
        typer.echo(f"or with KAGGLE_USERNAME and KAGGLE_KEY from {home.resolve() / 'credentials.json'}")

    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    serve(
        home,
        port=port,
        split_seed=split_seed,
        daily_limit=daily_limit,
        day_seconds=day_seconds,
        score_seconds=score_seconds,
        faults=[read_fault(text) for text in fault or []],
        announce=announce,
        while_jobs=while_jobs,
    )


def main() -> None:
    """Run the command; an error of ours is one line and exit 1."""
    try:
        app()
    except MnistError as error:
        typer.echo(f"mnist-practice: {error}", err=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
