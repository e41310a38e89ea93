"""A version's predictions for rows of the training file that it was not trained on."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

FILE = "held_out.npz"
"""Name of the file among a version's objects."""


@dataclass(frozen=True, eq=False)
class HeldOut:
    """A version's predictions for its held-out rows.

    Attributes:
        rows: int64 (M,), rows of the training file, from 0.
        labels: int64 (M,), their true classes.
        probabilities: float32 (M, classes).
    """

    rows: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray

    @property
    def predicted(self) -> np.ndarray:
        """The most probable class of each row, int64 (M,)."""
        return self.probabilities.argmax(1)

    @property
    def errors(self) -> int:
        """The number of rows that are predicted wrongly."""
        return int((self.predicted != self.labels).sum())

    def save(self, folder: Path) -> None:
        """Write the file into a folder."""
        import numpy as np

        np.savez(folder / FILE, rows=self.rows, labels=self.labels, probabilities=self.probabilities)

    @classmethod
    def from_bytes(cls, content: bytes) -> HeldOut:
        """Return what the bytes of the file say; nothing in them is unpickled."""
        import numpy as np

        with np.load(BytesIO(content), allow_pickle=False) as file:
            return cls(file["rows"], file["labels"], file["probabilities"])
