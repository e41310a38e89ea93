"""Checks of the competition's server, against a real practice server."""

from datetime import timedelta

import pytest

from flows.kaggle.errors import CompetitionError
from flows.ops.doctor.competition import check_counting, check_credentials, check_quota, check_rules
from flows.ops.doctor.finding import Finding, State
from flows.settings import SettingsError
from mnist_core.submission import to_csv


def test_a_server_that_accepts_the_account(job, run):
    """The credentials are named by their source, and nothing is submitted."""
    started = job(daily_limit=7)

    words = "accepts MNIST_KAGGLE_TOKEN, without an end that is known"
    assert run(check_credentials)["credentials"].found.endswith(words)
    assert run(check_rules)["rules"].state is State.OK
    assert run(check_quota)["quota"] == Finding.ok("quota", "7 submissions left today")
    assert started.server.submissions() == []


def test_a_wrong_token_is_refused_without_being_shown(job, run, monkeypatch):
    """The error names the variable, not what it holds."""
    job()
    monkeypatch.setenv("MNIST_KAGGLE_TOKEN", "KGAT_0123456789abcdef")

    with pytest.raises(CompetitionError) as caught:
        run(check_credentials)

    assert "MNIST_KAGGLE_TOKEN" in caught.value.remedy
    assert "0123456789abcdef" not in str(caught.value)


def test_missing_credentials_are_named(job, run, monkeypatch):
    """Which variable is missing, before any server is asked."""
    job()
    monkeypatch.delenv("MNIST_KAGGLE_TOKEN")
    with pytest.raises(SettingsError, match="needs a token of its own"):
        run(check_credentials)

    monkeypatch.setenv("MNIST_KAGGLE", "live")
    monkeypatch.setenv("KAGGLE_USERNAME", "alice")
    with pytest.raises(SettingsError, match="KAGGLE_KEY is not"):
        run(check_credentials)


def test_a_credentials_file_that_others_can_read_is_a_warning(job, run, monkeypatch, tmp_path):
    """It works, and the remedy is the command that closes it."""
    started = job()
    monkeypatch.setattr("flows.kaggle.competition.LIVE_URL", started.server.url)
    monkeypatch.setenv("MNIST_KAGGLE", "live")
    path = tmp_path / ".kaggle" / "access_token"
    path.parent.mkdir()
    path.write_text(started.server.token)

    path.chmod(0o644)
    assert run(check_credentials)["credentials"].remedy == f"`chmod 600 {path}`"
    path.chmod(0o600)
    assert run(check_credentials)["credentials"].state is State.OK


def test_rules_that_are_not_accepted_have_their_address(job, run):
    """Whoever accepts them there can submit."""
    started = job()
    started.server.fault("rules", count=-1)

    found = run(check_rules)["rules"]

    assert found.state is State.FAILED
    assert f"competitions/{started.settings.competition}/rules" in found.remedy


def test_an_exhausted_quota_is_a_warning(job, run):
    """It returns by itself."""
    job(daily_limit=0)

    assert run(check_quota)["quota"].state is State.WARNING


def test_a_server_that_is_down_is_an_error_with_a_remedy(job, run):
    """The remedy is to check the server and the network."""
    job().server.stop()

    with pytest.raises(CompetitionError) as caught:
        run(check_credentials)

    assert "the server is up" in caught.value.remedy


def test_the_newest_submission_that_counts_is_shown_with_its_age(job, run, monkeypatch):
    """Old ones are a warning: Kaggle forgets them after two months."""
    started = job()
    assert run(check_counting)["leaderboard"].found == "no submission has a score yet"
    good = to_csv([3] * started.server.spec.test_rows, started.server.spec)
    started.server.scored(started.server.submit(good).json()["ref"])
    assert run(check_counting)["leaderboard"].state is State.OK

    monkeypatch.setattr("flows.ops.status.age_of", lambda _: timedelta(days=55))
    found = run(check_counting)["leaderboard"]
    assert (found.state, "55 days old" in found.found) == (State.WARNING, True)
