"""`python -m mnist_core predict` and `submission`: what a bundle makes of a picture and of the test file."""

from __future__ import annotations

import json
from pathlib import Path
from time import perf_counter
from typing import Annotated

import typer

from mnist_core.command_options import Bundle, Competition, log, spec_of, usage
from mnist_core.errors import DataError
from mnist_core.sources import read_one, read_source, show_progress
from mnist_core.spec import DIGIT_RECOGNIZER

SURE = 0.9
"""Probability below which `predict` says that it is not sure."""
TABLES = (".csv", ".gz", ".tsv", ".txt")
"""How the names of files with rows end."""
PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
"""How the names of pictures end."""


def predict(
    bundle: Bundle,
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help=f"A picture of a digit, or {DIGIT_RECOGNIZER.train_file} or {DIGIT_RECOGNIZER.test_file}.",
        ),
    ],
    row: Annotated[int | None, typer.Option(min=1, help="Row of a CSV file, counted from 1.")] = None,
    show: Annotated[
        bool, typer.Option("--show", help="Draw on standard error what the network saw, in characters.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
    spec: Competition = None,
) -> None:
    """Recognise one digit.

    The source is a picture of any size, white on black or black on white, or a row of a CSV file.
    """
    suffix = source.suffix.lower()
    if suffix in TABLES and row is None:
        raise usage("a CSV file holds many digits: say which one, counted from 1", "--row")
    if suffix in PICTURES and row is not None:
        raise usage(f"{source} is not a CSV file: a picture holds one digit", "--row")
    competition = spec_of(spec, bundle)
    digit, label = read_one(source, row, competition)

    from mnist_core import open_model
    from mnist_core.terminal import draw_in_letters, show_prediction

    if show:
        log(draw_in_letters(digit))
    model = open_model(bundle)
    name, probabilities = model.manifest.model, model.predict(digit[None])[0]
    second, first = probabilities.argsort()[-2:]
    classes = competition.classes
    if probabilities[first] < SURE:
        log(f"not sure: {classes[first]} or {classes[second]}")
    if as_json:
        result = {
            "digit": int(probabilities.argmax()),
            "class": classes[probabilities.argmax()],
            "probabilities": [float(probability) for probability in probabilities],
            "source": str(source),
            "row": row,
            "label": label,
            "model": name,
            "sure": bool(probabilities[first] >= SURE),
        }
        typer.echo(json.dumps(result))
        return
    from rich.console import Console

    console = Console(highlight=False)
    where = f"row {row} of {source}" if row else str(source)
    if label is not None:
        where += f", labelled {classes[label]}"
    console.print(show_prediction(console, digit, probabilities, f"{where}, as {name} reads it", classes))


def submission(
    bundle: Bundle,
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE", help=f"The competition's {DIGIT_RECOGNIZER.test_file}, or a folder of its PNGs."
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Submission file to write.")],
    clip: Annotated[
        bool,
        typer.Option("--clip", help="Write the nearest digit if scratch-regression predicts -1, 10 or 11."),
    ] = False,
    spec: Competition = None,
) -> None:
    """Predict the test file and write a submission."""
    start = perf_counter()
    from concurrent.futures import ThreadPoolExecutor

    from mnist_core import open_model, to_csv

    competition = spec_of(spec, bundle)
    with ThreadPoolExecutor(1) as pool:
        opening = pool.submit(open_model, bundle)  # while the digits are read
        digits = read_source(source, competition)
        model = opening.result()
    if digits.labels is not None:
        raise DataError(
            f"{source}: has labels, and a submission is for digits without", f"use {competition.test_file}"
        )
    rows = competition.test_rows
    if rows is not None and len(digits) != rows:
        raise DataError(
            f"{source}: {len(digits):,} digits, and a submission has {rows:,}",
            f"use all of {competition.test_file}",
        )
    with show_progress("predict") as progress:
        run = model.predict if competition.metric.of_probabilities else model.read_labels
        predicted = run(digits.pixels, progress=progress)
    out.write_bytes(to_csv(predicted, competition, ids=digits.ids, clip=clip))
    seconds = perf_counter() - start
    log(f"{out}: {len(digits):,} digits by {model.manifest.model} in {seconds:.1f} s ({model.backend})")
