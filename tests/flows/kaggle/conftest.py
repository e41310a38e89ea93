"""A submission file for the tests of the Kaggle client."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mnist_core import submission
from mnist_core.spec import CompetitionSpec


@pytest.fixture
def write_csv(tmp_path: Path) -> Callable[..., Path]:
    """Write a valid submission.csv that has one label in every row: `write_csv(spec, label=3)`."""

    def write(spec: CompetitionSpec, label: int = 3) -> Path:
        path = tmp_path / "submission.csv"
        path.write_bytes(submission.to_csv([label] * spec.test_rows, spec))
        return path

    return write
