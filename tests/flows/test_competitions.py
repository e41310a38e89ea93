"""A competition that is not built in: added by two files, and beside another one in the same store."""

import csv
import re

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from flows import lease
from flows.kaggle.competition import connect
from flows.nightly import nightly
from flows.ops.export import export
from flows.registry import Registry
from flows.report.result import read_history
from flows.settings import read_settings
from flows.store.open import open_store
from mnist_core.__main__ import app

NIGHT = "2026-11-23"
pytestmark = pytest.mark.usefixtures("prefect_api")


def test_a_competition_is_added_without_a_python_file(job, eight_by_eight, monkeypatch, tmp_path):
    """A specification and labelled rows in a folder are enough for a whole night on the practice server.

    The library's commands need no more: they read the files, and the exported champion submits the same.
    """
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
    settings = read_settings()
    data = connect(settings).download()
    export(settings, None, tmp_path / "champion")
    run = CliRunner()
    for arguments in (
        ["submission", tmp_path / "champion", data.test_csv, tmp_path / "by-hand.csv"],
        ["convert", data.train_csv, tmp_path / "pngs", "--spec", folder / "spec.toml"],
    ):
        done = run.invoke(app, list(map(str, arguments)))
        assert done.exit_code == 0, done.output
    Image.new("L", (80, 80), 255).save(tmp_path / "champion" / "my-digit.png")
    card = (tmp_path / "champion" / "README.md").read_text()
    monkeypatch.chdir(tmp_path / "champion")
    exec(re.findall(r"^```python\n(.*?)^```", card, re.M | re.S)[0], {})
    assert "A classifier of the pictures of pets" in card
    sent = Registry(open_store(settings.store), connect(settings).namespace(data)).predictions(result.version)
    assert (tmp_path / "by-hand.csv").read_bytes() == sent
    assert len(list((tmp_path / "pngs").glob("[0-9]/*.png"))) == len(read_rows(data.train_csv))


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


@pytest.fixture
def few_rows(eight_by_eight, tmp_path):
    """Return a function that makes a competition with a metric of few rows, unequal classes and long ids."""

    def make(metric, header):
        header_of, *rows = (eight_by_eight.parent / "labelled.csv").read_text().splitlines()
        kept = [
            row for number, row in enumerate(rows) if int(row[0]) < 4 and number % (1 + 2 * int(row[0])) == 0
        ]
        text = eight_by_eight.read_text().replace("eight-by-eight", "few-rows")
        text = text.replace('"3", "4", "5", "6", "7", "8", "9"]', f'"3"]\nmetric = "{metric}"')
        text = text.replace('header = ["id", "label"]', f"header = {header}\nfirst_id = 7")
        folder = tmp_path / metric
        folder.mkdir()
        (folder / "labelled.csv").write_text("\n".join([header_of, *kept, ""]))
        (folder / "spec.toml").write_text(text)
        return folder / "spec.toml"

    return make


@pytest.mark.parametrize(
    ("metric", "header"), [("macro_f1", '["id", "label"]'), ("log_loss", '["id", "p_{}"]')]
)
def test_a_night_is_scored_by_its_competitions_metric(job, few_rows, monkeypatch, metric, header):
    """A whole night, training included: the public score is what scikit-learn makes of the submission.

    The labels of the test rows are looked up by their pixels, so neither our metrics nor the practice
    server's solution take part.
    """
    from sklearn.metrics import accuracy_score, f1_score, log_loss

    spec_file = few_rows(metric, header)
    started = job(spec=spec_file)
    for name, value in {"MNIST_EPOCHS": "4", "MNIST_TIMEOUT_S": "30", "MNIST_FLOOR": "0.1"}.items():
        monkeypatch.setenv(name, value)

    result = nightly(NIGHT)

    assert (result.decision, result.submission.status) == ("promoted", "COMPLETE"), result.reason
    known = {row[1:]: int(row[0]) for row in map(tuple, read_rows(spec_file.parent / "labelled.csv"))}
    labels = [known[tuple(row)] for row in read_rows(started.competition.download().test_csv)]
    sent = read_rows(started.registry.need_predictions(result.version))
    assert [int(row[0]) for row in sent] == list(range(7, 7 + len(labels)))
    values = np.array([list(map(float, row[1:])) for row in sent])
    if metric == "macro_f1":
        expected = f1_score(labels, values[:, 0], average="macro")
        assert abs(expected - accuracy_score(labels, values[:, 0])) > 1e-4
    else:
        expected = log_loss(labels, values / values.sum(1, keepdims=True), labels=range(4))
        assert values.shape[1] == 4
    assert result.submission.public_score == pytest.approx(expected, abs=2e-5)
    [entry] = read_history(started.registry)
    assert entry.public[0] == result.submission.public_score


def read_rows(file):
    """Return the rows of a CSV file below its header; a file is a path or its content."""
    text = file.decode() if isinstance(file, bytes) else file.read_text()
    return list(csv.reader(text.splitlines()))[1:]
