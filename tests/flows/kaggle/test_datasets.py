"""A Kaggle data set becomes a competition: the real client brings its file, the practice server deals it."""

import pytest

from flows.kaggle import datasets
from flows.kaggle.competition import connect
from flows.kaggle.errors import CompetitionError
from flows.kaggle.practice import find_practice_server
from flows.settings import SettingsError, read_settings

SPEC = """
name = "stripes"
source = "dataset:someone/stripes"
classes = ["a", "b"]
shape = [8, 8, 1]
files.train = "stripes_train.csv"
columns.label = "label"
submission.header = ["id", "label"]
"""


@pytest.fixture
def kaggle(job, monkeypatch):
    """A practice server in the part of kaggle.com, which has one data set; the settings are about that."""
    started = job()
    folder = started.server.home / "datasets" / "someone" / "stripes"
    folder.mkdir(parents=True)
    rows = [f"{'ab'[row % 2]},{','.join(['0'] * 64)}\n" for row in range(30)]
    header = ",".join(["label", *(f"pixel{number}" for number in range(64))])
    (folder / "stripes_train.csv").write_text("".join([header, "\n", *rows]))
    monkeypatch.setattr(datasets, "LIVE_URL", started.server.url)
    for name, value in {
        "MNIST_SPEC": SPEC,
        "MNIST_COMPETITION": "",
        "MNIST_KAGGLE": "practice",
        "MNIST_KAGGLE_TOKEN": "",
        "KAGGLE_USERNAME": started.server.username,
        "KAGGLE_KEY": started.server.key,
    }.items():
        monkeypatch.setenv(name, value)
    return started


def test_the_file_of_a_data_set_is_downloaded_once(kaggle):
    """It is kept, and the next run asks nobody. What a killed download left is removed."""
    left = read_settings().home / "data" / "datasets" / "someone_stripes" / "unpack-killed"
    left.mkdir(parents=True)
    found = datasets.labelled_file(read_settings())
    kaggle.server.stop()

    assert found.read_text().startswith("label,pixel0")
    assert not left.exists()
    assert datasets.labelled_file(read_settings()) == found


def test_a_data_set_is_dealt_as_a_competition(kaggle):
    """The practice server of the home serves it, though kaggle.com has no such competition."""
    found = find_practice_server(read_settings())

    assert found.url != kaggle.server.url
    with pytest.raises(SettingsError, match=r"not a competition on kaggle\.com.*dataset:someone/stripes"):
        connect(read_settings(kaggle="live"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("someone/stripes", "someone/spots"), "HTTP 404 Dataset not found: someone/spots"),
        (("stripes_train", "train"), r"train\.csv is missing.*\[files\] train .*datasets/someone/stripes"),
    ],
)
def test_what_a_data_set_lacks_is_named(kaggle, monkeypatch, change, words):
    """A misspelled data set or file is refused with its address."""
    monkeypatch.setenv("MNIST_SPEC", SPEC.replace(*change))

    with pytest.raises(CompetitionError, match=words):
        datasets.labelled_file(read_settings())
