"""A job on the small competition, and a submission file."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mnist_core import submission
from mnist_core.spec import DIGITS_MINI, CompetitionSpec


@pytest.fixture
def job(job: Callable[..., Any]) -> Callable[..., Any]:
    """Start a practice server of the small competition, which is downloaded in a moment."""
    return partial(job, competition=DIGITS_MINI.name)


@pytest.fixture
def write_csv(tmp_path: Path) -> Callable[..., Path]:
    """Write a valid submission.csv that has one label in every row: `write_csv(spec, label=3)`."""

    def write(spec: CompetitionSpec, label: int = 3) -> Path:
        path = tmp_path / "submission.csv"
        path.write_bytes(submission.to_csv([label] * spec.test_rows, spec))
        return path

    return write
