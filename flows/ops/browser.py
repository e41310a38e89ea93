"""`open`: show the newest report, or Prefect's UI, in the browser."""

import os
import sys
import webbrowser

from flows.ops.prefect_home import running_server
from flows.records import Record
from flows.report import folder
from flows.settings import Settings, SettingsError

DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY", "WSL_DISTRO_NAME", "BROWSER")
"""Variables of which one is set if a browser can show a page."""


class Opened(Record):
    """A page, and whether a browser was asked to show it.

    Attributes:
        page: its path or address.
        note: what to do if none was; None if one was.
    """

    page: str
    note: str | None = None


def open_page(settings: Settings, ui: bool) -> Opened:
    """Show the newest report in the browser; without one, only say where it is.

    Args:
        settings: of the home.
        ui: show Prefect's UI instead.

    Raises:
        SettingsError: there is no report, or no UI.
    """
    page, url = _find_ui(settings) if ui else _find_report(settings)
    shown = has_display() and webbrowser.open(url)
    return Opened(page=page, note=None if shown else "no browser was found here: open this page yourself")


def has_display() -> bool:
    """Return whether a browser would be seen: one that runs in this terminal is not what a person wants."""
    return sys.platform == "darwin" or any(os.environ.get(name) for name in DISPLAYS)


def _find_report(settings: Settings) -> tuple[str, str]:
    found = folder.newest(settings.home.absolute())
    if found is None:
        raise SettingsError(
            f"there is no report in {settings.home / 'reports'}",
            "run `python -m flows nightly` first, or set MNIST_HOME to the home of its nights",
        )
    return str(found), found.as_uri()


def _find_ui(settings: Settings) -> tuple[str, str]:
    api = running_server(settings.home.absolute() / "prefect")
    if api is None:
        raise SettingsError("no Prefect server runs in this home", "start one with `make ui`")
    url = api.removesuffix("/api")
    return url, url
