"""The history of the nights: a table, and a drawn line of validation accuracy and public score."""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass

from flows.kaggle.address import described
from flows.policy.cost import in_words
from flows.records import Decision
from flows.report.ending import score_name
from mnist_core.metric import Metric

LAST = 90
"""Nights that are drawn."""
ROWS = 30
"""Nights in the table."""
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 960, 360, 64, 16, 40, 44
BLUE, ORANGE, RED, GREY, PALE = "#2a6fbb", "#d9822b", "#c23030", "#8a9ba8", "#e1e8ed"
PAPER = "white"
LEGEND = (
    ("● validation accuracy", BLUE, 150),
    ("● {score}", ORANGE, 120),
    ("★ champion", GREY, 90),
    ("✕ champion demoted", RED, 130),
)
"""What the signs mean, with their colours, and how many pixels each takes; `{score}` is a score's name."""

Interval = tuple[float, float, float]
"""A value with the lower and upper end of its 95 % interval."""


@dataclass(frozen=True)
class Entry:
    """How one night ended.

    Attributes:
        valid, public: accuracy on the held-out rows and on the competition's test file; None while unknown.
        champion: whether its version became champion.
        demoted: whether it lost that status, for its score or by a person.
        cost: in US dollars; None if no price is known.
        rank: the team's place on the leaderboard when it ended; None if it is not known.
        metric: by which the competition scores.
    """

    night: str
    version: str
    decision: Decision
    valid: Interval | None
    public: Interval | None
    champion: bool
    demoted: bool
    cost: float | None = None
    rank: int | None = None
    metric: Metric = Metric.ACCURACY

    @property
    def drawn(self) -> Interval | None:
        """The public score, if it is on the scale of an accuracy."""
        return self.public if self.metric.higher_is_better else None


def markdown(entries: Sequence[Entry], namespace: str) -> str:
    """Return the history as a page: the drawing, and a table of the latest nights, the newest first."""
    server, competition, data = namespace.split("/")
    score = score_name(namespace)
    picture = base64.b64encode(draw(entries, score=score).encode()).decode()
    priced = any(entry.cost is not None for entry in entries)
    rows = [
        f"| {_unbroken(entry.night)} | {entry.version} | {_text_of(entry.valid, 4)} "
        f"| {_text_of(entry.public, 5)} | {_rank_of(entry)} | {_end_of(entry)} "
        f"|{_cost_of(entry) if priced else ''}"
        for entry in reversed(entries[-ROWS:])
    ]
    return "\n".join(
        [
            f"# {count_of(entries)} of {competition}",
            "",
            f"On {described(server)}, with the data {data[:12]}.",
            "",
            f"![history](data:image/svg+xml;base64,{picture})",
            "",
            f"| night | version | validation accuracy (95 %) | {_scored(entries, score)} | place | end |"
            + (" cost |" if priced else ""),
            "|---|---|---|---|---:|---|" + ("---:|" if priced else ""),
            *rows,
        ]
    )


def count_of(entries: Sequence[Entry]) -> str:
    """Return how many nights these are, in words."""
    return "1 night" if len(entries) == 1 else f"{len(entries)} nights"


def _text_of(value: Interval | None, digits: int) -> str:
    if value is None:
        return "–"
    middle, low, high = (f"{number:.{digits}f}" for number in value)
    if low == high:  # of a score that is not a share of rows
        return middle
    return f"{middle} ({low}\u00a0to\u00a0{high})"  # it breaks before the interval, not in it


def _scored(entries: Sequence[Entry], score: str) -> str:
    metric = entries[-1].metric if entries else Metric.ACCURACY
    if metric is Metric.ACCURACY:
        return f"{score} (95 %)"
    return f"{score} ({metric.words}{'' if metric.higher_is_better else ', lower is better'})"


def _unbroken(date: str) -> str:
    """Return a date whose hyphens do not break a line."""
    return date.replace("-", "\u2011")


def _rank_of(entry: Entry) -> str:
    return "–" if entry.rank is None else f"{entry.rank:,}"


def _cost_of(entry: Entry) -> str:
    return f" {'–' if entry.cost is None else in_words(entry.cost)} |"


def _end_of(entry: Entry) -> str:
    status = "↩ champion, demoted" if entry.demoted else "★ champion" if entry.champion else ""
    return f"{entry.decision} {status}".strip()


def draw(entries: Sequence[Entry], width: int = WIDTH, score: str = "public score") -> str:
    """Return the history as an SVG picture: two lines with their intervals, champions and demotions.

    Args:
        entries: the nights.
        width: of the picture in pixels, as against its letters of 12 pixels.
        score: what a score is called.
    """
    scale = _Scale.of(entries, width)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{HEIGHT}" fill="{PAPER}"/>',
        *_draw_legend(width, score),
        *_draw_grid(entries, scale),
        *_draw_curve([entry.valid for entry in entries], scale, BLUE, -2),
        *_draw_curve([entry.drawn for entry in entries], scale, ORANGE, 2),
        *_draw_marks(entries, scale),
    ]
    return "".join([*parts, "</svg>"])


