"""The report of a run as a folder: scorecard, pictures and submission file."""

import re
import shutil
from pathlib import Path

from flows.ownership import claim_home
from flows.records import RunKey
from flows.registry import Registry
from flows.report import page
from flows.report.scorecard import PICTURES, Scorecard

PAGE = "report.html"
"""The report's page: one file, without links to others."""
NIGHT = re.compile(r"\d{4}-\d{2}-\d{2}")


def write(registry: Registry, run: RunKey, card: Scorecard, home: Path) -> Path:
    """Write the report of a run.

    Returns:
        The folder, `<home>/reports/<night>/<model>-<preset>/<attempt>`.
    """
    version = card.version.version
    folder = home.absolute() / "reports" / run.key
    folder.mkdir(parents=True, exist_ok=True)
    registry.fetch(version, folder, *PICTURES)
    csv = registry.predictions(version)
    if csv is not None:
        (folder / "submission.csv").write_bytes(csv)
    pictures = {name: (folder / name).read_bytes() for name in PICTURES if (folder / name).exists()}
    (folder / PAGE).write_text(page.html(card, pictures), encoding="utf-8")
    (folder / "scorecard.md").write_text(card.markdown({name: name for name in PICTURES}))
    return folder


def newest(home: Path) -> Path | None:
    """Return the page of the latest night's last attempt; None if there is no report."""
    pages = [path for path in (home / "reports").glob(f"*/*/*/{PAGE}") if NIGHT.fullmatch(_night_of(path))]
    return max(pages, key=lambda path: (_night_of(path), path.stat().st_mtime), default=None)


def _night_of(page: Path) -> str:
    return page.parents[2].name


def delete_old(home: Path, keep: int) -> None:
    """Delete the reports of all but the latest nights; what they show is in the store.

    Only reports go: folders with the name of a night that hold a scorecard, in a home that is ours alone.
    """
    nights = [path for path in sorted((home / "reports").glob("*")) if NIGHT.fullmatch(path.name)]
    old = [night for night in nights[:-keep] if any(night.glob("*/*/scorecard.md"))]
    if old and claim_home(home.absolute()):
        for folder in old:
            shutil.rmtree(folder, ignore_errors=True)
