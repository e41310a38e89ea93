"""The library from the command line: `python -m mnist_core …`, or `mnist-core …` where it is installed.

How a run goes is told on standard error; what was asked for goes to standard output or into a file.
mnist_core/README.md is the guide.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated

import typer

from mnist_core import __version__
from mnist_core.errors import BundleError, DataError, MnistError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.console import Console, RenderableType
    from rich.text import Text

    from mnist_core.digits import Digits
    from mnist_core.models.network import Network

app = typer.Typer(
    help="Digits in, predictions out.", no_args_is_help=True, add_completion=False, rich_markup_mode=None
)

Source = Annotated[Path, typer.Argument(help="train.csv, test.csv, or a folder of PNGs.")]
Bundle = Annotated[Path, typer.Argument(help="Folder of an exported learner.")]


EXTRA = {"resnet18": "origin"}
"""Recipes that do not go through `fit`, beside the presets of every model."""


class Device(StrEnum):
    """Where a model is trained; `auto` is a GPU where there is one."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class Order(StrEnum):
    """In which order digits stand on a sheet."""

    FIRST = "first"
    CLASS = "class"
    HARDNESS = "hardness"


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
def convert(
    source: Source,
    out: Annotated[Path, typer.Argument(help="A folder for a CSV's PNGs, or a CSV for a folder's digits.")],
) -> None:
    """Turn train.csv or test.csv into a folder of PNGs, or such a folder into a CSV, without any loss.

    Labelled digits become OUT/<label>/<i>.png, others OUT/<i>.png. A second run writes only what is missing.
    A folder may also be fastai's mnist_png (training/<label>/…, testing/<label>/…), with any names.
    """
    start = perf_counter()
    from mnist_core import read_digits, write_csv, write_pngs

    if not source.exists():
        raise DataError(f"{source}: there is no such file or folder")
    to_csv = source.is_dir()
    if to_csv and out.is_dir():
        raise typer.BadParameter(f"{source} is a folder, so OUT is a CSV file; {out} is a folder")
    if not to_csv and (out.is_file() or out.suffix.lower() == ".csv"):
        raise typer.BadParameter(f"{source} is no folder, so OUT is one for PNGs; {out} is a file")
    with _progress("read") as progress:
        digits = read_digits(source, progress=progress)
    note = ""
    if to_csv:
        write_csv(digits, out)
    else:
        with _progress("write") as progress:
            written = write_pngs(digits, out, progress=progress)
        note = f", {written:,} of them written now" if written < len(digits) else ""
    _say(f"{out}: {len(digits):,} digits{note} in {perf_counter() - start:.1f} s")


