"""A competition that is not built in: added by two files, and beside another one in the same store."""

import pytest

from flows import lease
from flows.nightly import nightly
from flows.registry import Registry
from flows.report.result import read_history
from flows.store.open import open_store

NIGHT = "2026-11-23"
pytestmark = pytest.mark.usefixtures("prefect_api")


def test_a_competition_is_added_without_a_python_file(job, eight_by_eight, monkeypatch, tmp_path):
    """A specification and labelled rows in a folder are enough for a whole night on the practice server."""
    job(spec=eight_by_eight)
    folder = tmp_path / "pets"
    folder.mkdir()
    (folder / "spec.toml").write_text(eight_by_eight.read_text().replace("eight-by-eight", "pets"))
    (folder / "labelled.csv").write_bytes((eight_by_eight.parent / "labelled.csv").read_bytes())
    for name, value in {
        "MNIST_SPEC": str(folder / "spec.toml"),
        "MNIST_COMPETITION": "",
        "MNIST_KAGGLE": "practice",
        "MNIST_KAGGLE_TOKEN": "",
        "MNIST_EPOCHS": "40",
        "MNIST_TIMEOUT_S": "30",
    }.items():
        monkeypatch.setenv(name, value)

    result = nightly(NIGHT)

    assert (result.decision, result.submission.status) == ("promoted", "COMPLETE")
    assert result.submission.public_score > 0.9
    assert [path.name for path in (tmp_path / "home" / "store" / "practice").iterdir()] == ["pets"]


def test_two_competitions_in_one_store_do_not_touch_each_other(job, eight_by_eight):
    """While one of them submits, the other has its night, and each keeps its own champion and scores."""
    first = job()
    champion = first.publish()
    nightly(NIGHT)
    digits = first.registry
    held = lease.acquire(digits, champion, "mnist-nightly:held")
    before = sorted(digits.store.keys(f"{digits.namespace}/"))

    second = job(spec=eight_by_eight)
    other = second.publish(night="2026-11-24")
    result = nightly("2026-11-24")

    assert (result.decision, result.submission.posted) == ("promoted", True)
    assert held is not None
    assert sorted(digits.store.keys(f"{digits.namespace}/")) == before
    again = Registry(open_store(second.settings.store), digits.namespace)
    assert (again.champion()[1], second.registry.champion()[1]) == (champion, other)
    assert digits.store.root == second.registry.store.root
    for registry, version in ((again, champion), (second.registry, other)):
        [entry] = read_history(registry)
        assert (entry.version, entry.public is not None) == (version, True)
