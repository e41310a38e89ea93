"""The fonts that the example letters are drawn in: files of Debian packages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from infra.practice.errors import PracticeError

FOLDER = Path("/usr/share/fonts")
FONTS: Mapping[str, tuple[str, ...]] = {
    "fonts-breip": ("Breip.ttf",),
    "fonts-comic-neue": ("ComicNeue-Regular.otf", "ComicNeue-Bold.otf"),
    "fonts-dancingscript": ("DancingScript-Bold.otf",),
    "fonts-dejavu-core": ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSansMono.ttf", "DejaVuSerif.ttf"),
    "fonts-dkg-handwriting": ("dkg.ttf",),
    "fonts-jura": ("Jura-Medium.otf",),
    "fonts-kaushanscript": ("KaushanScript-Regular.otf",),
    "fonts-klee": ("KleeOne-Regular.ttf",),
    "fonts-liberation": (
        "LiberationMono-Regular.ttf", "LiberationSans-Regular.ttf", "LiberationSerif-BoldItalic.ttf",
        "LiberationSerif-Regular.ttf",
    ),
}  # fmt: skip
"""Font files by the Debian package that installs them."""


def missing_packages(folder: Path = FOLDER) -> list[str]:
    """Return the packages of which a font is missing."""
    found = _files(folder)
    return [package for package, files in FONTS.items() if not found.keys() >= set(files)]


def find_fonts(folder: Path = FOLDER) -> list[Path]:
    """Return the font files, in a fixed order.

    Raises:
        PracticeError: some are missing; the message names the packages to install.
    """
    if missing := missing_packages(folder):
        raise PracticeError(
            f"{folder}: the fonts of {', '.join(missing)} are missing",
            f"install them: sudo apt-get install {' '.join(missing)}",
        )
    found = _files(folder)
    return [found[name] for files in FONTS.values() for name in files]


def _files(folder: Path) -> dict[str, Path]:
    return {file.name: file for file in sorted(folder.rglob("*")) if file.suffix in (".otf", ".ttf")}
