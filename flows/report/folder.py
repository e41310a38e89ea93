"""The report of a run as a folder: scorecard, pictures and submission file."""

import re
import shutil
from pathlib import Path

from flows.ownership import claim_home
from flows.records import RunKey
from flows.registry import Registry
from flows.report.scorecard import PICTURES, Scorecard

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
    (folder / "scorecard.md").write_text(card.markdown({name: name for name in PICTURES}))
    return folder


def delete_old(home: Path, keep: int) -> None:
    """Delete the reports of all but the latest nights; what they show is in the store.

    Only reports go: folders with the name of a night that hold a scorecard, in a home that is ours alone.
    """
    nights = [path for path in sorted((home / "reports").glob("*")) if NIGHT.fullmatch(path.name)]
    old = [night for night in nights[:-keep] if any(night.glob("*/*/scorecard.md"))]
    if old and claim_home(home.absolute()):
        for folder in old:
            shutil.rmtree(folder, ignore_errors=True)
