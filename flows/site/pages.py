"""The pages of the site as files, by name: HTML, a style sheet, a feed."""

import math
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from flows.policy.cost import in_words
from flows.report import history
from flows.site.drawing import Drawing
from flows.site.facts import NightFacts, SiteFacts

NARROW, NARROW_NIGHTS = 400, 14
"""Width of the history on a phone, in pixels, and the nights that it has room for."""
FEED_NIGHTS = 30
HEAT = 4
"""Shades of the errors in a confusion table."""


def render(facts: SiteFacts, drawing: Drawing | None = None) -> dict[str, bytes]:
    """Return the files of the site, by their path in it. The same facts give the same bytes.

    Args:
        facts: what the pages say.
        drawing: what the drawing page needs; None: it says that it is missing. Only digits have such a page.
    """
    environment = _environment()
    entries = [night.entry for night in facts.nights]
    common: dict[str, Any] = {"site": facts, "root": "", "colours": _colours()}

    def page(template: str, **values: Any) -> bytes:
        return environment.get_template(template).render(common | values).encode()

    files = {
        "index.html": page(
            "index.html",
            wide=history.draw(entries, score=facts.score),
            narrow=history.draw(entries[-NARROW_NIGHTS:], NARROW, facts.score),
            narrow_nights=min(NARROW_NIGHTS, len(entries)),
        ),
        "model.html": page("model.html"),
        "style.css": page("style.css"),
        "feed.xml": page("feed.xml", nights=facts.nights[-FEED_NIGHTS:][::-1]),
    }
    if facts.of_digits:
        files["draw.html"] = page("draw.html", drawing=drawing)
    for night, before, after in _with_neighbours(facts.nights):
        files[f"nights/{night.page}.html"] = page(
            "night.html", root="../", night=night, before=before, after=after
        )
        if night.version is not None and night.version.picture is not None:
            files[f"nights/{night.page}.png"] = night.version.picture
    if drawing is not None:
        files["draw.js"] = (resources.files("flows.site") / "static" / "draw.js").read_bytes()
        files["runtime/champion.onnx"] = drawing.graph
        files |= {f"runtime/{name}": content for name, content in drawing.runtime.items()}
    return files


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("flows.site"),
        autoescape=select_autoescape(["html", "xml"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "heat": _heat,
        "duration": _duration,
        "dollars": in_words,
        "share": _share,
        "urn": _urn,
        "instant": _instant,
    }
    return environment


def _colours() -> dict[str, str]:
    """Return the colours of the drawn history, which the style sheet replaces in the dark."""
    return {
        "blue": history.BLUE,
        "orange": history.ORANGE,
        "red": history.RED,
        "grey": history.GREY,
        "pale": history.PALE,
        "paper": history.PAPER,
    }


def _with_neighbours(
    nights: Sequence[NightFacts],
) -> list[tuple[NightFacts, NightFacts | None, NightFacts | None]]:
    """Return each night with the one before and the one after it."""
    return list(zip(nights, [None, *nights], [*nights[1:], None], strict=False))


def _heat(count: int, most: int) -> int:
    """Return the shade of an error's cell, 1 to `HEAT` by log(count), 0 for no error."""
    if not count:
        return 0
    return 1 + round((HEAT - 1) * math.log(count) / math.log(most)) if most > 1 else 1


def _duration(seconds: float) -> str:
    """Return seconds as `7.0 s` or `3 min 20 s` or `2 h 05 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _share(value: float) -> str:
    """Return a probability so that a small one is not shown as zero."""
    return f"{value:.1%}" if value >= 0.001 else "under 0.1%"


def _urn(name: str, site: SiteFacts) -> str:
    """Return an identifier of a night or of the feed that never changes."""
    return uuid.uuid5(uuid.NAMESPACE_OID, f"mnist-nightly/{site.spec.name}/{name}").urn


def _instant(when: str) -> str:
    """Return a UTC date or time as a feed wants it, `2026-11-23T00:00:00Z`."""
    moment = datetime.fromisoformat(when or "1970-01-01")
    return moment.replace(tzinfo=moment.tzinfo or UTC).isoformat(timespec="seconds")
