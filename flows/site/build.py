"""`site`: write the public pages into a folder, as a command and after each night."""

import logging
from collections.abc import Mapping
from pathlib import Path

from flows.ops.status import open_registry
from flows.records import Record
from flows.registry import Registry
from flows.settings import Settings, SettingsError
from flows.site.drawing import Drawing, choose_graph
from flows.site.facts import read_facts
from flows.site.pages import render
from flows.site.runtime import runtime_files
from mnist_core._atomic import atomic_write

log = logging.getLogger("mnist")
MARKER = ".mnist-nightly-site"
"""File that marks a folder as one whose pages this program replaces."""
NOT_PAGES = {".git", ".github", ".gitignore", ".nojekyll", "CNAME", "README.md"}
"""What the owner of a folder, or of a branch of pages, may keep in it besides."""
FOLDERS = ("nights", "runtime")
"""Folders of the site: what is not part of it any more is deleted there."""


class SiteResult(Record):
    """What was written.

    Attributes:
        folder: where.
        nights: pages of nights.
        champion: the version that the model card is about.
        drawing: the version that answers on the drawing page; None if that page has no network.
    """

    folder: str
    nights: int
    champion: str | None = None
    drawing: str | None = None


def site(settings: Settings, folder: Path) -> SiteResult:
    """Write the site of the namespace that was written to last."""
    return write_site(open_registry(settings), folder, settings)


def write_after_night(registry: Registry, settings: Settings) -> None:
    """Write the site if MNIST_SITE is set; what goes wrong is logged and leaves the night as it is."""
    if settings.site is None:
        return
    try:
        write_site(registry, settings.site, settings)
    except SettingsError as error:
        log.warning("no site: %s", error)
    except OSError as error:
        log.warning(
            "no site: %s: %s; free disk space there, or correct MNIST_SITE", error.filename, error.strerror
        )


def write_site(registry: Registry, folder: Path, settings: Settings) -> SiteResult:
    """Write the pages about a namespace into a folder, and delete those of nights not shown any more.

    Args:
        registry: of the namespace.
        folder: empty, missing, or with an earlier site.
        settings: say what may be shown, and where downloads are kept.

    Raises:
        SettingsError: the folder holds something else.
    """
    _claim(folder)
    facts = read_facts(registry, pictures=settings.site_pictures, prices=settings.prices)
    drawing = _drawing(registry, settings.home) if facts.of_digits else None
    _write(folder, render(facts, drawing))
    return SiteResult(
        folder=str(folder),
        nights=len(facts.nights),
        champion=None if facts.champion is None else facts.champion.version.name,
        drawing=None if drawing is None else drawing.version,
    )


def _drawing(registry: Registry, home: Path) -> Drawing | None:
    """Return what the drawing page needs; None if there is no champion, or no runtime for browsers."""
    chosen = choose_graph(registry)
    files = None if chosen is None else runtime_files(home)
    if chosen is None or files is None:
        return None
    version, graph = chosen
    champion = registry.champion()[1]
    return Drawing(version.version, champion if champion != version.version else None, graph, files)


def _claim(folder: Path) -> None:
    """Mark a folder as the site's.

    Raises:
        SettingsError: it holds files that are not part of a site.
    """
    if folder.exists() and not folder.is_dir():
        raise SettingsError(f"{folder} is a file", "name a folder for the site")
    if not (folder / MARKER).exists():
        others = sorted(path.name for path in folder.glob("*") if path.name not in NOT_PAGES)
        if others:
            raise SettingsError(
                f"{folder} holds files that are not part of a site, such as {others[0]}",
                "name a folder of its own for the site",
            )
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MARKER).touch()
    (folder / ".nojekyll").touch()  # GitHub Pages then serves the files as they are


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write the files that differ from those that are there, and delete pages that the site has no more."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        if not path.is_file() or path.read_bytes() != content:
            with atomic_write(path) as file:
                file.write(content)
    for part in FOLDERS:
        for path in (folder / part).glob("*"):
            if f"{part}/{path.name}" not in files and path.is_file():
                path.unlink()
