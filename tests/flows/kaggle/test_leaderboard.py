"""The team's place on the leaderboard, through Kaggle's client."""

from types import SimpleNamespace

import pytest

from flows.kaggle.errors import CompetitionError
from flows.kaggle.leaderboard import rank
from flows.nightly import nightly
from flows.ops.status import status
from flows.records import Submission
from mnist_core.submission import to_csv


def test_the_practice_server_ranks_the_team(job):
    """Without a submission there is no place; a poor one is behind the practice server's other teams."""
    started = job()
    assert started.competition.rank() is None

    made = started.server.submit(to_csv([3] * started.server.spec.test_rows, started.server.spec))
    started.server.scored(made.json()["ref"])

    assert started.competition.rank() in (3, 4)


@pytest.mark.parametrize("down", [False, True], ids=["up", "down"])
def test_a_night_records_the_place_and_does_not_need_it(job, prefect_api, down):
    """The night's entry and its scorecard have the place; a leaderboard that fails changes nothing else."""
    started = job()
    started.publish()
    if down:
        started.server.fault("server-error", count=-1, rpc="GetLeaderboard")

    result = nightly("2026-11-23")

    assert result.decision == "promoted"
    [ended] = started.registry.nights()
    assert (ended.rank is None) is down
    found = status(started.settings)
    assert (found.rank, found.quota_error) == (ended.rank, None)
    assert found.quota is not None
    report = started.home / "home" / "reports" / "2026-11-23" / "convnet-fast" / "000001" / "scorecard.md"
    assert ("| leaderboard | place " in report.read_text()) is not down


def test_nights_that_submit_nothing_have_the_place_too(job, prefect_api):
    """A rejected night and a dry run show where the team stands."""
    started = job()
    started.publish()
    nightly("2026-11-23")
    started.publish(night="2026-11-24", errors=60)

    dry = nightly("2026-11-24", dry_run=True)
    rejected = nightly("2026-11-24")

    assert (dry.decision, rejected.decision) == ("dry-run", "rejected")
    assert all(night.rank is not None for night in started.registry.nights())
    report = started.home / "home" / "reports" / "2026-11-24"
    [card] = report.rglob("scorecard.md")
    assert "| leaderboard | place " in card.read_text()


def client(pages, score=0.9, team="us"):
    """A client whose team has one submission, and whose leaderboard has these pages."""
    made = Submission(ref=1, message="", status="COMPLETE", public_score=score, team=team)

    def page(token):
        number = int(token or 0)
        return pages[number], str(number + 1) if number + 1 < len(pages) else ""

    return SimpleNamespace(
        server="s", competition="c", submission_page=lambda _token: ([made], ""), leaderboard_page=page
    )


@pytest.mark.parametrize(
    ("pages", "place"),
    [
        ([[("them", 0.99), ("us", 0.9)]], 2),
        ([[("them", 0.99)], [("us", 0.95), ("us", 0.9)]], 3),  # another team of the same name
        ([[("them", 0.99)], []], None),
        ([[]], None),
    ],
)
def test_a_place_counts_the_teams_before(pages, place):
    """Over all pages; a team of the same name with a score that is not ours is another one."""
    assert rank(client(pages)) == place


def test_a_leaderboard_without_an_end_is_an_error():
    """A server that gives the same page again and again is not asked for ever."""
    endless = client([[("them", 0.99)]])
    endless.leaderboard_page = lambda _token: ([("them", 0.99)], "again")

    with pytest.raises(CompetitionError, match="repeats itself"):
        rank(endless)
