"""Checks of the competition's server, against a real practice server."""

import pytest

from flows.kaggle.errors import CompetitionError
from flows.ops.doctor.competition import check_credentials, check_quota, check_rules
from flows.ops.doctor.finding import Finding, State
from flows.settings import SettingsError


def test_a_server_that_accepts_the_account(job, run):
    """The credentials are named by their source, and nothing is submitted."""
    started = job(daily_limit=7)

    assert run(check_credentials)["credentials"].found.endswith("accepts KAGGLE_USERNAME and KAGGLE_KEY")
    assert run(check_rules)["rules"].state is State.OK
    assert run(check_quota)["quota"] == Finding.ok("quota", "7 submissions left today")
    assert started.server.submissions() == []


@pytest.mark.parametrize("how", ["key", "token"])
def test_a_wrong_key_is_refused_without_being_shown(job, run, monkeypatch, how):
    """The error names the variables, not what they hold."""
    job()
    monkeypatch.setenv("KAGGLE_KEY", "0123456789abcdef0123456789abcdef")
    if how == "token":
        monkeypatch.setenv("KAGGLE_API_TOKEN", "KGAT_0123456789abcdef")

    with pytest.raises(CompetitionError) as caught:
        run(check_credentials)

    assert "KAGGLE_API_TOKEN" in caught.value.remedy
    assert "0123456789abcdef" not in str(caught.value)


def test_half_a_pair_of_credentials_is_named(job, run, monkeypatch):
    """Which variable is missing, before any server is asked."""
    job()
    monkeypatch.delenv("KAGGLE_KEY")

    with pytest.raises(SettingsError, match="KAGGLE_KEY is not"):
        run(check_credentials)


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
