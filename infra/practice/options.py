"""How a practice server deals, counts and scores: one record from the command line to the handlers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

SETTINGS = {
    "split_seed": "MNIST_SPLIT_SEED",
    "daily_limit": "MNIST_DAILY_LIMIT",
    "day_seconds": "--day-seconds",
}
"""Options in which all jobs of a home must agree, and what a user sets each of them with."""


@dataclass(frozen=True)
class PracticeOptions:
    """Options of a practice server.

    Attributes:
        split_seed: selects the split of the digits into training and test rows.
        daily_limit: submissions a day in each competition.
        day_seconds: length of a day.
        score_seconds: time from a submission to its score.
    """

    split_seed: int = 0
    daily_limit: int = 10
    day_seconds: float = 86400.0
    score_seconds: float = 1.0

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> PracticeOptions:
        """Return the options that a server reports; TypeError or KeyError if it is another kind of server."""
        return cls(**{field.name: value[field.name] for field in fields(cls)})

    def to_json(self) -> dict[str, float]:
        """Return the options as JSON."""
        return asdict(self)

    def arguments(self) -> list[str]:
        """Return the options as arguments of `python -m infra.practice`."""
        pairs = ((f"--{name.replace('_', '-')}", str(value)) for name, value in asdict(self).items())
        return [word for pair in pairs for word in pair]

    def conflicts(self, running: PracticeOptions) -> Iterator[tuple[str, float, float]]:
        """Yield each setting in which a running server differs: its name, the server's value, ours."""
        for name, setting in SETTINGS.items():
            theirs, ours = getattr(running, name), getattr(self, name)
            if theirs != ours:
                yield setting, theirs, ours
