"""The exported learner: two ways to open it that agree, and what is refused."""

import json
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from mnist_core import bundle
from mnist_core.errors import BundleError, DataError, ModelError
from mnist_core.images import to_fastai
from mnist_core.inference import open_model, predict
from mnist_core.manifest import read_manifest
from mnist_core.models.convnet.net import ConvNet
from mnist_core.training import fit

OPENED_BY = {
    "model.onnx": open_model,
    "weights.safetensors": bundle.load,
    "learner.pkl": bundle.load_learner,
}
FACTS = {"seed": 3, "preset": "fast", "valid_accuracy": 0.25, "created": "2026-01-31T02:00:00Z"}


@pytest.fixture(scope="module", params=["convnet", "resnet18"])
def exported(request, synthetic, tmp_path_factory):
    """Export a network trained on a few digits."""
    net = fit(synthetic(64), request.param, epochs=2)
    folder = tmp_path_factory.mktemp(request.param) / "new" / "bundle"
    manifest = bundle.export(net, folder, FACTS)
    return SimpleNamespace(net=net, folder=folder, manifest=manifest, learner=bundle.load_learner(folder))


@pytest.fixture
def small(tmp_path):
    """Export an untrained convnet, to be damaged; its learner.pkl is bytes that no test opens."""
    net = ConvNet((2, 2, 2, 2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            bundle, "to_learner", lambda *_: SimpleNamespace(export=lambda f: f.write_bytes(b"pickle"))
        )
        bundle.export(net, tmp_path, FACTS)
    return tmp_path


def rewrite(folder, **changes):
    """Change entries of a manifest."""
    file = folder / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_the_weights_open_as_the_network_that_was_exported(exported, synthetic):
    """load returns the same probabilities bit for bit, in evaluation mode and without gradients."""
    net, manifest = bundle.load(exported.folder)

    assert np.array_equal(predict(net, synthetic(50).pixels), predict(exported.net, synthetic(50).pixels))
    assert not net.training
    assert not any(parameter.requires_grad for parameter in net.parameters())
    assert manifest == exported.manifest


def test_the_learner_agrees_with_the_weights(exported, synthetic):
    """fastai's get_preds and our own inference give the same labels, and probabilities within 1e-4."""
    digits = synthetic(300, seed=1).pixels

    theirs, _ = exported.learner.get_preds(dl=exported.learner.dls.test_dl([to_fastai(d) for d in digits]))

    ours = predict(bundle.load(exported.folder)[0], digits)
    assert np.array_equal(theirs.numpy().argmax(1), ours.argmax(1))
    np.testing.assert_allclose(theirs.numpy(), ours, atol=1e-4)


def test_the_learner_agrees_with_the_weights_on_two_thousand(synthetic):
    """They agree on 2,000 digits, too, with an untrained network, whose classes lie close together."""
    net = ConvNet((4, 6, 8, 10)).eval()
    learner, digits = bundle.to_learner(net), synthetic(2000, seed=2).pixels

    theirs, _ = learner.get_preds(dl=learner.dls.test_dl([to_fastai(digit) for digit in digits]))

    ours = predict(net, digits)
    assert np.array_equal(theirs.numpy().argmax(1), ours.argmax(1))
    np.testing.assert_allclose(theirs.numpy(), ours, atol=1e-4)


def test_every_byte_reaches_the_network_as_it_is(synthetic):
    """fastai's division by 255 and back changes none of the 256 values."""
    seen = []
    ramp = np.resize(np.arange(256, dtype=np.uint8), (28, 28))
    learner = bundle.to_learner(ConvNet((2, 2, 2, 2)))
    learner.model.net.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))

    learner.predict(to_fastai(ramp))

    assert np.array_equal(seen[0][0].numpy(), ramp)


def test_the_learner_predicts_one_picture(exported, synthetic):
    """predict takes a PILImage and returns the digit as text, its index, and each class's probability."""
    digit = synthetic(1).pixels

    label, index, probabilities = exported.learner.predict(to_fastai(digit[0]))

    ours = predict(exported.net, digit)[0]
    assert label == str(ours.argmax())
    assert index == ours.argmax()
    np.testing.assert_allclose(probabilities.numpy(), ours, atol=1e-4)
    assert list(exported.learner.dls.vocab) == list("0123456789")


