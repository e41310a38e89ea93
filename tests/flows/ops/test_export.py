"""`export`: a version of the store as a folder that a person can use."""

import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
from PIL import Image

from flows.ops.export import export
from flows.records import RunKey, Score, Status
from flows.report.model_card import public_score
from flows.settings import SettingsError
from mnist_core import load, predict, read_image
from mnist_core.errors import BundleError
from mnist_core.manifest import read_manifest
from tests.flows.ops.conftest import NIGHT


@pytest.fixture
def publish(history, bundle):
    """Publish the session's bundle in the store: `publish(learner=False)`; returns the version's name."""

    def publish(night=NIGHT, *, learner=True, manifest_json=None):
        folder = history.folder / f"trained-{night}"
        shutil.copytree(bundle, folder)
        manifest = read_manifest(folder)
        if not learner:
            (folder / "learner.pkl").unlink()
        if manifest_json is not None:
            (folder / "manifest.json").write_text(manifest_json)
        manifest = replace(manifest, facts=manifest.facts | {"night": night, "rows": 1200})
        run = history.registry.open_attempt(RunKey(night=night, model="convnet", preset="fast"), fresh=False)
        return history.registry.publish(run, manifest, folder)

    return publish


def promote(history, version):
    """Make a version champion."""
    assert history.registry.promote(version, history.registry.champion()[0], "better")


def test_the_champion_is_exported_and_recognises_a_picture(history, publish, bundle, tmp_path):
    """By default it goes into `champion`, as it was trained; the printed command works."""
    version = publish()
    promote(history, version)
    history.registry.put_score(Score(version=version, status=Status.COMPLETE, public_score=0.9))
    seven = Image.new("L", (200, 200), 255)
    seven.paste(0, (60, 40, 140, 60))
    seven.paste(0, (120, 60, 140, 160))
    seven.save("my-digit.png")

    done = export(history.settings, None, None)

    assert (done.version, done.folder) == (version, "champion")
    for name in ("learner.pkl", "model.onnx", "weights.safetensors"):
        assert (tmp_path / "champion" / name).read_bytes() == (bundle / name).read_bytes()
    run = subprocess.run(
        [sys.executable, *shlex.split(done.try_it)[1:], "--json"], capture_output=True, check=True
    )
    digit = predict(load(bundle)[0], read_image(tmp_path / "my-digit.png")[None])[0].argmax()
    assert f'"digit": {digit}'.encode() in run.stdout
    card = (tmp_path / "champion/README.md").read_text()
    assert "practice score 0.90000, given by 127.0.0.1_9; not submitted to kaggle.com" in card
    assert "trained on 1,200 rows of train.csv" in card


@pytest.mark.parametrize("learner", [True, False])
def test_the_python_of_a_model_card_runs(history, publish, monkeypatch, tmp_path, learner):
    """ONNX Runtime, plain torch and fastai each load the folder and run, also without learner.pkl."""
    version = publish(learner=learner)
    export(history.settings, version, tmp_path / "mine")
    monkeypatch.chdir(tmp_path / "mine")
    page = Image.new("L", (60, 60), 255)
    page.paste(0, (27, 10, 33, 50))
    page.save("my-digit.png")
    blocks = re.findall(r"^```python\n(.*?)^```", (tmp_path / "mine/README.md").read_text(), re.M | re.S)
    names: dict[str, object] = {}

    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)

    assert len(blocks) == 3


def test_a_folder_with_other_files_is_refused(history, publish):
    """Only an earlier export is replaced, and what a person put beside it stays."""
    first, second = publish(), publish("2026-11-24", learner=False)
    (history.folder / "work").mkdir()
    (history.folder / "work/README.md").write_text("mine")

    with pytest.raises(SettingsError, match="work exists, and is not an earlier export"):
        export(history.settings, first, history.folder / "work")
    target = history.folder / "mine"
    export(history.settings, first, target)
    (target / "my-digit.png").write_bytes(b"a picture")
    export(history.settings, second, target)

    assert (target / "README.md").read_text().count(second) == 1
    assert (target / "my-digit.png").exists()
    assert not (target / "learner.pkl").exists()
    assert (history.folder / "work/README.md").read_text() == "mine"


def test_an_unknown_version_is_refused_before_anything_is_written(history, publish):
    """The message names the command that lists the versions; without a champion it does so, too."""
    publish()

    for version, said in (
        (f"{NIGHT}-convnet-00000000", "there is no such version"),
        (None, "no champion yet"),
    ):
        with pytest.raises(SettingsError, match=f"{said}.*python -m flows versions"):
            export(history.settings, version, None)
    assert not (history.folder / "champion").exists()


def test_a_version_of_another_format_is_refused(history, publish, bundle):
    """What this code could not open is not written."""
    manifest = (bundle / "manifest.json").read_text()
    version = publish(manifest_json=manifest.replace('"format": 2', '"format": 1'))

    with pytest.raises(BundleError, match=f"manifest.json of {version} has format 1, this code reads 2"):
        export(history.settings, version, None)
    assert not (history.folder / version).exists()


def test_a_public_score_is_named_after_its_server():
    """Only a score of kaggle.com is Kaggle's."""
    score = Score(version="v", status=Status.COMPLETE, public_score=0.9945)

    assert public_score("kaggle", score) == "0.99450 on kaggle.com"
    assert public_score("practice", score).startswith("practice score 0.99450, given by the practice server")
    assert public_score("kaggle", None) == "none known"
