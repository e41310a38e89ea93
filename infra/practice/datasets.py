"""Data sets as Kaggle serves them beside competitions: the folders `datasets/<owner>/<slug>` of a home."""

from __future__ import annotations

import zipfile
from pathlib import Path

from mnist_core._atomic import atomic_write

FOLDER = "datasets"


def find(home: Path, owner: str, slug: str) -> Path | None:
    """Return the folder of a data set's files; None if there is none."""
    known = {(path.parent.name, path.name): path for path in (home / FOLDER).glob("*/*") if path.is_dir()}
    return known.get((owner, slug))


def pack(folder: Path) -> Path:
    """Return the zip of a data set; the first call makes it."""
    made = folder.with_suffix(".zip")
    if not made.exists():
        with atomic_write(made) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(path for path in folder.rglob("*") if path.is_file()):
                archive.write(path, path.relative_to(folder).as_posix())
    return made
