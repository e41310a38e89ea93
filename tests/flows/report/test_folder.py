"""Reports as folders under the home."""

import pytest

from flows.ownership import MARKER
from flows.report.folder import delete_old


@pytest.fixture
def home(tmp_path):
    """A home with reports of three nights, and one folder of another name."""
    for night in ("2026-11-21", "2026-11-22", "2026-11-23", "other"):
        report = tmp_path / "home" / "reports" / night / "convnet-fast" / "000001"
        report.mkdir(parents=True)
        (report / "scorecard.md").write_text("# a scorecard")
    return tmp_path / "home"


def left(home):
    """The names of the reports that are still there."""
    return {path.name for path in (home / "reports").iterdir()}


def test_only_the_latest_reports_are_kept(home):
    """The reports of older nights go, the others stay, and so does what is no report."""
    (home / "reports" / "2026-11-20").mkdir()  # the name of a night, and no scorecard
    (home / ".DS_Store").write_bytes(b"")

    delete_old(home, 2)

    assert left(home) == {"2026-11-20", "2026-11-22", "2026-11-23", "other"}
    assert (home / MARKER).exists()


def test_nothing_is_deleted_in_a_home_that_others_use(home, caplog):
    """A folder with somebody's files in it, and no marker, keeps its reports: they may be theirs."""
    (home / "thesis.tex").write_text("")

    delete_old(home, 1)

    assert len(left(home)) == 4
    assert "thesis.tex" in caplog.text
    (home / MARKER).touch()
    delete_old(home, 1)
    assert left(home) == {"2026-11-23", "other"}
