"""A finding of the doctor: what was checked, its state, and what to do about it."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum

from rich.table import Table
from rich.text import Text

from mnist_core.errors import MnistError


class State(StrEnum):
    """How a check went."""

    OK = "ok"
    NOTE = "note"
    """Nothing is wrong; something to know."""
    WARNING = "warning"
    """A run can start; something should be looked into."""
    FAILED = "failed"


@dataclass(frozen=True)
class Finding:
    """One line of the report: what was checked, its state, what was found, and how to fix it."""

    check: str
    state: State
    found: str
    remedy: str = ""

    @classmethod
    def ok(cls, check: str, found: str) -> "Finding":
        """Return the finding of a check that passed."""
        return cls(check, State.OK, found)

    @classmethod
    def note(cls, check: str, found: str, remedy: str) -> "Finding":
        """Return the finding of a check that passed, and what would be needed for another use."""
        return cls(check, State.NOTE, found, remedy)

    @classmethod
    def warning(cls, check: str, found: str, remedy: str) -> "Finding":
        """Return the finding of a check that a run could do without."""
        return cls(check, State.WARNING, found, remedy)

    @classmethod
    def failed(cls, check: str, found: str, remedy: str) -> "Finding":
        """Return the finding of a check that failed."""
        return cls(check, State.FAILED, found, remedy)

    @classmethod
    def skipped(cls, check: str, first: str) -> "Finding":
        """Return the finding of a check that makes no sense before another problem is solved.

        Args:
            check: its name.
            first: names what is to be fixed first.
        """
        return cls(check, State.WARNING, SKIPPED, f"fix {first} first")

    @classmethod
    def of(cls, check: str, error: MnistError) -> "Finding":
        """Return the finding of a check that ended with one of our errors."""
        remedy = error.remedy or "run this command again later"
        return cls(check, State.FAILED, error.problem, remedy)


SKIPPED = "skipped"
Findings = Iterable[Finding]


def row(finding: Finding) -> Table:
    """Return a finding as a person reads it, with its remedy below it."""
    words, style = {
        State.OK: ("OK", "green"),
        State.NOTE: ("note", "green"),
        State.WARNING: ("warning", "yellow"),
        State.FAILED: ("failed", "bold red"),
    }[finding.state]
    table = Table.grid(padding=(0, 2))
    table.add_column(width=7)
    table.add_column(width=18)
    table.add_column(overflow="fold")
    text = Text(finding.found)
    if finding.remedy:
        text.append(f"\n→ {finding.remedy}", style="bold" if finding.state is State.FAILED else "")
    table.add_row(Text(words, style=style), finding.check, text)
    return table


def summary(findings: list[Finding]) -> dict[str, object]:
    """Return what `--json` prints: each finding, and the number of findings in each state."""
    counts = {state.value: sum(finding.state is state for finding in findings) for state in State}
    return {"checks": [asdict(finding) for finding in findings], **counts}
