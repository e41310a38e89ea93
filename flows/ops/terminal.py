"""Records as a person reads them in a terminal."""

from typing import Any

from rich.table import Table
from rich.text import Text

from flows.records import Record


def show(record: Record) -> list[Table | Text]:
    """Return one line for each value of a record, and one table for each list of records."""
    lines: list[Table | Text] = []
    for name, value in record:
        if isinstance(value, list) and value and isinstance(value[0], str):
            lines.append(Text.assemble((_words(name), "bold"), f"  {len(value)}"))
            lines += [Text(f"  {entry}") for entry in value]
        elif isinstance(value, list):
            lines += [_table(name, value)] if value else []
        elif value is not None:
            lines.append(Text.assemble((_words(name), "bold"), "  ", _text(value)))
    return lines


def _table(title: str, rows: list[Record]) -> Table:
    """Return a table that fits 80 columns; night and model are left out, as a version's name has them."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    shown = [name for name, _ in rows[0] if name not in ("night", "run", "model")]
    for name in shown:
        table.add_column(name.split("_")[0], no_wrap=name == "version", overflow="fold")
    for row in rows:
        # Text and not a string: a server's words may look like markup.
        table.add_row(*(Text(_text(getattr(row, name))) for name in shown))
    return table


def _text(value: Any) -> str:
    if isinstance(value, Record):
        return ", ".join(f"{_words(name)} {_text(entry)}" for name, entry in value if entry)
    if isinstance(value, float):
        return f"{value:.5f}"
    return "–" if value is None else str(value)


def _words(name: str) -> str:
    return name.replace("_", " ")
