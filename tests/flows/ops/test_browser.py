"""`open`: which page it shows, and what it does without a browser."""

import os
import webbrowser

import pytest

from flows.ops import browser
from flows.ops.browser import open_page
from flows.settings import SettingsError, read_settings


@pytest.fixture
def opened(monkeypatch, tmp_path):
    """A home, no display, and the list of what a browser was asked to show."""
    monkeypatch.setenv("MNIST_HOME", str(tmp_path))
    for name in browser.DISPLAYS:
        monkeypatch.delenv(name, raising=False)
    asked = []
    monkeypatch.setattr(webbrowser, "open", lambda url: asked.append(url) or True)
    return asked


def write_report(home, night, attempt, written):
    """Write a report's page, and return it."""
    page = home / "reports" / night / "convnet-fast" / f"{attempt:06d}" / "report.html"
    page.parent.mkdir(parents=True)
    page.write_text("<!doctype html>")
    os.utime(page, (written, written))
    return page


def test_the_newest_report_is_shown(opened, monkeypatch, tmp_path):
    """That of the latest night, and of its attempts the one that was written last."""
    monkeypatch.setenv("DISPLAY", ":0")
    write_report(tmp_path, "2026-11-22", 1, written=900)
    write_report(tmp_path, "2026-11-23", 1, written=100)
    newest = write_report(tmp_path, "2026-11-23", 2, written=200)

    found = open_page(read_settings(), ui=False)

    assert (found.page, found.note) == (str(newest), None)
    assert opened == [newest.as_uri()]


def test_without_a_display_the_path_is_printed(opened, monkeypatch, tmp_path):
    """No browser is started in the terminal of a server."""
    monkeypatch.setattr(browser.sys, "platform", "linux")
    page = write_report(tmp_path, "2026-11-23", 1, written=100)

    found = open_page(read_settings(), ui=False)

    assert found.page == str(page)
    assert "open this page yourself" in found.note
    assert opened == []


@pytest.mark.parametrize(("ui", "words"), [(False, "flows nightly"), (True, "make ui")])
def test_if_there_is_nothing_to_show_the_command_that_makes_it_is_named(opened, ui, words):
    """No report, and no server of `make ui`."""
    with pytest.raises(SettingsError, match=words):
        open_page(read_settings(), ui)
