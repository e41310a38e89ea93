"""Records as a person reads them in a terminal."""

import re
from typing import Any

from rich.cells import cell_len
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from flows.records import Record
from flows.report.ending import score_name, short
from mnist_core.recipes import in_line

LABELS = {
    ("CountingSubmission", "days"): "days since it was posted",
    ("CountingSubmission", "ref"): "submission",
    ("JobStatus", "counting"): "newest scored submission",
    ("JobStatus", "quota"): "submissions left today",
    ("JobStatus", "quota_error"): "submissions left today",
    ("JobStatus", "silent_h"): "hours since a night ended well",
    ("JobStatus", "rank"): "place on the leaderboard",
    ("RecipeList", "balance_s"): "seconds left for trials",
    ("PrunePlan", "keep"): "latest versions that stay",
    ("Pruned", "versions"): "versions deleted",
    ("Pruned", "objects"): "objects deleted",
}
"""What fields are called that their names alone do not explain."""
OWN_LINES = "reason"
"""The column that is too wide for a table."""
TIME = re.compile(r"(\d{4}-\d{2}-\d{2})T(\d{2}:\d{2}):[\d.:]+(\+00:00|Z)")
"""A time as records have it, UTC."""
NARROWEST = 80
"""Columns into which every table fits; on a narrower terminal its rows become lines if they must."""
Part = Table | Text | Padding


def show(record: Record, width: int = NARROWEST) -> list[Part]:
    """Return a line for each value of a record, and a table for each list of records.

    Args:
        record: what a command returns.
        width: columns of the terminal.
    """
    score = score_name(getattr(record, "namespace", "kaggle/"))
    lines: list[Part] = []
    for name, value in record:
        label = _label(record, name, score)
        if isinstance(value, list):
            is_empty_of_words = not value and type(record).model_fields[name].annotation == list[str]
            lines += [_line(label, 0)] if is_empty_of_words else _show_list(label, value, score, width)
        elif isinstance(value, Record):
            lines.append(Text(label, "bold"))
            lines += [
                _line(_label(value, field, score), entry, "  ") for field, entry in value if entry is not None
            ]
        elif value is not None:
            lines.append(_line(label, short(value) if name == "namespace" else value))
    return lines


def _line(label: str, value: Any, indent: str = "") -> Text:
    return Text.assemble(indent, (label, "bold"), "  ", _text(value))


def _show_list(title: str, rows: list[Any], score: str, width: int) -> list[Part]:
    if not rows:
        return []
    if not isinstance(rows[0], Record):
        return [_line(title, len(rows)), *(Text(f"  {row}") for row in rows)]
    reasons = [Text(f"{row.version}: {row.reason}") for row in rows if OWN_LINES in type(row).model_fields]
    return [*_table(title, rows, score, width), *reasons]


def _table(title: str, rows: list[Record], score: str, width: int) -> list[Part]:
    """Return rows as a table that fits 80 columns, or as lines if the terminal has not even these.

    Night and model are left out, as a version's name has them.
    """
    shown = [name for name, _ in rows[0] if name not in ("night", "run", "model", OWN_LINES)]
    cells = [[_text(getattr(row, name)) for name in shown] for row in rows]
    names = [_label(rows[0], name, score) for name in shown]
    headings = [name.replace("validation", "valid") for name in names]  # or 80 columns were not enough
    needed = [
        max(cell_len(word) for word in [*heading.split(), *column])
        for heading, column in zip(headings, zip(*cells, strict=True), strict=True)
    ]
    if width < NARROWEST and sum(needed) + len(needed) > width:
        return [Text(title, "bold"), *(line for row in cells for line in _as_lines(names, row))]
    table = Table(
        title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 1, 0, 0)
    )
    for name, heading in zip(shown, headings, strict=True):
        table.add_column("\n".join(heading.split()), no_wrap=name == "version", overflow="fold")
    for row in cells:
        table.add_row(*map(Text, row))  # Text and not a string: a server's words may look like markup
    return [table]


def _as_lines(names: list[str], row: list[str]) -> list[Part]:
    """Return a row as its first value, and lines with the others and what they are."""
    others = [f"{name} {value}" for name, value in zip(names[1:], row[1:], strict=True) if value]
    return [Text(f"  {row[0]}"), Padding(Text(", ".join(others)), (0, 0, 0, 4))]


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.5f}"
    if isinstance(value, str):
        return TIME.sub(r"\1 \2 UTC", value)
    if isinstance(value, dict):
        return in_line(value) or "–"
    return "–" if value is None else f"{value:,}" if type(value) is int and value < 1_000_000 else str(value)


def _label(record: Record, name: str, score: str) -> str:
    """Return what a field is called; a score is named after the server that gave it."""
    if name in ("public_score", "valid_accuracy"):
        return score if name == "public_score" else "validation accuracy"
    return LABELS.get((type(record).__name__, name), _words(name))


def _words(name: str) -> str:
    return name.replace("_", " ")