def test_the_learner_predicts_files(exported, synthetic, tmp_path):
    """Paths of PNGs, grey as ours are or in colour, are predicted like the digits in them."""
    digits = synthetic(2).pixels
    paths = [tmp_path / "grey.png", tmp_path / "colour.png"]
    Image.fromarray(digits[0]).save(paths[0])
    Image.fromarray(digits[1]).convert("RGB").save(paths[1])

    theirs, _ = exported.learner.get_preds(dl=exported.learner.dls.test_dl(paths))

    np.testing.assert_allclose(theirs.numpy(), predict(exported.net, digits), atol=1e-4)


def test_a_picture_of_another_size_is_refused(exported):
    """A picture that is not 28 × 28 is an error that says so, not resized silently."""
    with pytest.raises(DataError, match=r"\(1, 3, 32, 28\); resize them to 28 × 28"):
        exported.learner.predict(to_fastai(np.zeros((28, 28), np.uint8)).resize((28, 32)))


@pytest.mark.parametrize(
    "digit",
    [
        torch.zeros(28, 28),
        torch.zeros(784, dtype=torch.uint8),
        torch.zeros(1, 28, 28, dtype=torch.uint8),
        np.zeros((28, 28)),
    ],
    ids=["floats", "a row", "a channel", "a float array"],
)
def test_a_learner_refuses_what_is_not_a_digit(digit):
    """Floats, which would be read as black, and other shapes are an error, never a guess."""
    with pytest.raises(DataError, match=r"one picture is uint8 .*, found"):
        bundle.to_learner(ConvNet((2, 2, 2, 2))).predict(digit)


def test_the_learner_opens_with_fastai_alone(exported):
    """fastai's own load_learner opens learner.pkl on the CPU, with its usual warning about pickles."""
    from fastai.learner import load_learner

    with pytest.warns(UserWarning, match="insecure pickle"):
        learner = load_learner(exported.folder / "learner.pkl")

    assert {tensor.device.type for tensor in learner.model.state_dict().values()} == {"cpu"}
    assert learner.dls.device == torch.device("cpu")


def test_the_pickle_stores_every_tensor_as_a_cpus(exported):
    """A machine without CUDA opens what a machine with CUDA exported."""
    places = set()

    def note(storage, place):
        places.add(place)
        return storage

    torch.load(exported.folder / "learner.pkl", map_location=note, weights_only=False)

    assert places == {"cpu"}


def test_our_load_learner_is_quiet(exported):
    """After the digest was checked there is nothing to warn about."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bundle.load_learner(exported.folder)


def test_the_learner_holds_no_digits(exported):
    """learner.pkl is hardly larger than the weights."""
    files = exported.manifest.files

    assert len(exported.learner.dls.train_ds) == len(exported.learner.dls.valid_ds) == 0
    assert files["learner.pkl"].bytes < files["weights.safetensors"].bytes + 100_000


def test_the_learner_can_be_trained_on(exported, synthetic):
    """The learner's copy has gradients, unlike the exported network, so that it can be fine-tuned."""
    images = torch.from_numpy(synthetic(4).pixels)[:, None].expand(-1, 3, -1, -1) / 255

    exported.learner.model(images).sum().backward()

    assert all(parameter.grad is not None for parameter in exported.learner.model.parameters())
    assert not any(parameter.requires_grad for parameter in exported.net.parameters())


def test_the_manifest_names_everything(exported):
    """Model, sizes, classes, files with digest and length, libraries with version, and the caller's facts."""
    manifest = exported.manifest

    assert manifest == read_manifest(exported.folder)
    assert (manifest.model, manifest.sizes) == (exported.net.name, exported.net.sizes)
    assert manifest.classes == list("0123456789")
    assert manifest.files.keys() == {"learner.pkl", "model.onnx", "weights.safetensors"}
    for name, file in manifest.files.items():
        assert file.bytes == (exported.folder / name).stat().st_size
    assert {"python", "torch", "fastai"} <= manifest.libraries.keys()
    assert manifest.facts == FACTS
    assert FACTS.items() <= json.loads((exported.folder / "manifest.json").read_text()).items()


@pytest.mark.parametrize(("name", "open_it"), OPENED_BY.items(), ids=OPENED_BY)
def test_a_changed_byte_is_refused(small, name, open_it):
    """One changed byte in a file is found before the file is used, and the file is named."""
    content = bytearray((small / name).read_bytes())
    content[-1] ^= 1
    (small / name).write_bytes(content)

    with pytest.raises(BundleError, match=rf"{name} has changed"):
        open_it(small)


