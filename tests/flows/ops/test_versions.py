"""`versions`, `rollback`, `promote` and `prune`: each on a real store."""

import pytest
from typer.testing import CliRunner

import flows.prune
from flows import ending
from flows.__main__ import app
from flows.ops.status import status
from flows.ops.versions import Role, plan_rollback, promote, prune, rollback, versions
from flows.parameters import SubmitParameters
from flows.policy import champions
from flows.preflight import preflight
from flows.records import Demotion, PruneResult
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


def test_a_champion_of_long_ago_still_has_its_role(history, monkeypatch):
    """The list's last entry names only the latest champions."""
    monkeypatch.setattr(champions, "KEPT", 1)
    names = [history.promote(night) for night in ("2026-11-23", SECOND, "2026-11-25")]

    rows = versions(history.settings).versions

    assert [row.role for row in rows] == [Role.FORMER, Role.FORMER, Role.CHAMPION]
    assert names[0] not in champions.recent(history.registry.champion_entry()[1])


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


def test_the_plan_of_a_rollback_changes_nothing_and_is_what_then_happens(history):
    """It names both champions; if another one came since, the rollback that was agreed to is refused."""
    first = history.promote()
    second = history.promote(SECOND)

    plan = plan_rollback(history.settings)

    assert (plan.demotes.version, plan.promotes.version) == (second, first)
    assert history.registry.champion() == (2, second)
    third = history.promote("2026-11-25")
    with pytest.raises(SettingsError, match=f"the champion is {third} now"):
        rollback(history.settings, second)
    assert history.registry.champion() == (3, third)


def typed(monkeypatch, *arguments, terminal=True, answer=""):
    """Run a command as a person at a terminal does, or as a machine without one."""
    monkeypatch.setattr(ending, "has_terminal", lambda: terminal)
    monkeypatch.setattr(ending.typer, "confirm", lambda *_args, **_options: answer == "y")
    return CliRunner().invoke(app, arguments)


@pytest.mark.parametrize(
    ("options", "terminal", "answer", "code", "done"),
    [
        ([], True, "y", 0, True),
        ([], True, "n", 1, False),
        ([], False, "", 2, False),
        (["--yes"], False, "", 0, True),
        (["--dry-run"], False, "", 0, False),
        (["--dry-run", "--yes"], True, "", 0, False),
    ],
)
def test_rollback_and_prune_ask_before_they_act(history, monkeypatch, options, terminal, answer, code, done):
    """Who agrees, or says --yes, gets it; without a terminal and --yes nothing happens, exit code 2."""
    first = history.promote()
    second = history.promote(SECOND)
    pruned = []
    monkeypatch.setattr(
        flows.prune, "prune", lambda *_: pruned.append(1) or PruneResult(versions=0, objects=0)
    )

    results = [
        typed(monkeypatch, command, *options, terminal=terminal, answer=answer)
        for command in ("rollback", "prune")
    ]

    assert [result.exit_code for result in results] == [code, code]
    assert history.registry.champion()[1] == (first if done else second)
    assert bool(pruned) is done
    if code == 2:
        assert "--yes" in results[0].stderr
    elif not done:
        assert second in results[0].output


def test_prune_counts_what_it_deleted(history):
    """Nothing is old enough in a store that was just made."""
    history.promote()

    done = prune(history.settings, keep=1)

    assert done.to_json() == {"namespace": history.registry.namespace, "versions": 0, "objects": 0}


def test_promote_undoes_a_rollback(history):
    """The version is champion again, and not demoted any more; a rollback goes back as before."""
    first = history.promote()
    second = history.promote(SECOND)
    rollback(history.settings)

    done = promote(history.settings, second)

    assert done.champion.version == second
    assert history.registry.champion() == (4, second)
    assert history.registry.demotion(second) is None
    assert rollback(history.settings).champion.version == first


def test_promote_refuses_what_the_alarm_demoted_and_what_is_not_there(history):
    """Nothing changes; the words say why."""
    first = history.promote()
    second = history.promote(SECOND)
    history.registry.promote(first, 2, "public score", demoted=second, cause=Demotion.ALARM)

    for version, words in (
        (second, "the alarm demoted it: public score"),
        (first, "it is the champion already"),
        ("2026-11-25-convnet-00000000", "there is no such version"),
    ):
        with pytest.raises(SettingsError, match=words):
            promote(history.settings, version)
    assert history.registry.champion() == (3, first)


def test_a_version_that_does_not_exist_is_refused_with_the_nearest_one(history):
    """The one that was meant, the store, and the command that lists those that exist."""
    version = history.promote()
    typed = version[:-1] + ("0" if version[-1] != "0" else "1")

    with pytest.raises(SettingsError) as caught:
        preflight(SubmitParameters(version=typed), history.settings)

    assert f"did you mean {version}?" in str(caught.value)
    assert ".json" not in str(caught.value)
    assert "flows versions" in str(caught.value)


def test_a_namespace_without_a_champion_after_an_alarm_is_shown_as_such(history):
    """`status` and `versions` work, a rollback finds nothing, and a person may promote another version."""
    first = history.promote()
    other = history.publish(SECOND)
    history.registry.promote(None, 1, "public score", demoted=first, cause=Demotion.ALARM)

    assert status(history.settings).champion is None
    assert [row.role for row in versions(history.settings).versions] == [Role.DEMOTED, Role.NONE]
    with pytest.raises(SettingsError, match="there is no champion"):
        rollback(history.settings)
    assert promote(history.settings, other).champion.version == other
