"""Records as a person reads them in a terminal."""

import re
from typing import Any

from rich.table import Table
from rich.text import Text

from flows.records import Record
from flows.report.ending import score_name

LABELS = {
    ("JobStatus", "counting"): "newest scored submission",
    ("JobStatus", "quota"): "submissions left today",
    ("JobStatus", "quota_error"): "submissions left today",
    ("JobStatus", "silent_h"): "hours since a night ended well",
    ("Pruned", "versions"): "versions deleted",
    ("Pruned", "objects"): "objects deleted",
}
"""What fields are called that their names alone do not explain."""
OWN_LINES = "reason"
"""The column that is too wide for a table."""
TIME = re.compile(r"(\d{4}-\d{2}-\d{2})T(\d{2}:\d{2}):[\d.:]+(\+00:00|Z)")
"""A time as records have it, UTC."""


def show(record: Record) -> list[Table | Text]:
    """Return a line for each value of a record, and a table for each list of records."""
    score = score_name(getattr(record, "namespace", "kaggle/"))
    lines: list[Table | Text] = []
    for name, value in record:
        label = LABELS.get((type(record).__name__, name), _words(name))
        if isinstance(value, list):
            lines += _show_list(label, value, score)
        elif isinstance(value, Record):
            lines.append(Text(label, "bold"))
            lines += [
                Text.assemble("  ", (_named(field, score), "bold"), "  ", _text(entry))
                for field, entry in value
                if entry is not None
            ]
        elif value is not None:
            lines.append(Text.assemble((label, "bold"), "  ", _text(value)))
    return lines


def _show_list(title: str, rows: list[Any], score: str) -> list[Table | Text]:
    if not rows:
        return []
    if not isinstance(rows[0], Record):
        return [Text.assemble((title, "bold"), f"  {len(rows)}"), *(Text(f"  {row}") for row in rows)]
    reasons = [Text(f"{row.version}: {row.reason}") for row in rows if OWN_LINES in type(row).model_fields]
    return [_table(title, rows, score), *reasons]


def _table(title: str, rows: list[Record], score: str) -> Table:
    """Return a table that fits 80 columns; night and model are left out, as a version's name has them."""
    table = Table(
        title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 1, 0, 0)
    )
    shown = [name for name, _ in rows[0] if name not in ("night", "run", "model", OWN_LINES)]
    for name in shown:
        heading = _named(name, score).split()[0]
        table.add_column(heading, no_wrap=name == "version", overflow="fold")
    for row in rows:
        # Text and not a string: a server's words may look like markup.
        table.add_row(*(Text(_text(getattr(row, name))) for name in shown))
    return table


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.5f}"
    if isinstance(value, str):
        return TIME.sub(r"\1 \2 UTC", value)
    return "–" if value is None else f"{value:,}" if type(value) is int and value < 1_000_000 else str(value)


def _named(name: str, score: str) -> str:
    """Return what a field is called; a score is named after the server that gave it."""
    return score if name == "public_score" else _words(name)


def _words(name: str) -> str:
    return name.replace("_", " ")
