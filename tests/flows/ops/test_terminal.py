"""Records in a terminal."""

import io

from rich.console import Console

from flows.ops.status import ChampionSummary, JobStatus, NightSummary, PendingSubmission
from flows.ops.terminal import show
from flows.ops.versions import PrunePlan, Role, VersionList, VersionRow
from flows.records import Decision


def printed(record, width=80) -> str:
    """Return a record as a terminal shows it."""
    out = io.StringIO()
    console = Console(file=out, width=width)
    for part in show(record, width):
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

    assert f"{name} balanced 0.99701  0.99685  12345678   was champion" in text
    assert "practice" in text
    assert max(map(len, text.splitlines())) <= 80
    assert "model" not in text


def test_on_a_narrow_terminal_the_rows_of_a_wide_table_are_lines():
    """At 60 columns neither a number nor a heading is broken in two."""
    row = VersionRow(
        version="2026-11-23-ensemble-0123abcd", model="ensemble", preset="balanced", valid_accuracy=0.99701,
        public_score=0.99685, submission=12345678, role=Role.FORMER,
    )  # fmt: skip

    lines = printed(VersionList(namespace="practice/b/c", versions=[row]), width=60).splitlines()

    assert [line.rstrip() for line in lines[1:]] == [
        "versions",
        "  2026-11-23-ensemble-0123abcd",
        "    preset balanced, validation accuracy 0.99701, practice",
        "    score 0.99685, submission 12345678, role was champion",
    ]


def test_no_digest_on_a_screen_is_longer_than_twelve_digits():
    """A namespace ends in the digest of the data, of which the folder's name has more digits."""
    record = VersionList(namespace=f"practice/b/{'0123456789abcdef' * 4}", versions=[])

    assert printed(record).strip() == "namespace  practice/b/0123456789ab"


def test_a_plan_that_deletes_nothing_says_so():
    """An empty list of versions is a zero, not a line that is missing."""
    record = PrunePlan(namespace="kaggle/b/c", keep=30, versions_to_delete=[], objects_to_delete=0)

    assert "versions to delete  0" in printed(record)


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
        "                            valid             public",
        "version                     accuracy decision score",
        "2026-11-23-convnet-0123abcd 0.99120  rejected –",
        "2026-11-23-convnet-0123abcd: 41 errors more than the champion",
    ]
