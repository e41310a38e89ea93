"""The library from the command line: `python -m mnist_core …`, or `mnist-core …` if it is installed.

Progress and messages go to standard error; results go to standard output or into a file. The guide is
mnist_core/README.md.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated

import typer

from mnist_core import __version__
from mnist_core.command_options import Competition, Source, log, spec_of, usage
from mnist_core.cores import let_threads_sleep
from mnist_core.errors import BundleError, DataError, MnistError, ModelError
from mnist_core.models.base import COMMON_PRESETS, find, kinds
from mnist_core.predict_commands import predict, submission
from mnist_core.recipes import Value, apply, read_recipe
from mnist_core.sources import digest_of, read_labelled, read_source, show_progress
from mnist_core.spec import DIGIT_RECOGNIZER
from mnist_core.spec_command import spec as write_spec
from mnist_core.terminal import print_anywhere, silence_torch
from mnist_core.windows import refuse_windows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mnist_core.digits import Digits
    from mnist_core.models.network import Network

app = typer.Typer(
    help="Read, train, predict and draw handwritten digits.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

ORIGINAL = {"resnet18": ("origin",)}
"""Presets that keep their own split of the rows (`holdout.ORIGIN`), beside those of the registry."""
LIMIT = 1000
"""Most digits side by side, or below each other, on a sheet."""


class Device(StrEnum):
    """Where a model is trained; `auto` is a GPU if there is one."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class Order(StrEnum):
    """In which order digits stand on a sheet."""

    FIRST = "first"
    CLASS = "class"
    HARDNESS = "hardness"


def _presets(model: str) -> list[str]:
    return [*kinds()[model].presets, *ORIGINAL.get(model, ())]


def _preset_help() -> str:
    """Return the presets of every model, and those that only one model has."""
    own = {model: [name for name in _presets(model) if name not in COMMON_PRESETS] for model in kinds()}
    more = "; ".join(f"{model} also {', '.join(names)}" for model, names in own.items() if names)
    return f"Training recipe: {', '.join(COMMON_PRESETS)}; {more}."


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mnist_core {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """Read, train, predict and draw handwritten digits."""


@app.command()
def convert(
    source: Source,
    out: Annotated[
        Path,
        typer.Argument(metavar="OUT", help="A folder for PNGs if SOURCE is a CSV file, else a CSV file."),
    ],
    spec: Competition = None,
) -> None:
    """Convert a CSV file to PNGs, or PNGs to a CSV file.

    No pixel changes. Labelled digits become OUT/<label>/<i>.png, others OUT/<i>.png. If it is interrupted,
    the same command resumes. A folder may also be fastai's mnist_png (training/<label>/…,
    testing/<label>/…), with any file names.
    """
    start = perf_counter()
    from mnist_core import write_csv, write_pngs

    competition = spec_of(spec)
    if not source.exists():
        raise DataError(f"{source}: does not exist")
    to_csv = source.is_dir()
    if to_csv and out.is_dir():
        raise usage(f"{source} is a folder, so OUT is a CSV file; {out} is a folder", "OUT")
    if not to_csv and (out.is_file() or out.suffix.lower() == ".csv"):
        raise usage(f"{source} is a file, so OUT is a folder for PNGs; {out} is a file", "OUT")
    digits = read_source(source, competition)
    note = ""
    if to_csv:
        write_csv(digits, out)
    else:
        with show_progress("write") as progress:
            written = write_pngs(digits, out, progress=progress)
        note = f", {written:,} of them written now" if written < len(digits) else ""
    log(f"{out}: {len(digits):,} digits{note} in {perf_counter() - start:.1f} s")


@app.command()
def train(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE", help=f"{DIGIT_RECOGNIZER.train_file}, or a folder of labelled PNGs."
        ),
    ],
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="New folder for the exported learner.")],
    model: Annotated[str, typer.Option(help=f"Model to train: {', '.join(kinds())}.")] = "convnet",
    preset: Annotated[str, typer.Option(help=_preset_help())] = "fast",
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Random seed.")] = 0,
    device: Annotated[
        Device, typer.Option(help="Device to train on; auto is a GPU if there is one.")
    ] = Device.AUTO,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Number of epochs (default: the preset's).")
    ] = None,
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="Start from ImageNet weights (default: from scratch).")
    ] = False,
    teacher: Annotated[
        Path | None,
        typer.Option(
            help="Folder of a learner that was trained on the same digits, whose probabilities the new one "
            "learns instead of the labels (default: none)."
        ),
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(help="TOML file of the fields in which the recipe differs from the preset's."),
    ] = None,
    spec: Competition = None,
) -> None:
    """Train, evaluate and export a model.

    It is evaluated on a fifth of the digits, which are held out: fold 0 of the nightly job's rule, which
    depends on the digits alone. The preset `origin` keeps its own split, RandomSplitter(0.2, seed=42). The
    exported learner is a folder with a fastai Learner, an ONNX graph, weights and a manifest.
    """
    if bundle.exists() and (not bundle.is_dir() or any(bundle.iterdir())):
        raise BundleError(f"{bundle}: exists already", "name a new folder for the learner")
    _check_model(model, preset, teacher)
    values = _read_recipe(recipe, model, preset)
    digits = read_labelled(source, spec_of(spec))
    digest = digest_of(source, digits)
    from mnist_core import export
    from mnist_core.holdout import fit_held_out

    network, files = (None, None) if teacher is None else _load_teacher(teacher, digest)
    with show_progress(f"train {model} {preset}") as progress:
        trained = fit_held_out(
            digits, digest, model, preset, seed=seed, device=device, epochs=epochs,
            pretrained=pretrained, teacher=network, values=values, progress=progress,
        )  # fmt: skip
    given = {
        "seed": seed, "preset": preset, "epochs": epochs, "recipe": values, "pretrained": pretrained,
        "teacher": files,
    }  # fmt: skip
    export(trained.net, bundle, {"data_digest": digest, **given, **trained.facts}, spec=digits.spec)
    evaluation = trained.evaluation
    low, high = evaluation.interval
    log(f"{bundle}: {model} {preset}, trained on {trained.rows:,} digits in {trained.seconds:.1f} s")
    typer.echo(
        f"accuracy {evaluation.accuracy:.4f} on {evaluation.n:,} held-out digits "
        f"(95 % interval {low:.4f} to {high:.4f})"
    )


