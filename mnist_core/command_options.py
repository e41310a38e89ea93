"""Options that several commands of `python -m mnist_core` have, and how they report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mnist_core.errors import BundleError
from mnist_core.manifest import read_manifest
from mnist_core.spec import DIGIT_RECOGNIZER, CompetitionSpec, open_spec

Source = Annotated[
    Path,
    typer.Argument(
        metavar="SOURCE",
        help=f"{DIGIT_RECOGNIZER.train_file}, {DIGIT_RECOGNIZER.test_file}, or a folder of PNGs.",
    ),
]
Bundle = Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder of an exported learner.")]
Competition = Annotated[
    str | None,
    typer.Option(
        "--spec",
        metavar="SPEC",
        help="Specification of the competition, a TOML file, or a built-in one's name (default: that of the "
        f"bundle which is used, else {DIGIT_RECOGNIZER.name}).",
    ),
]


def spec_of(value: str | None, bundle: Path | None = None) -> CompetitionSpec:
    """Return the competition of the option `--spec`; without it a bundle's own, or digit-recognizer.

    Raises:
        BundleError: the bundle is for pictures or classes of another competition, or does not say which.
        DataError: the specification cannot be read, or has an error.
    """
    if bundle is None:
        return DIGIT_RECOGNIZER if value is None else open_spec(value)
    manifest = read_manifest(bundle)
    if value is None:
        if manifest.spec is None:
            raise BundleError(f"{bundle}: does not say of which competition it is", "name it with --spec")
        return manifest.spec
    found = open_spec(value)
    if not manifest.fits(found):
        raise BundleError(
            f"{bundle}: has pictures {manifest.shape} and {len(manifest.classes):,} classes, and {value} has "
            f"{found.shape} and {found.class_count:,}, or names them otherwise",
            "leave out --spec to use the bundle's own",
        )
    return found


def usage(problem: str, option: str) -> typer.BadParameter:
    """Return the error for options that do not fit, or do not fit together: exit code 2."""
    return typer.BadParameter(problem, param_hint=option)


def log(line: str) -> None:
    """Print a line on standard error."""
    typer.echo(line, err=True)