@app.command()
def train(
    source: Annotated[Path, typer.Argument(help="train.csv, or a folder of labelled PNGs.")],
    bundle: Annotated[Path, typer.Argument(help="New folder for the exported learner.")],
    model: Annotated[
        str, typer.Option(help="convnet, ensemble, resnet18, scratch (plain tensors) or scratch-regression.")
    ] = "convnet",
    preset: Annotated[
        str,
        typer.Option(
            help="fast, balanced or best; for convnet also wide, best with four times the work; for resnet18 "
            "also origin, the first notebook's recipe; for scratch also linear, the step before the net."
        ),
    ] = "fast",
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Decides everything that is drawn.")] = 0,
    device: Annotated[Device, typer.Option(help="Where it is trained.")] = Device.AUTO,
    epochs: Annotated[int | None, typer.Option(min=1, help="Instead of the preset's.")] = None,
    pretrained: Annotated[bool, typer.Option("--pretrained", help="resnet18: start from ImageNet.")] = False,
    teacher: Annotated[
        Path | None,
        typer.Option(
            help="convnet: learn what the learner of this folder says, a convnet or an ensemble that `train` "
            "made of the same digits, instead of the labels."
        ),
    ] = None,
) -> None:
    """Train a model, evaluate it on digits that it has not seen, and export it as a fastai Learner.

    Held back is a fifth: fold 0 of the nightly job's rule, fixed by the digits alone. The recipe `origin`
    keeps its own split, RandomSplitter(0.2, seed=42).
    """
    if bundle.exists() and (not bundle.is_dir() or any(bundle.iterdir())):
        raise BundleError(f"{bundle}: is there already; name a new folder for the learner")
    from mnist_core import assign_folds, evaluate, export, fit, kinds, load, predict

    if model not in kinds():
        raise typer.BadParameter(f"there is no model {model!r}, only {', '.join(kinds())}")
    presets = [*kinds()[model].presets, *([EXTRA[model]] if model in EXTRA else [])]
    if preset not in presets:
        raise typer.BadParameter(f"{model} has no preset {preset!r}, only {', '.join(presets)}")
    if teacher is not None and not kinds()[model].teachable:
        raise typer.BadParameter(f"--teacher: a convnet learns from one, {model} does not")
    with _progress("read") as progress:
        digits = _read_labelled(source, progress)
    assert digits.labels is not None
    digest = _digest(source, digits)
    teaching, taught_by = (None, None) if teacher is None else load(teacher)
    if taught_by is not None and taught_by.facts.get("data_digest") != digest:
        raise BundleError(f"{teacher}: was trained on other digits, perhaps on those to be held out here")
    held_out = assign_folds(digits.labels, digest) == 0
    start = perf_counter()
    with _progress(f"train {model} {preset}") as progress:
        if preset == "origin":
            net, held_out = _fit_origin(digits, seed, device, epochs or 3, pretrained, progress)
        else:
            net = fit(
                digits, model, preset, rows=~held_out, seed=seed, device=device, epochs=epochs,
                pretrained=pretrained, teacher=teaching, progress=progress,
            )  # fmt: skip
    seconds = perf_counter() - start
    unseen = digits[held_out]
    assert unseen.labels is not None
    evaluation = evaluate(predict(net, unseen.pixels), unseen.labels)
    rows = len(digits) - evaluation.n
    low, high = evaluation.interval
    export(
        net,
        bundle,
        {
            "data_digest": digest,
            "seed": seed,
            "preset": preset,
            "epochs": epochs,
            "pretrained": pretrained,
            "teacher": taught_by.to_json()["files"] if taught_by else None,
            "rows": rows,
            "valid_rows": evaluation.n,
            "valid_accuracy": evaluation.accuracy,
            "valid_interval": [low, high],
            "seconds": {"train": seconds},
        },
    )
    _say(f"{bundle}: {model} {preset}, trained on {rows:,} digits in {seconds:.1f} s")
    typer.echo(
        f"accuracy {evaluation.accuracy:.4f} on {evaluation.n:,} digits that it has not seen "
        f"(95 % interval {low:.4f} to {high:.4f})"
    )


