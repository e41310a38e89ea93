"""The history of the nights: a table and a drawn line of validation accuracy and public score."""

import base64
from dataclasses import dataclass

from flows.records import Decision
from flows.registry import Registry

LAST = 90
"""Nights that are drawn."""
ROWS = 30
"""Nights in the table."""
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 960, 360, 64, 16, 40, 44
BLUE, ORANGE, RED, GREY = "#2a6fbb", "#d9822b", "#c23030", "#8a9ba8"


@dataclass(frozen=True)
class Entry:
    """How one night ended.

    Attributes:
        valid, public: accuracy on the rows left out and on the competition's test set, with their 95 %
            intervals (value, low, high); None while unknown.
        champion: it became champion; demoted: and lost that status, for its score or by a person.
    """

    night: str
    version: str
    decision: Decision
    valid: tuple[float, float, float] | None
    public: tuple[float, float, float] | None
    champion: bool
    demoted: bool


def read(registry: Registry, last: int = LAST) -> list[Entry]:
    """The last nights that ended, the oldest first."""
    from mnist_core.evaluation import wilson

    champions = registry.champions()
    promoted = {champion.version for champion in champions}
    demoted = registry.demotions()
    entries = []
    rows = registry.spec.test_rows
    for night in registry.nights(last):
        version = night.version
        scored = registry.score(version)
        score = scored.public_score if scored else None
        valid, interval = night.valid_accuracy, night.valid_interval
        entries.append(
            Entry(
                night=night.run.night,
                version=version,
                decision=night.decision,
                valid=None if valid is None or interval is None else (valid, *interval),
                public=None if score is None else (score, *wilson(round(score * rows), rows)),
                champion=version in promoted,
                demoted=version in demoted,
            )
        )
    return entries


def markdown(entries: list[Entry], namespace: str) -> str:
    """The history as a page: the drawing, and a table of the latest nights, the newest first."""
    picture = base64.b64encode(draw(entries).encode()).decode()
    rows = []
    for entry in reversed(entries[-ROWS:]):
        valid, public = _interval(entry.valid, 4), _interval(entry.public, 5)
        rows.append(f"| {entry.night} | {entry.version} | {valid} | {public} | {_end(entry)} |")
    return "\n".join(
        [
            f"# {len(entries)} nights of {namespace}",
            "",
            f"![history](data:image/svg+xml;base64,{picture})",
            "",
            "| night | version | validation accuracy (95 %) | public score (95 %) | end |",
            "|---|---|---|---|---|",
            *rows,
        ]
    )


def _interval(value: tuple[float, float, float] | None, digits: int) -> str:
    if value is None:
        return "–"
    middle, low, high = (f"{number:.{digits}f}" for number in value)
    return f"{middle} ({low} to {high})"


def _end(entry: Entry) -> str:
    title = "↩ champion, demoted" if entry.demoted else "★ champion" if entry.champion else ""
    return f"{entry.decision} {title}".strip()


def draw(entries: list[Entry]) -> str:
    """The history as an SVG picture: two lines with their intervals, champions and rollbacks marked."""
    known = [value for entry in entries for value in (entry.valid, entry.public) if value is not None]
    # A night that went badly wrong is cut off at the edge, so that the others stay apart.
    lows = sorted(low for _, low, _ in known) or [0.0]
    bottom = max(lows[0], lows[len(lows) // 2] - 0.02) - 0.0005
    top = min(1.0, max((high for _, _, high in known), default=1.0) + 0.0005)
    step = (WIDTH - LEFT - RIGHT) / max(len(entries), 1)

    def x(number: int) -> float:
        return LEFT + step * (number + 0.5)

    def y(value: float) -> float:
        share = (top - max(value, bottom)) / max(top - bottom, 1e-9)
        return TOP + (HEIGHT - TOP - BOTTOM) * share

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _text(LEFT, 22, "● validation accuracy", BLUE),
        _text(LEFT + 150, 22, "● public score", ORANGE),
        _text(LEFT + 260, 22, "★ champion", GREY),
        _text(LEFT + 350, 22, "✕ champion demoted", RED),
    ]
    for line in range(5):
        value = bottom + (top - bottom) * line / 4
        parts.append(_line(LEFT, y(value), WIDTH - RIGHT, y(value), "#e1e8ed"))
        parts.append(_text(LEFT - 8, y(value) + 4, f"{value:.4f}", GREY, "end"))
    every = -(-len(entries) // 10) or 1
    for number, entry in enumerate(entries):
        if number % every == 0:
            parts.append(_text(x(number), HEIGHT - 16, entry.night[2:], GREY, "middle"))
    for name, colour, shift in (("valid", BLUE, -2), ("public", ORANGE, 2)):
        points: list[tuple[float, tuple[float, float, float]]] = [
            (x(number) + shift, getattr(entry, name))
            for number, entry in enumerate(entries)
            if getattr(entry, name) is not None
        ]
        path = " ".join(f"{at:.1f},{y(value[0]):.1f}" for at, value in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        for at, (value, low, high) in points:
            parts.append(_line(at, y(low), at, y(high), colour, 0.4))
            parts.append(f'<circle cx="{at:.1f}" cy="{y(value):.1f}" r="2.5" fill="{colour}"/>')
    for number, entry in enumerate(entries):
        shown = entry.public or entry.valid
        if shown is not None and (entry.champion or entry.demoted):
            sign, colour = ("✕", RED) if entry.demoted else ("★", GREY)
            parts.append(_text(x(number), y(shown[2]) - 5, sign, colour, "middle"))
    return "".join([*parts, "</svg>"])


def _text(x: float, y: float, text: str, colour: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}">{text}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, opacity: float = 1.0) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
        f'stroke-opacity="{opacity}"/>'
    )
