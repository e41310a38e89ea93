"""What a sweep found: a table, and a drawing of accuracy against seconds."""

import base64
import html
from collections.abc import Mapping

from flows.ops.deployments import competition_of, own_name
from flows.report.artifacts import best_effort
from flows.report.history import BLUE, GREY, PALE, PAPER, draw_line, draw_text, ticks
from flows.report.terminal import console, is_quiet
from flows.sweep_records import SweepResult, SweepRow
from mnist_core.recipes import Value

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 360, 64, 24, 24, 48


def show(result: SweepResult) -> None:
    """Print the table, unless a deployment's run does it all, and leave table and drawing as an artifact."""
    from prefect.artifacts import create_markdown_artifact
    from prefect.runtime import deployment

    with best_effort("sweep"):
        create_markdown_artifact(
            markdown(result),
            key=own_name("sweep", competition_of(result.namespace)),
            description=f"{len(result.rows)} trainings",
        )
    if deployment.id is None and not is_quiet():
        _print(result)


def _print(result: SweepResult) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for heading in headings(result):
        table.add_column(heading, overflow="fold")
    for row in ranked(result):
        table.add_row(*map(Text, cells(row, result)))
    console().print()
    console().print(table)


def in_words(values: Mapping[str, Value]) -> str:
    """Return the values of a point, as `preset=fast seed=1`."""
    return " ".join(f"{name}={value}" for name, value in values.items())


def ranked(result: SweepResult) -> list[SweepRow]:
    """Return the rows, the most accurate first, and those without a version last."""
    return sorted(result.rows, key=_rank)


def _rank(row: SweepRow) -> tuple[bool, float]:
    return row.valid_accuracy is None, -(row.valid_accuracy or 0.0)


def headings(result: SweepResult) -> list[str]:
    """Return the columns of the table."""
    scored = ["score"] if any(row.valid_score is not None for row in result.rows) else []
    return ["", *result.names, "validation accuracy (95 %)", *scored, "seconds", "version"]


def cells(row: SweepRow, result: SweepResult) -> list[str]:
    """Return a row of the table; its number is that of its point in the grid, and of the drawing."""
    number = str(result.rows.index(row) + 1)
    scored = any(each.valid_score is not None for each in result.rows)
    score = [] if not scored else ["–" if row.valid_score is None else f"{row.valid_score:.5f}"]
    values = [str(row.values[name]) for name in result.names]
    if row.valid_accuracy is None or row.valid_interval is None:
        return [number, *values, row.reason, *(["–"] if scored else []), "–", "–"]
    low, high = row.valid_interval
    accuracy = f"{row.valid_accuracy:.4f} ({low:.4f} to {high:.4f})"
    return [number, *values, accuracy, *score, f"{row.train_s:.1f}", row.version or "–"]


def markdown(result: SweepResult) -> str:
    """Return the sweep as a page: the drawing, and the table."""
    picture = base64.b64encode(draw(result).encode()).decode()
    rows = [" | ".join(cells(row, result)) for row in ranked(result)]
    names = headings(result)
    counted = {row.valid_rows for row in result.rows if row.valid_rows}
    return "\n".join(
        [
            f"# Sweep of {len(result.rows)} trainings of {competition_of(result.namespace)}",
            "",
            f"Accuracy on the same {max(counted, default=0):,} held-out rows, and seconds of training. "
            "Nothing was promoted.",
            "",
            f"![sweep](data:image/svg+xml;base64,{picture})",
            "",
            f"| {' | '.join(names)} |",
            f"|{'---|' * len(names)}",
            *(f"| {row} |" for row in rows),
        ]
    )


def draw(result: SweepResult) -> str:
    """Return an SVG picture: a numbered point for each training, with the interval of its accuracy."""
    known = [
        (number, row, row.valid_interval)
        for number, row in enumerate(result.rows, start=1)
        if row.valid_accuracy is not None and row.valid_interval is not None
    ]
    low = min((interval[0] for _, _, interval in known), default=0.0)
    high = max((interval[1] for _, _, interval in known), default=1.0)
    most_s = max((row.train_s for _, row, _ in known), default=1.0) or 1.0

    def x(seconds: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * seconds / most_s

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / max(high - low, 1e-9)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="{PAPER}"/>',
    ]
    for value in ticks(low, high):
        parts.append(draw_line(LEFT, y(value), WIDTH - RIGHT, y(value), PALE))
        parts.append(draw_text(LEFT - 8, y(value) + 4, f"{value:.4f}", GREY, "end"))
    marks = [most_s * part / 4 for part in range(5)]
    parts += [draw_text(x(mark), HEIGHT - 24, f"{mark:.1f} s", GREY, "middle") for mark in marks]
    for number, row, (lower, upper) in known:
        at, middle = x(row.train_s), y(row.valid_accuracy or 0.0)
        title = f"<title>{html.escape(in_words(row.values))}</title>"
        parts.append(draw_line(at, y(lower), at, y(upper), BLUE, 0.4))
        parts.append(f'<circle cx="{at:.1f}" cy="{middle:.1f}" r="4" fill="{BLUE}">{title}</circle>')
        parts.append(draw_text(at + 7, middle + 4, str(number), BLUE))
    return "".join([*parts, "</svg>"])