@app.command("predict")
def predict_one(
    bundle: Bundle,
    source: Annotated[Path, typer.Argument(help="A picture of a digit, or train.csv or test.csv.")],
    row: Annotated[int | None, typer.Option(min=1, help="Which digit of a CSV, counted from 1.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
) -> None:
    """Recognise one digit: a picture of any size, white on black or black on white, or a row of a CSV."""
    is_csv = source.suffix.lower() == ".csv"
    if is_csv and row is None:
        raise typer.BadParameter("a CSV holds many digits: say which one, counted from 1", param_hint="--row")
    if row is not None and not is_csv:
        raise typer.BadParameter(f"{source} is no CSV: a picture holds one digit", param_hint="--row")
    digit, label = _one(source, row)

    from mnist_core import open_model

    model = open_model(bundle)
    name, probabilities = model.manifest.model, model.predict(digit[None])[0]
    if as_json:
        result = {
            "digit": int(probabilities.argmax()),
            "probabilities": [float(probability) for probability in probabilities],
            "source": str(source),
            "row": row,
            "label": label,
            "model": name,
        }
        typer.echo(json.dumps(result))
        return
    from rich.console import Console

    console = Console(highlight=False)
    what = f"row {row} of {source}" if row else str(source)
    if label is not None:
        what += f", labelled {label}"
    console.print(_shown(console, digit, probabilities, f"{what}, as {name} reads it"))


@app.command()
def submission(
    bundle: Bundle,
    source: Annotated[Path, typer.Argument(help="test.csv of digit-recognizer, or a folder of its PNGs.")],
    out: Annotated[Path, typer.Argument(help="Where to write submission.csv.")],
    clip: Annotated[
        bool, typer.Option("--clip", help="Write 0 or 9 where scratch-regression says -1, 10 or 11.")
    ] = False,
) -> None:
    """Predict the 28,000 digits of test.csv with an exported learner, and write submission.csv."""
    start = perf_counter()
    from concurrent.futures import ThreadPoolExecutor

    from mnist_core import open_model, read_digits, read_manifest, to_csv
    from mnist_core.spec import DIGIT_RECOGNIZER as SPEC

    name = read_manifest(bundle).model
    with ThreadPoolExecutor(1) as pool, _progress("read") as progress:
        opening = pool.submit(open_model, bundle)  # while the digits are read
        digits = read_digits(source, progress=progress)
        model = opening.result()
    if digits.labels is not None:
        raise DataError(f"{source}: has labels, and a submission is for digits without; take test.csv")
    if len(digits) != SPEC.test_rows:
        raise DataError(
            f"{source}: {len(digits):,} digits, and a submission has {SPEC.test_rows:,}",
            "use all of test.csv",
        )
    with _progress("predict") as progress:
        labels = model.read_labels(digits.pixels, progress=progress)
    out.write_bytes(to_csv(labels, clip=clip))
    seconds = perf_counter() - start
    _say(f"{out}: {len(labels):,} digits by {name} in {seconds:.1f} s ({model.backend})")


@app.command()
def sheet(
    source: Source,
    out: Annotated[Path, typer.Argument(help="Where to write the picture, a PNG.")],
    columns: Annotated[int, typer.Option(min=1, max=1000, help="Digits side by side.")] = 5,
    rows: Annotated[int, typer.Option(min=1, max=1000, help="Digits below each other.")] = 5,
    order: Annotated[
        Order,
        typer.Option(
            help="As they come; by class, each as often; or the hardest first: those whose label got the "
            "lowest probability from the learner of --bundle."
        ),
    ] = Order.FIRST,
    bundle: Annotated[
        Path | None, typer.Option(help="Exported learner: for hardness, and for class without labels.")
    ] = None,
    scale: Annotated[int, typer.Option(min=1, max=100, help="Edge of a digit's pixel, pixels.")] = 4,
    gap: Annotated[
        int | None, typer.Option(min=0, max=1000, help="Pixels between digits; 0, or 4 with captions.")
    ] = None,
) -> None:
    """Make a picture of many digits side by side, each pixel a crisp square."""
    if out.suffix.lower() != ".png":
        raise typer.BadParameter(f"{out} is no PNG, and others blur the digits; name it *.png")
    if order is Order.HARDNESS and bundle is None:
        raise typer.BadParameter("hardness is for a learner to say: name one", param_hint="--bundle")
    with _progress("read") as progress:
        read = _read_labelled if order is Order.HARDNESS else _read
        digits = read(source, progress)
    from mnist_core.drawing import sheet as draw

    chosen, captions = _chosen(digits, columns * rows, order, bundle)
    if gap is None:
        gap = 4 if captions else 0
    draw(digits.pixels[chosen], columns, scale, captions, gap).save(out, "PNG")
    _say(f"{out}: {len(chosen):,} of {len(digits):,} digits, {order}")


def _read(source: Path, progress: Callable[[int, int, str], None]) -> Digits:
    from mnist_core import read_digits

    return read_digits(source, progress=progress)


def _read_labelled(source: Path, progress: Callable[[int, int, str], None]) -> Digits:
    digits = _read(source, progress)
    if digits.labels is None:
        raise DataError(f"{source}: has no labels; take train.csv, or a folder with folders named 0 to 9")
    return digits


def _one(source: Path, row: int | None) -> tuple[NDArray[np.uint8], int | None]:
    """The digit of a picture, or of a row of a CSV, and its label where it has one."""
    from mnist_core import read_digits, read_image

    if row is None:
        return read_image(source), None
    digits = read_digits(source)
    if row > len(digits):
        raise DataError(f"{source}: has {len(digits):,} rows, so there is no row {row:,}")
    return digits.pixels[row - 1], None if digits.labels is None else int(digits.labels[row - 1])


def _digest(source: Path, digits: Digits) -> str:
    """The sha256 of train.csv; of a folder, that of the train.csv with these digits."""
    from mnist_core import write_csv

    with tempfile.TemporaryDirectory() as folder:
        csv = source
        if source.is_dir():
            csv = Path(folder) / "train.csv"
            write_csv(digits, csv)
        with csv.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def _fit_origin(
    digits: Digits,
    seed: int,
    device: str,
    epochs: int,
    pretrained: bool,
    progress: Callable[[int, int, str], None],
) -> tuple[Network, NDArray[np.bool_]]:
    """Train by the first notebook's recipe, from PNGs; the network, and which digits it left out."""
    import numpy as np

    from mnist_core import pick_device, write_pngs
    from mnist_core.models.resnet.origin import fit_origin

    with tempfile.TemporaryDirectory() as folder:
        write_pngs(digits, Path(folder))
        found = fit_origin(
            Path(folder), pretrained=pretrained, seed=seed, epochs=epochs, device=pick_device(device),
            progress=progress,
        )  # fmt: skip
    held_out = np.zeros(len(digits), bool)
    held_out[[int(Path(file).stem) for file in found.valid_files]] = True
    return found.net, held_out


def _chosen(
    digits: Digits, count: int, order: Order, bundle: Path | None
) -> tuple[NDArray[np.int64], list[str] | None]:
    """Which digits stand on a sheet, in their order, and their captions if they have any."""
    import numpy as np

    if order is Order.FIRST:
        return np.arange(len(digits))[:count], None
    labels, probabilities = digits.labels, None
    if bundle is not None and (order is Order.HARDNESS or labels is None):
        from mnist_core import open_model

        with _progress("predict") as progress:
            probabilities = open_model(bundle).predict(digits.pixels, progress=progress)
    if order is Order.HARDNESS:
        from mnist_core import evaluate
        from mnist_core.drawing import error_captions

        assert labels is not None
        assert probabilities is not None
        hardest = evaluate(probabilities, labels).hardest[:count]
        return hardest, error_captions(labels[hardest], probabilities[hardest])
    if labels is None:
        if probabilities is None:
            raise DataError("these digits have no labels to go by; name a learner with --bundle")
        labels = probabilities.argmax(1)
    # The first of each class, then the second of each, until there are enough; then class by class.
    nth = np.empty(len(labels), np.int64)
    for label in range(10):
        nth[labels == label] = np.arange((labels == label).sum())
    enough = np.lexsort((labels, nth))[:count]
    return enough[np.lexsort((enough, labels[enough]))], None


def _shown(
    console: Console, digit: NDArray[np.uint8], probabilities: NDArray[np.float32], title: str
) -> RenderableType:
    """The answer, with a bar for each class; where there are colours, beside the digit as it was read."""
    from rich.bar import Bar
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    best = int(probabilities.argmax())
    bars = Table.grid(padding=(0, 1))
    for label, probability in enumerate(probabilities.tolist()):
        style, colour = ("bold green", "green") if label == best else ("dim", "default")
        bar: RenderableType = Bar(1, 0, probability, width=30, color=colour)
        if console.options.ascii_only:
            bar = Text("#" * round(30 * probability))
        bars.add_row(Text(str(label), style), bar, Text(f"{100 * probability:6.2f} %", style))
    answer = Group(Text(f"{best}  with {100 * probabilities[best]:.2f} %", "bold"), "", bars)
    if not console.is_terminal or console.color_system is None or console.options.ascii_only:
        return Group(Text(title), answer)
    beside = Table.grid(padding=(0, 3, 0, 0))
    beside.add_row(_in_blocks(digit), answer)
    return Group(Text(title), "", beside)


def _in_blocks(digit: NDArray[np.uint8]) -> Text:
    """A digit in 28 × 14 characters: an upper half block has two colours, so it is two pixels."""
    from rich.text import Text

    picture = Text()
    for upper, lower in zip(digit[::2].tolist(), digit[1::2].tolist(), strict=True):
        for above, below in zip(upper, lower, strict=True):
            picture.append("▀", f"rgb({above},{above},{above}) on rgb({below},{below},{below})")
        picture.append("\n")
    return picture


def _say_nothing(done: int, total: int, note: str = "") -> None:
    """Advance no bar."""


@contextmanager
def _progress(title: str) -> Iterator[Callable[[int, int, str], None]]:
    """A bar on a terminal, nothing elsewhere; yields `advance(done, total, note)`."""
    if not sys.stderr.isatty():
        yield _say_nothing
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        bar = bars.add_task(title, total=None, note="")

        def advance(done: int, total: int, note: str = "") -> None:
            bars.update(bar, completed=done, total=total, note=note if note != title else "")

        yield advance


def _say(line: str) -> None:
    typer.echo(line, err=True)


def main() -> None:
    """Run the command line; what a person can put right ends in one line and exit code 1."""
    # torch about a library of fastai's: nothing that a person at this command line can put right.
    warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)
    try:
        app()
    except MnistError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        typer.echo(f"error: {what}; make its folder, make room, or mend its rights", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
