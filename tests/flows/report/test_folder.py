"""Reports as folders under the home."""

from flows.report.folder import delete_old


def test_only_the_latest_reports_are_kept(tmp_path):
    """The reports of older nights go, the others stay, and so does what is no report."""
    for night in ("2026-11-21", "2026-11-22", "2026-11-23", "other"):
        (tmp_path / "reports" / night / "convnet-fast").mkdir(parents=True)

    delete_old(tmp_path, 2)

    left = {path.name for path in (tmp_path / "reports").iterdir()}
    assert left == {"2026-11-22", "2026-11-23", "other"}
