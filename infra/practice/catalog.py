"""Which competitions a home offers: the built-in ones, and those of a specification and labelled rows."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from infra.practice.errors import PracticeError
from mnist_core._atomic import atomic_write
from mnist_core.errors import DataError
from mnist_core.spec import SPECS, CompetitionSpec, parse_spec

FOLDER = "competitions"
"""The folder of a home that has a record of each competition that is not built in."""
KINDS = (".csv", ".npz")
"""Endings of the files that hold labelled rows."""


@dataclass(frozen=True)
class Offer:
    """A competition that a home offers.

    Attributes:
        spec: what its files hold.
        labelled: the file of labelled rows that are dealt; None for the 70,000 digits.
        digest: of specification and rows, in hex; other rows of the same name are another competition.
    """

    spec: CompetitionSpec
    labelled: Path | None = None
    digest: str = ""


def offer(home: Path, spec_text: str, labelled: Path) -> CompetitionSpec:
    """Have a home offer a competition of its own, in place of one that had its name.

    Args:
        home: the server's.
        spec_text: the specification, as TOML.
        labelled: CSV as the specification describes the training file, or npz with `pixels` and `labels`.

    Raises:
        PracticeError: the file is missing, or is neither a CSV nor an npz file.
        DataError: the specification is wrong.
        OSError: the home cannot be written.
    """
    spec = parse_spec(spec_text, "the specification")
    if spec.name in SPECS:
        raise PracticeError(
            f"{spec.name} is built into the practice server", "give the specification another name"
        )
    labelled = labelled.absolute()
    if labelled.suffix not in KINDS:
        raise PracticeError(f"{labelled} is not a file that ends in {' or '.join(KINDS)}", "convert it first")
    if not labelled.is_file():
        raise PracticeError(f"{labelled} does not exist", "set MNIST_PRACTICE_DATA to the labelled rows")
    record = json.dumps({"spec": spec_text, "labelled": str(labelled)})
    path = _record(home, spec.name)
    if not path.exists() or path.read_text() != record:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path, sync=True) as file:
            file.write(record.encode())
    return spec


def find(home: Path, name: object) -> Offer | None:
    """Return what a home offers under a name; None if there is nothing.

    Raises:
        PracticeError: its record or its labelled rows cannot be read.
    """
    if not isinstance(name, str) or name not in names(home):
        return None
    if name in SPECS:
        return Offer(SPECS[name])
    path = _record(home, name)
    try:
        found = json.loads(path.read_text())
        spec, labelled = parse_spec(found["spec"], str(path)), Path(found["labelled"])
        facts = labelled.stat()
    except (OSError, ValueError, KeyError, DataError) as error:
        raise PracticeError(f"{path} cannot be used: {error}", "offer the competition again") from error
    identity = f"{found['spec']}\0{labelled}\0{facts.st_size}\0{facts.st_mtime_ns}"
    return Offer(spec, labelled, hashlib.sha256(identity.encode()).hexdigest())


def names(home: Path) -> list[str]:
    """Return the names of all competitions of a home."""
    return [*SPECS, *sorted(path.stem for path in (home / FOLDER).glob("*.json"))]


def _record(home: Path, name: str) -> Path:
    return home / FOLDER / f"{name}.json"
