"""`versions`, `rollback` and `prune`: each on a real store."""

import pytest

from flows.ops.status import status
from flows.ops.versions import Role, prune, rollback, versions
from flows.settings import SettingsError

SECOND = "2026-11-24"


def test_versions_have_their_roles_scores_and_submissions(history):
    """One row a version, the oldest first: what is and was champion, and what never was."""
    first = history.promote(ref=1, score=0.99)
    second = history.promote(SECOND)
    third = history.publish("2026-11-25")

    rows = versions(history.settings).versions

    assert [(row.version, row.role) for row in rows] == [
        (first, Role.FORMER),
        (second, Role.CHAMPION),
        (third, Role.NONE),
    ]
    assert (rows[0].public_score, rows[0].submission) == (0.99, 1)
    assert (rows[1].public_score, rows[1].submission) == (None, None)


def test_a_rollback_demotes_the_champion_and_promotes_the_one_before(history):
    """The reason shows in the status, and there is nothing further back to go to."""
    first = history.promote()
    second = history.promote(SECOND)

    done = rollback(history.settings)

    assert done.champion.version == first
    assert history.registry.champion() == (3, first)
    assert "rolled back manually" in status(history.settings).nights[0].reason
    assert {row.version: row.role for row in versions(history.settings).versions} == {
        first: Role.CHAMPION,
        second: Role.DEMOTED,
    }
    with pytest.raises(SettingsError, match=f"there is no champion before {first}"):
        rollback(history.settings)


def test_a_rollback_that_another_writer_precedes_decides_again(history, monkeypatch):
    """If a run promotes at the same moment, the rollback is about the champion that it made."""
    first = history.promote()
    second = history.promote(SECOND)
    promote = type(history.registry).promote

    def late(registry, version, after, reason, **demotion):
        if demotion.get("demoted") == second:
            promote(registry, history.publish("2026-11-25"), after, "came first")
        return promote(registry, version, after, reason, **demotion)

    monkeypatch.setattr(type(history.registry), "promote", late)

    done = rollback(history.settings)

    assert done.champion.version == second
    assert history.registry.champions()[-1].demoted.startswith("2026-11-25")
    assert first in history.registry.versions()


def test_prune_counts_what_it_deleted(history):
    """Nothing is old enough in a store that was just made."""
    history.promote()

    done = prune(history.settings, keep=1)

    assert done.to_json() == {"namespace": history.registry.namespace, "versions": 0, "objects": 0}
