"""The same labels whichever way a bundle is opened, on all 28,000 digits of test.csv."""

import json

import numpy as np
import pytest

from flows.records import RunKey
from flows.registry import Registry
from flows.store.open import open_store
from flows.submit import predict_version
from mnist_core import export, fit, load, load_learner, open_model, predict, read_test, read_train, to_fastai


@pytest.fixture(scope="session")
def test_pixels(unpacked):
    """The 28,000 digits of test.csv."""
    return read_test(unpacked / "test.csv").pixels


@pytest.fixture(scope="session")
def hard_pixels(test_pixels):
    """2,000 digits that are two at once: of two of test.csv the brighter of each pixel, or their mean."""
    first, second = test_pixels[:1000], test_pixels[1000:2000]
    return np.concatenate([np.maximum(first, second), first // 2 + second // 2])


def agree(ours, theirs):
    """Whether probabilities are within 1e-4 and give the same labels."""
    return np.abs(ours - theirs).max() < 1e-4 and (ours.argmax(1) == theirs.argmax(1)).all()


@pytest.mark.parametrize("model", ["convnet", "resnet18"])
def test_plain_inference_agrees_with_the_learner_on_all_28000(
    unpacked, test_pixels, hard_pixels, tmp_path, model
):
    """The graph, and weights and manifest in plain torch, give what load_learner and get_preds give."""
    import fastai.callback.progress  # noqa: F401  (gives a Learner its no_bar)

    seen = np.arange(1000)
    net = fit(read_train(unpacked / "train.csv"), model, "fast", rows=seen, seed=1, epochs=1)
    export(net, tmp_path, {})

    plain, _ = load(tmp_path)
    ours = predict(plain, test_pixels)
    graph = open_model(tmp_path, "onnxruntime")
    learner = load_learner(tmp_path)
    with learner.no_bar():
        items = [to_fastai(digit) for digit in test_pixels]
        theirs, _ = learner.get_preds(dl=learner.dls.test_dl(items, bs=500))

    assert ours.shape == (28_000, 10)
    assert agree(ours, theirs.numpy())
    assert agree(graph.predict(test_pixels), ours)
    assert agree(graph.predict(hard_pixels), predict(plain, hard_pixels))


@pytest.mark.parametrize(
    ("model", "preset"), [("convnet", "best"), ("scratch", "fast"), ("scratch-regression", "fast")]
)
def test_the_graph_agrees_with_plain_inference_on_all_28000(
    unpacked, test_pixels, hard_pixels, tmp_path, model, preset
):
    """For the other models too, on digits that are two at once as well."""
    seen = np.arange(2000)
    net = fit(read_train(unpacked / "train.csv"), model, preset, rows=seen, seed=1, epochs=2)
    export(net, tmp_path, {}, learner=False)

    graph = open_model(tmp_path, "onnxruntime")

    assert agree(graph.predict(test_pixels), predict(net, test_pixels))
    assert agree(graph.predict(hard_pixels), predict(net, hard_pixels))


@pytest.mark.parametrize("kept", [("weights.safetensors",), ("weights.safetensors", "model.onnx")])
def test_a_version_is_predicted_by_what_its_manifest_names(bundle, data, tmp_path, caplog, kept):
    """A version that has no graph, as the first ones, is predicted in torch: the labels are the same."""
    registry = Registry(open_store(str(tmp_path / "store")), "practice/digit-recognizer/0123456789abcdef")
    folder = tmp_path / "bundle"
    folder.mkdir()
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["files"] = {name: manifest["files"][name] for name in kept}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    for name in kept:
        (folder / name).write_bytes((bundle / name).read_bytes())
    version = registry.publish(RunKey(night="2026-11-23", model="convnet", preset="fast"), manifest, folder)

    with caplog.at_level("INFO", logger="mnist"):
        predict_version.fn(version, data, registry)

    backend = "onnxruntime" if "model.onnx" in kept else "torch"
    assert f"predicted 28,000 digits of {version} by {backend}" in caplog.text
    labels = predict(load(bundle)[0], read_test(data.test_csv).pixels).argmax(1)
    rows = registry.predictions(version).decode().split()[1:]
    assert rows == [f"{image},{label}" for image, label in enumerate(labels, 1)]
