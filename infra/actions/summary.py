"""Print what a run's page on GitHub shows: the scorecard, or how the night failed.

python -m infra.actions.summary .mnist/reports night.log >> "$GITHUB_STEP_SUMMARY"
"""

import sys
from pathlib import Path

LAST_LINES = 20


def summary(reports: Path, log: Path) -> str:
    """Return the scorecards of a run as Markdown, or the end of its log if there is none.

    Args:
        reports: the folder of all reports; a new runner has none but this run's.
        log: what the night printed.
    """
    cards = sorted(reports.glob("*/*/*/scorecard.md"))
    if cards:
        return "\n".join(_without_pictures(card.read_text()) for card in cards)
    said = log.read_text().splitlines()[-LAST_LINES:] if log.exists() else []
    end = "\n".join(said) or "It did not begin: see the step that failed."
    return f"# No scorecard\n\n```\n{end}\n```\n"


def _without_pictures(card: str) -> str:
    """Return a scorecard without its pictures and their captions: a page shows no files of the runner."""
    parts = card.rstrip("\n").split("\n\n")
    following = [*parts[1:], ""]
    kept = [
        part
        for part, after in zip(parts, following, strict=True)
        if not part.startswith("![") and not (part.startswith("**") and after.startswith("!["))
    ]
    return "\n\n".join(kept) + "\n"


if __name__ == "__main__":
    sys.stdout.write(summary(Path(sys.argv[1]), Path(sys.argv[2])))