@dataclass(frozen=True)
class _Scale:
    """Where a night and a value are drawn, in pixels from the upper left.

    Attributes:
        width: of the picture.
        step: pixels from one night to the next.
        bottom, top: the values at the lower and upper edge.
    """

    width: int
    step: float
    bottom: float
    top: float

    @classmethod
    def of(cls, entries: Sequence[Entry], width: int) -> "_Scale":
        """Return the scale that shows these nights.

        One that went badly wrong is cut off at the edge, so that the others stay apart.
        """
        known = [value for entry in entries for value in (entry.valid, entry.drawn) if value is not None]
        lows = sorted(low for _, low, _ in known) or [0.0]
        return cls(
            width=width,
            step=(width - LEFT - RIGHT) / max(len(entries), 1),
            bottom=max(lows[0], lows[len(lows) // 2] - 0.02) - 0.0005,
            top=min(1.0, max((high for _, _, high in known), default=1.0) + 0.0005),
        )

    def x(self, number: int) -> float:
        return LEFT + self.step * (number + 0.5)

    def y(self, value: float) -> float:
        share = (self.top - max(value, self.bottom)) / max(self.top - self.bottom, 1e-9)
        return TOP + (HEIGHT - TOP - BOTTOM) * share


def _draw_legend(width: int, score: str) -> list[str]:
    """Draw what the signs mean, in one line if the picture is wide enough, else in two."""
    one_line = LEFT + sum(taken for _, _, taken in LEGEND) <= width
    parts, x, y = [], LEFT, 22 if one_line else 13
    for text, colour, taken in LEGEND:
        if x + taken > width:
            x, y = LEFT, y + 18
        parts.append(draw_text(x, y, text.format(score=score), colour))
        x += taken
    return parts


def _draw_grid(entries: Sequence[Entry], scale: _Scale) -> list[str]:
    """Draw lines at values, with the values, and some of the nights' dates."""
    parts = []
    for value in ticks(scale.bottom, scale.top):
        parts.append(draw_line(LEFT, scale.y(value), scale.width - RIGHT, scale.y(value), PALE))
        parts.append(draw_text(LEFT - 8, scale.y(value) + 4, f"{value:.4f}", GREY, "end"))
    every = -(-len(entries) // max(scale.width // 90, 1)) or 1
    for number, entry in enumerate(entries):
        if number % every == 0:
            parts.append(draw_text(scale.x(number), HEIGHT - 16, entry.night[2:], GREY, "middle"))
    return parts


def ticks(bottom: float, top: float) -> list[float]:
    """Return the round values from bottom to top, in steps of 1, 2 or 5 of the fourth digit or above.

    There are at most 7, and at least 2 if the span is 0.0002 or more.
    """
    units = [base * 10**power for power in range(5) for base in (1, 2, 5)]  # of 0.0001
    low, high = bottom * 10_000, top * 10_000
    step = next((unit for unit in units if (high - low) / unit <= 6), units[-1])
    first, last = math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6)
    return [number * step / 10_000 for number in range(first, last + 1)]


def _draw_curve(values: Sequence[Interval | None], scale: _Scale, colour: str, shift: float) -> list[str]:
    """Draw one line over the nights that have a value, with intervals."""
    points = [(scale.x(number) + shift, value) for number, value in enumerate(values) if value is not None]
    path = " ".join(f"{x:.1f},{scale.y(value[0]):.1f}" for x, value in points)
    parts = [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>']
    for x, (value, low, high) in points:
        parts.append(draw_line(x, scale.y(low), x, scale.y(high), colour, 0.4))
        if value < scale.bottom:  # cut off at the edge: say how far below it lies
            parts.append(draw_text(x, scale.y(value) - 5, f"▼ {value:.3f}", colour, "middle"))
        else:
            parts.append(f'<circle cx="{x:.1f}" cy="{scale.y(value):.1f}" r="2.5" fill="{colour}"/>')
    return parts


def _draw_marks(entries: Sequence[Entry], scale: _Scale) -> list[str]:
    parts = []
    for number, entry in enumerate(entries):
        shown = entry.drawn or entry.valid
        if shown is not None and (entry.champion or entry.demoted):
            sign, colour = ("✕", RED) if entry.demoted else ("★", GREY)
            parts.append(draw_text(scale.x(number), scale.y(shown[2]) - 5, sign, colour, "middle"))
    return parts


def draw_text(x: float, y: float, text: str, colour: str, anchor: str = "start") -> str:
    """Return a text of a drawing."""
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}">{text}</text>'


def draw_line(x1: float, y1: float, x2: float, y2: float, colour: str, opacity: float = 1.0) -> str:
    """Return a line of a drawing."""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
        f'stroke-opacity="{opacity}"/>'
    )
