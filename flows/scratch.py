"""Folders for the files of a step, below the home: what a killed run left there is found and removed."""

import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "step-"
NAME = re.compile(rf"{PREFIX}\w{{8}}")
LEFT_OVER_S = 86400.0
"""Age at which a folder is that of a killed run: no run takes a day."""


@contextmanager
def scratch_folder(home: Path) -> Iterator[Path]:
    """Make an empty folder, which is removed when the block ends.

    Args:
        home: the job's; what killed runs left there is removed first.
    """
    folder = home.absolute() / "scratch"
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        with suppress(FileNotFoundError):  # another run removes it
            if NAME.fullmatch(path.name) and path.stat().st_mtime < time.time() - LEFT_OVER_S:
                shutil.rmtree(path, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=PREFIX) as made:
        yield Path(made)
