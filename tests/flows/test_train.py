"""What a training sees."""

import pytest

from flows.kaggle.download import Data
from flows.records import RunKey
from flows.registry import Registry
from flows.settings import read_settings
from flows.store.open import open_store
from flows.train import fit_and_publish


@pytest.mark.parametrize("model", ["scratch", "convnet"])
def test_training_gives_the_same_weights_where_test_csv_does_not_exist(data, tmp_path, model):
    """Nothing of test.csv, nor of what lies beside it, takes part in a training."""
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "train.csv").symlink_to(data.train_csv)

    weights = []
    for number, files in enumerate([data, Data(alone, data.digest, data.spec)]):
        registry = Registry(open_store(str(tmp_path / f"store-{number}")), "practice/digits-mini/0123")
        work = RunKey(night="2026-11-23", model=model, preset="fast", epochs=1, attempt=1)
        name, _ = fit_and_publish.fn(files, work, read_settings(), registry)
        manifest = registry.need_version(name)
        weights.append(manifest.objects["weights.safetensors"])

    assert weights[0] == weights[1]
