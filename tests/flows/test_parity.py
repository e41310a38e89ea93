"""A bundle gives the same labels however it is opened; tests/e2e checks it on the large test set."""

import json
from dataclasses import replace

import numpy as np
import pytest

from flows.records import RunKey
from flows.run import Workspace
from flows.settings import read_settings
from flows.submit import predict_version
from mnist_core import export, fit, load, load_learner, open_model, predict, read_test, read_train, to_fastai
from mnist_core.manifest import read_manifest
from mnist_core.spec import DIGITS_MINI


@pytest.fixture(scope="module")
def train(unpacked):
    """The labelled digits of the small competition."""
    return read_train(unpacked / "train.csv", rows=DIGITS_MINI.train_rows)


@pytest.fixture(scope="module")
def pixels(unpacked, train):
    """Its 2,000 digits, and as many that are two at once: the brighter of each pixel, or their mean."""
    plain = np.concatenate([train.pixels, read_test(unpacked / "test.csv").pixels])
    first, second = plain[:1000], plain[1000:]
    return np.concatenate([plain, np.maximum(first, second), first // 2 + second // 2])


def agree(ours, theirs):
    """Return whether probabilities are within 1e-4 and give the same labels."""
    return np.abs(ours - theirs).max() < 1e-4 and (ours.argmax(1) == theirs.argmax(1)).all()


@pytest.mark.parametrize("model", ["convnet", "resnet18"])
def test_plain_inference_agrees_with_the_learner(train, pixels, tmp_path, model):
    """The graph, and weights and manifest in plain torch, give what load_learner and get_preds give."""
    import fastai.callback.progress  # noqa: F401  (gives a Learner its no_bar)

    net = fit(train, model, "fast", rows=np.arange(1000), seed=1, epochs=1)
    export(net, tmp_path, {})
    some = pixels[::4]

    plain, _ = load(tmp_path)
    ours = predict(plain, some)
    learner = load_learner(tmp_path)
    with learner.no_bar():
        items = [to_fastai(digit) for digit in some]
        theirs, _ = learner.get_preds(dl=learner.dls.test_dl(items, bs=500))

    assert ours.shape == (1000, 10)
    assert agree(ours, theirs.numpy())
    assert agree(open_model(tmp_path, "onnxruntime").predict(some), ours)


@pytest.mark.parametrize(
    ("model", "preset"), [("convnet", "best"), ("scratch", "fast"), ("scratch-regression", "fast")]
)
def test_the_graph_agrees_with_plain_inference(train, pixels, tmp_path, model, preset):
    """For the other models too, on digits that are two at once as well."""
    net = fit(train, model, preset, rows=np.arange(1500), seed=1, epochs=2)
    export(net, tmp_path, {}, learner=False)

    graph = open_model(tmp_path, "onnxruntime")

    assert agree(graph.predict(pixels), predict(net, pixels))


@pytest.mark.parametrize("kept", [("weights.safetensors",), ("weights.safetensors", "model.onnx")])
def test_a_version_is_predicted_by_what_its_manifest_names(bundle, data, registry, tmp_path, caplog, kept):
    """A version without a graph is predicted in torch, and the labels are the same."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    manifest = read_manifest(bundle)
    manifest = replace(manifest, files={name: manifest.files[name] for name in kept})
    (folder / "manifest.json").write_text(json.dumps(manifest.to_json()))
    for name in kept:
        (folder / name).write_bytes((bundle / name).read_bytes())
    version = registry.publish(RunKey(night="2026-11-23", model="convnet", preset="fast"), manifest, folder)

    with caplog.at_level("INFO", logger="mnist"):
        predict_version.fn(
            Workspace(settings=read_settings(), competition=None, data=data, registry=registry),
            registry.version(version),
        )

    backend = "onnxruntime" if "model.onnx" in kept else "torch"
    assert f"predicted 500 digits of {version} with {backend}" in caplog.text
    labels = predict(load(bundle)[0], read_test(data.test_csv).pixels).argmax(1)
    rows = registry.predictions(version).decode().split()[1:]
    assert rows == [f"{image},{label}" for image, label in enumerate(labels, 1)]