@pytest.mark.parametrize(("name", "open_it"), OPENED_BY.items(), ids=OPENED_BY)
def test_a_changed_digest_is_refused(small, name, open_it):
    """A manifest whose digest was changed no longer fits its file."""
    files = read_manifest(small).to_json()["files"]
    digest = files[name]["sha256"]
    files[name]["sha256"] = ("1" if digest[0] == "0" else "0") + digest[1:]
    rewrite(small, files=files)

    with pytest.raises(BundleError, match=rf"{name} has changed"):
        open_it(small)


@pytest.mark.parametrize(("name", "open_it"), [("manifest.json", bundle.load), *OPENED_BY.items()])
def test_a_missing_file_is_named(small, name, open_it):
    """A bundle without one of its files says which, and what to do."""
    (small / name).unlink()

    with pytest.raises(BundleError, match=rf"{name} cannot be read .*export the bundle again"):
        open_it(small)


@pytest.mark.parametrize(
    "changes",
    [
        {"sizes": {"widths": [2, 2, 2, 3], "shifts": False, "upright": False}},
        {"sizes": {}},
        {"model": "resnet18", "sizes": {}},
        {"model": "perceptron"},
    ],
)
def test_weights_that_do_not_fit_are_refused(small, changes):
    """A manifest that names another network than that of the weights is an error of one line."""
    rewrite(small, **changes)

    with pytest.raises(BundleError, match=r"weights.safetensors does not fit") as refusal:
        bundle.load(small)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "facts", [{"model": "mine"}, {"files": {}}, {"folds": {1, 2}}, {"accuracy": float("nan")}]
)
def test_facts_that_cannot_be_written_are_refused(tmp_path, facts):
    """A fact named like a field of the manifest, or one that is not JSON, leaves no folder behind."""
    with pytest.raises(BundleError, match="facts"):
        bundle.export(ConvNet((2, 2, 2, 2)), tmp_path / "bundle", facts)
    assert not (tmp_path / "bundle").exists()


def test_an_export_that_is_cut_short_leaves_no_manifest(small, monkeypatch):
    """Exporting over a bundle removes its manifest first, so mixed files are never taken for a bundle."""

    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(bundle, "to_learner", fail)

    with pytest.raises(MemoryError):
        bundle.export(ConvNet((2, 2, 2, 2)), small, {})
    with pytest.raises(BundleError, match=r"manifest.json cannot be read"):
        bundle.load(small)


def test_a_graph_that_fixes_the_number_of_digits_is_refused(tmp_path):
    """len() of a batch becomes a constant of the graph; such a network is not exported."""

    class Counting(ConvNet):
        def forward(self, pixels):
            return super().forward(pixels) * torch.ones(len(pixels), 1)

    with pytest.raises(ModelError, match="convnet: its ONNX graph does not run for another number of digits"):
        bundle.export(Counting((2, 2, 2, 2)), tmp_path, {}, learner=False)
    assert not (tmp_path / "manifest.json").exists()


def test_a_graph_that_gives_other_logits_is_refused(tmp_path):
    """A value fixed by the batch with which the graph was written is detected with another batch."""

    class Remembering(ConvNet):
        def forward(self, pixels):
            return super().forward(pixels) + int(pixels.sum())

    with pytest.raises(ModelError, match="convnet: its ONNX graph gives other logits"):
        bundle.export(Remembering((2, 2, 2, 2)), tmp_path, {}, learner=False)


def test_no_file_of_an_older_bundle_is_left(small):
    """Exported without a learner, the folder keeps no learner.pkl of other weights."""
    bundle.export(ConvNet((2, 2, 2, 2)), small, {}, learner=False)

    assert {path.name for path in small.iterdir()} == {"manifest.json", "model.onnx", "weights.safetensors"}


def test_a_bundle_without_a_learner_says_how_to_make_one(tmp_path):
    """A bundle that was exported without fastai has no learner.pkl; the message says how to make one."""
    bundle.export(ConvNet((2, 2, 2, 2)).eval(), tmp_path, {}, learner=False)

    with pytest.raises(BundleError, match=r"make one here with to_learner\(load\(folder\)\[0\]\)"):
        bundle.load_learner(tmp_path)
