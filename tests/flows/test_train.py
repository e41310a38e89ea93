"""The flow `train`: what a training sees, what it reuses, and its seed."""

import pytest

from flows.kaggle.download import Data
from flows.parameters import check_member
from flows.publish import code_version, seed_of
from flows.records import RunKey
from flows.registry import Registry
from flows.run import RunContext
from flows.settings import SettingsError, read_settings
from flows.store.open import open_store
from flows.train import fit_and_publish, train

NIGHT = "2026-11-23"
RUN = RunKey(night=NIGHT, model="convnet", preset="fast")


@pytest.mark.parametrize("model", ["scratch", "convnet"])
def test_training_gives_the_same_weights_if_test_csv_does_not_exist(data, tmp_path, model):
    """Nothing of test.csv, nor of what lies beside it, takes part in a training."""
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "train.csv").symlink_to(data.train_csv)

    weights = []
    for number, files in enumerate([data, Data(alone, data.digest, data.spec)]):
        registry = Registry(open_store(str(tmp_path / f"store-{number}")), "practice/digits-mini/0123")
        key = RunKey(night=NIGHT, model=model, preset="fast", epochs=1)
        run = RunContext(settings=read_settings(), competition=None, data=files, registry=registry, key=key)
        name, _ = fit_and_publish.fn(run)
        weights.append(registry.need_version(name).objects["weights.safetensors"])

    assert weights[0] == weights[1]


@pytest.mark.usefixtures("prefect_api")
def test_train_reuses_what_it_published_and_fresh_opens_the_next_attempt(job, monkeypatch):
    """The same command trains once; `fresh` trains again with another seed."""
    started = job()
    monkeypatch.setenv("MNIST_EPOCHS", "1")
    first = train(NIGHT, seed=None)

    assert train(NIGHT).version == first.version
    assert "train" not in train(NIGHT).seconds
    other = train(NIGHT, fresh=True)
    assert other.version != first.version
    assert len(started.registry.versions()) == 2


def test_the_seed_follows_from_night_and_attempt():
    """Each night and each attempt has a seed of its own, the same one on any machine; a given one counts."""
    runs = [RUN, RUN.with_attempt(2), RUN.model_copy(update={"night": "2026-11-24"})]

    assert len({seed_of(run) for run in runs}) == 3
    assert seed_of(RUN) == seed_of(RUN.model_copy(update={"model": "resnet18", "preset": "best"}))
    assert seed_of(RUN.model_copy(update={"seed": 7})) == 7


def test_each_member_has_a_seed_of_its_own():
    """Derived from night, attempt and number, or the given one plus the number, in range."""
    assert len({seed_of(RUN.with_member(number)) for number in range(1, 6)}) == 5
    given = RUN.model_copy(update={"seed": 2**31 - 1})
    assert [seed_of(given.with_member(number)) for number in (1, 2)] == [0, 1]


@pytest.mark.parametrize(
    ("model", "member", "words"),
    [
        ("ensemble", 0, "a night of ensemble fast trains 2"),
        ("ensemble", 3, "a night of ensemble fast trains 2"),
        ("convnet", 1, "convnet is a single network"),
    ],
)
def test_a_member_that_no_night_trains_is_refused(monkeypatch, model, member, words):
    """A number out of range, or a member of a single network, is refused before anything is trained."""
    monkeypatch.setenv("MNIST_MODEL", model)

    with pytest.raises(SettingsError, match=f"member {member}: {words}"):
        check_member(member, read_settings())


def test_a_machine_without_git_can_publish(monkeypatch):
    """A version names the commit only if git is there to ask."""
    monkeypatch.setenv("PATH", "")

    assert "+" not in code_version.__wrapped__()
