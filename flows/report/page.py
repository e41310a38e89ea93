"""The report of a run as one page of HTML, with its pictures in it: a browser opens it as it is."""

import base64
from collections.abc import Iterable, Mapping
from html import escape

from flows.report.scorecard import PICTURES, Scorecard

STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0 }
th, td { text-align: left; vertical-align: top; padding: .3rem 1rem .3rem 0; overflow-wrap: anywhere }
th { font-weight: 600; white-space: nowrap }
td.number { text-align: right; font-variant-numeric: tabular-nums }
figure { margin: 1.5rem 0 }
img { max-width: 100%; image-rendering: pixelated; background: white }
pre { overflow-x: auto; padding: .8rem; border: 1px solid #8884; border-radius: 4px }
"""


def html(card: Scorecard, pictures: Mapping[str, bytes]) -> str:
    """Return a scorecard as a page of HTML that needs no other file.

    Args:
        card: the scorecard.
        pictures: PNG files by name as in `PICTURES`.
    """
    title = escape(f"{card.title}: {card.result.decision or 'trained'}")
    facts = [f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in card.rows()]
    if card.submission is not None and card.submission.url is not None:
        link = f'<a href="{escape(card.submission.url)}">{escape(card.submission.text)}</a>'
        facts.append(f"<tr><th>on Kaggle</th><td>{link}</td></tr>")
    steps = [
        f'<tr><th>{escape(step)}</th><td class="number">{spent:,.1f} s</td></tr>'
        for step, spent in [*card.result.seconds.items(), ("all steps", card.seconds)]
    ]
    return "\n".join(
        [
            "<!doctype html>",
            f'<html lang="en"><head><meta charset="utf-8"><title>{title}</title>',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<style>{STYLE}</style></head><body>",
            f"<h1>{title}</h1>",
            *_table(facts),
            *(_figure(name, pictures[name]) for name in PICTURES if name in pictures),
            "<h2>Seconds by step</h2>",
            *_table(steps),
            "<h2>To use this version</h2>",
            f"<pre>{escape(chr(10).join(card.commands()))}</pre>",
            "</body></html>",
            "",
        ]
    )


def _table(rows: Iterable[str]) -> list[str]:
    return ["<table>", *rows, "</table>"]


def _figure(name: str, png: bytes) -> str:
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    title = escape(PICTURES[name])
    return f'<figure><img src="{source}" alt="{title}"><figcaption>{title}</figcaption></figure>'
