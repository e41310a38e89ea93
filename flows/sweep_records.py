"""What a sweep found, row by row."""

from __future__ import annotations

from pydantic import Field

from flows.records import Record
from mnist_core.recipes import Value


class SweepRow(Record):
    """One training of a sweep.

    Attributes:
        values: what the point of the grid sets.
        version: that was trained; None if none was.
        valid_accuracy, valid_interval, valid_score, valid_rows: as of its version, on the held-out rows.
        train_s: seconds of its training.
        reason: why there is no version.
    """

    values: dict[str, Value]
    version: str | None = None
    valid_accuracy: float | None = None
    valid_interval: tuple[float, float] | None = None
    valid_score: float | None = None
    valid_rows: int = 0
    train_s: float = 0.0
    reason: str = ""


class SweepResult(Record):
    """What `sweep` ends with.

    Attributes:
        namespace: of the registry.
        rows: the trainings, in the order of the grid.
        reason: why it failed.
        seconds: by step, `total` the whole command.
    """

    namespace: str = ""
    rows: list[SweepRow] = Field(default_factory=list)
    reason: str = ""
    seconds: dict[str, float] = Field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """What the grid changes."""
        return list(self.rows[0].values) if self.rows else []
