"""Two competitions on one Prefect server and in one store: nights at once, which do not touch each other."""

import pytest

from flows import lease
from flows.registry import Registry
from flows.store.open import open_store
from mnist_core.spec import DIGITS_MINI, read_spec

NIGHT = "2026-11-23"
OWN = "eight-by-eight"
pytestmark = [pytest.mark.usefixtures("nothing_left"), pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture
def deployed(installed, eight_by_eight, monkeypatch):
    """The installation, with the deployments of a competition that is not built in beside the others."""
    with monkeypatch.context() as patch:
        patch.setitem(installed.environment, "MNIST_SPEC", str(eight_by_eight))
        patch.setitem(installed.environment, "MNIST_COMPETITION", "")
        done = installed.command("flows.ops.pools")
    assert done.returncode == 0, done.stderr
    return installed


def registry_of(installed, competition):
    """Return what a competition has in the store."""
    store = installed.home / "store"
    [namespace] = (store / "practice" / competition).iterdir()
    return Registry(open_store(str(store)), f"practice/{competition}/{namespace.name}")


def submissions(installed, competition):
    """Return what the practice server lists of a competition."""
    answer = installed.practice.call("ListSubmissions", competitionName=competition, pageSize=100)
    return answer.json()["submissions"]


def test_the_nights_of_two_competitions_at_once(deployed):
    """Both are promoted and submitted, each in its own namespace, under its own names on the server."""
    wanted = {"night": NIGHT, "model": "convnet", "preset": "fast"}
    runs = {
        DIGITS_MINI.name: deployed.trigger("nightly/nightly", **wanted),
        OWN: deployed.trigger(f"nightly/nightly-{OWN}", **wanted),
    }

    ended = {name: deployed.wait(run) for name, run in runs.items()}

    for name, run in ended.items():
        assert run["state_type"] == "COMPLETED", deployed.logs(runs[name])
        assert run["state"]["message"].startswith("promoted"), run["state"]
    one, other = ended.values()
    assert max(one["start_time"], other["start_time"]) < min(one["end_time"], other["end_time"])
    assert OWN in other["tags"]
    assert set(deployed.artifacts(runs[OWN])) == {f"scorecard-{OWN}", f"history-{OWN}"}
    assert set(deployed.artifacts(runs[DIGITS_MINI.name])) == {"scorecard", "history"}
    for name in runs:
        registry = registry_of(deployed, name)
        [version] = registry.versions()
        assert [entry.version for entry in registry.champions()] == [version]
        assert [(entry.run.night, entry.decision) for entry in registry.nights()] == [(NIGHT, "promoted")]
        assert lease.current(registry)[1].version == version
        [listed] = submissions(deployed, name)
        assert version in listed["description"]
        assert registry.score(version).public_score == pytest.approx(float(listed["publicScore"]))
    assert {path.name for path in (deployed.home / "store" / "practice").iterdir()} == set(runs)


def test_a_second_night_of_one_leaves_the_other_as_it_is(deployed, eight_by_eight):
    """Whatever one competition writes, no key of the other's namespace comes, goes or changes."""
    assert read_spec(eight_by_eight).name == OWN
    folder = deployed.home / "store" / "practice" / DIGITS_MINI.name
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert before

    run = deployed.trigger(f"nightly/nightly-{OWN}", night="2026-11-24", model="convnet", preset="fast")

    assert deployed.wait(run)["state_type"] == "COMPLETED", deployed.logs(run)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert len(submissions(deployed, DIGITS_MINI.name)) == 1
