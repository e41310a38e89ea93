"""Records in a terminal."""

import io

from rich.console import Console

from flows.ops.status import ChampionSummary, JobStatus, NightSummary, PendingSubmission
from flows.ops.terminal import show
from flows.ops.versions import Role, VersionList, VersionRow
from flows.records import Decision


def printed(record) -> str:
    """Return a record as a terminal of 80 columns shows it."""
    out = io.StringIO()
    console = Console(file=out, width=80)
    for part in show(record):
        console.print(part)
    return out.getvalue()


def test_values_are_lines_and_lists_are_tables():
    """What is None or empty is left out; a list of records is a table under its name."""
    record = JobStatus(
        namespace="practice/b/c",
        champion=ChampionSummary(version="v1", public_score=0.99123, since="2026-11-23T02:30:00.123+00:00"),
        nights=[],
        pending=[PendingSubmission(version="v1", ref=7)],
        unknown=None,
        submitting=None,
        quota=0,
    )

    lines = [line.rstrip() for line in printed(record).splitlines()]

    assert lines == [
        "namespace  practice/b/c",
        "champion",
        "  version  v1",
        "  practice score  0.99123",
        "  since  2026-11-23 02:30 UTC",
        "pending",
        "version ref",
        "v1      7",
        "submissions left today  0",
    ]


def test_a_table_of_versions_fits_80_columns():
    """A version's name has its night and its model, so they have no columns of their own."""
    name = "2026-11-23-ensemble-0123abcd"
    row = VersionRow(
        version=name, model="ensemble", preset="balanced", valid_accuracy=0.99701, public_score=0.99685,
        submission=12345678, role=Role.FORMER,
    )  # fmt: skip

    text = printed(VersionList(namespace="practice/b/c", versions=[row]))

    assert f"{name} balanced 0.99701 0.99685  12345678   was champion" in text
    assert "practice" in text
    assert max(map(len, text.splitlines())) <= 80
    assert "model" not in text


def test_words_that_look_like_markup_are_shown_as_they_are():
    """A server's message with brackets is neither an error of the terminal nor a style."""
    said = "[/x] [bold red]quota[/bold red] [link=file:///etc]"
    row = VersionRow(
        version="v",
        model=said,
        preset=said,
        valid_accuracy=None,
        public_score=None,
        submission=None,
        role=Role.CHAMPION,
    )
    record = JobStatus(
        namespace="a", champion=None, nights=[], pending=[], unknown=None, submitting=None, quota_error=said
    )

    assert f"submissions left today  {said}" in printed(record)
    assert "[/x]" in printed(VersionList(namespace="a/b/c", versions=[row]))


def test_a_reason_has_a_line_of_its_own():
    """As a column of a table it would take six lines for each night."""
    night = NightSummary(
        night="2026-11-23", run="r", version="2026-11-23-convnet-0123abcd", valid_accuracy=0.9912,
        decision=Decision.REJECTED, reason="41 errors more than the champion", public_score=None,
    )  # fmt: skip
    record = JobStatus(
        namespace="kaggle/b/c", champion=None, nights=[night], pending=[], unknown=None, submitting=None
    )

    lines = [line.rstrip() for line in printed(record).splitlines()]

    assert lines[1:] == [
        "nights",
        "version                     valid   decision public",
        "2026-11-23-convnet-0123abcd 0.99120 rejected –",
        "2026-11-23-convnet-0123abcd: 41 errors more than the champion",
    ]
