"""What the person on call asks and does: each command on a real store beside a real competition."""

import os
import time

import pytest

from flows import lease
from flows.nightly import nightly
from flows.ops import status as oncall
from flows.records import LeaseState
from flows.settings import SettingsError

NIGHT = "2026-11-23"
pytestmark = pytest.mark.usefixtures("prefect_api")


def test_before_the_first_night_there_is_nothing_to_tell(job):
    """Each command says which command comes first."""
    started = job()

    for ask in (oncall.status, oncall.versions, oncall.rollback, lambda settings: oncall.prune(settings, 1)):
        with pytest.raises(SettingsError, match="flows nightly"):
            ask(started.settings)


def test_status_tells_how_the_job_stands(job, monkeypatch):
    """Champion, nights, a submission without a score, one of which nobody knows, and the quota."""
    started = job(score_seconds=3.0)
    monkeypatch.setenv("MNIST_SCORE_WAIT_S", "0")
    started.publish()
    version = nightly(NIGHT).version

    told = oncall.status(started.settings)

    assert told["champion"]["version"] == version
    assert [night["night"] for night in told["nights"]] == [NIGHT]
    assert [pending["version"] for pending in told["pending"]] == [version]
    assert told["unknown"] is None
    assert told["quota"] == 9

    started.server.scored(told["pending"][0]["ref"])
    nightly(NIGHT)
    registry = started.registry
    held = lease.acquire(registry, "2026-11-24-convnet-ffffffff", "token")
    assert oncall.status(started.settings)["posting"] == "2026-11-24-convnet-ffffffff"
    monkeypatch.setattr("flows.lease.LEASE_S", 0.01)
    held._write(LeaseState.SENT)
    time.sleep(0.05)
    told = oncall.status(started.settings)
    assert told["pending"] == []
    assert told["unknown"] == "2026-11-24-convnet-ffffffff"
    assert told["nights"][0]["public_score"] > 0.9


def test_status_works_while_the_competition_is_down(job):
    """The store is asked; of the quota it says why it is not known."""
    started = job()
    started.publish()
    nightly(NIGHT)
    started.server.stop()

    told = oncall.status(started.settings)

    assert told["quota"] is None
    assert "the server is up" in told["quota_error"]


def test_rollback_gives_the_title_back_and_it_stays_there(job):
    """The champion before holds again; the night of the one taken back, run again, does not promote it."""
    started = job()
    first = started.publish()
    nightly(NIGHT)
    started.publish(night="2026-11-24")
    nightly("2026-11-24")

    told = oncall.rollback(started.settings)

    assert told["champion"]["version"] == first
    assert "rolled back by hand" in oncall.status(started.settings)["nights"][0]["reason"]
    assert [row["role"] for row in oncall.versions(started.settings)["versions"]] == [
        "champion",
        "demoted",
    ]
    nightly("2026-11-24")
    assert started.registry.champion() == (3, first)
    with pytest.raises(SettingsError, match="no champion before"):
        oncall.rollback(started.settings)


def test_versions_tells_which_is_and_was_champion(job):
    """One row a version, with its scores and its submission."""
    started = job()
    first = started.publish()
    nightly(NIGHT)
    second = started.publish(night="2026-11-24")
    nightly("2026-11-24")

    rows = {row["version"]: row for row in oncall.versions(started.settings)["versions"]}

    assert (rows[first]["role"], rows[second]["role"]) == ("was champion", "champion")
    assert rows[first]["public_score"] > 0.9
    assert rows[first]["submission"] == rows[second]["submission"]  # the same labels


def test_the_place_is_the_one_written_to_last(job):
    """Where the competition's data changed, the commands speak of the place of tonight's."""
    started = job()
    started.publish()
    nightly(NIGHT)
    registry = started.registry
    other = f"{registry.namespace.rpartition('/')[0]}/0000000000000000"
    registry.store.put(f"{other}/champions/000001.json", b"{}")
    os.utime(registry.store.root / other / "champions" / "000001.json", (1, 1))

    assert oncall.versions(started.settings)["namespace"] == registry.namespace