@app.command()
def sheet(
    source: Source,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Picture to write, a PNG.")],
    columns: Annotated[int, typer.Option(min=1, max=LIMIT, help="Digits side by side.")] = 5,
    rows: Annotated[int, typer.Option(min=1, max=LIMIT, help="Digits below each other.")] = 5,
    order: Annotated[
        Order,
        typer.Option(
            help="Order of the digits: first, as in SOURCE; class, the same number of each; hardness, those "
            "first whose true class gets the lowest probability from --bundle."
        ),
    ] = Order.FIRST,
    bundle: Annotated[
        Path | None,
        typer.Option(help="Folder of an exported learner, for hardness, or for class without labels."),
    ] = None,
    scale: Annotated[int, typer.Option(min=1, max=100, help="Edge of a digit's pixel, in pixels.")] = 4,
    gap: Annotated[
        int | None,
        typer.Option(min=0, max=LIMIT, help="Pixels between digits (default: 0, or 4 with captions)."),
    ] = None,
    spec: Competition = None,
) -> None:
    """Draw many digits side by side, as a picture."""
    if out.suffix.lower() != ".png":
        raise usage(f"{out} is not a PNG, and other formats blur the digits; name it *.png", "OUT")
    if order is Order.HARDNESS and bundle is None:
        raise usage("hardness is judged by a learner: name one", "--bundle")
    read = read_source if order is not Order.HARDNESS else read_labelled
    digits = read(source, spec_of(spec, bundle))
    from mnist_core.drawing import sheet as draw

    chosen, captions = _choose(digits, columns * rows, order, bundle)
    if gap is None:
        gap = 4 if captions else 0
    draw(digits.pixels[chosen], columns, scale, captions, gap).save(out, "PNG")
    log(
        f"{out}: {len(chosen):,} of {len(digits):,} digits, ordered by {order}"
        if order is not Order.FIRST
        else f"{out}: the first {len(chosen):,} of {len(digits):,} digits"
    )


app.command()(predict)
app.command()(submission)
app.command("spec")(write_spec)


def _check_model(model: str, preset: str, teacher: Path | None) -> None:
    """Raise a usage error if the options do not fit together."""
    try:
        kind = find(model)
    except ModelError as error:
        raise usage(str(error), "--model") from None
    if preset not in _presets(model):
        raise usage(
            f"{model} has no preset {preset!r}; choose one of {', '.join(_presets(model))}", "--preset"
        )
    if teacher is not None and not kind.teachable:
        able = ", ".join(other.name for other in kinds().values() if other.teachable)
        raise usage(f"{model} cannot learn from a teacher, only {able} can", "--teacher")


def _read_recipe(file: Path | None, model: str, preset: str) -> dict[str, Value]:
    """Return the values of a recipe's file, checked against the model's bounds; none without a file."""
    if file is None:
        return {}
    kind, values = find(model), read_recipe(file)
    if preset not in kind.presets:
        raise ModelError(f"{model} has no preset {preset!r} that a recipe can change", "choose another one")
    apply(kind.recipe(preset), values, kind.space_of(kind.recipe(preset)), str(file))
    return values


def _load_teacher(folder: Path, digest: str) -> tuple[Network, object]:
    """Return the network of a bundle, and the digests of its files, if it was trained on the same digits."""
    from mnist_core import load

    network, manifest = load(folder)
    if manifest.facts.get("data_digest") != digest:
        raise BundleError(
            f"{folder}: was trained on other digits, perhaps on those to be held out here",
            "name a learner that `train` made of the same digits",
        )
    return network, manifest.to_json()["files"]


def _choose(
    digits: Digits, count: int, order: Order, bundle: Path | None
) -> tuple[NDArray[np.int64], list[str] | None]:
    """Return which digits stand on a sheet, in order, and their captions if they have any."""
    import numpy as np

    from mnist_core.drawing import error_captions, pick_by_class

    if order is Order.FIRST:
        return np.arange(len(digits))[:count], None
    if order is Order.CLASS and digits.labels is not None:
        return pick_by_class(digits.labels, count), None
    if bundle is None:
        raise DataError("these digits have no labels to sort by", "name a learner with --bundle")
    from mnist_core import evaluate, open_model

    with show_progress("predict") as progress:
        probabilities = open_model(bundle).predict(digits.pixels, progress=progress)
    if order is Order.CLASS:
        return pick_by_class(probabilities.argmax(1), count), None
    labels = digits.true_labels
    hardest = evaluate(probabilities, labels, digits.spec).hardest[:count]
    return hardest, error_captions(labels[hardest], probabilities[hardest], digits.spec.classes)


def main() -> None:
    """Run the command line; an error that the user can fix is one line and exit code 1."""
    refuse_windows()
    print_anywhere()
    let_threads_sleep()
    silence_torch()
    try:
        app()
    except MnistError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
    except OSError as error:
        problem = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        remedy = "create its folder, free disk space, or fix the permissions"
        typer.echo(f"error: {problem}; {remedy}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
