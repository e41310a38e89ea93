"""A graph in integers beside the one in float32."""

import json

import numpy as np
import pytest
import torch

from mnist_core.bundle import export
from mnist_core.errors import BundleError, DataError
from mnist_core.inference import open_model
from mnist_core.int8 import add_int8
from mnist_core.manifest import INT8, ONNX
from mnist_core.models.base import build


@pytest.fixture
def bundle(tmp_path):
    """Return the function that exports an untrained network: `bundle(model, sizes)`."""

    def make(model, sizes):
        torch.manual_seed(0)
        export(build(model, sizes), tmp_path, {}, learner=False)
        return tmp_path

    return make


@pytest.mark.parametrize(
    ("model", "sizes"),
    [
        ("convnet", {"widths": [16, 24, 48, 64], "shifts": True, "upright": True}),
        ("resnet18", {"crop": 24, "side": 32}),
    ],
)
def test_the_graph_in_integers_is_preferred_and_gives_almost_the_same(bundle, synthetic, model, sizes):
    """After `add_int8` a bundle opens as `int8`, with probabilities close to those in float32."""
    folder = bundle(model, sizes)
    add_int8(folder, synthetic(400).pixels)
    pixels = synthetic(300, seed=1).pixels

    opened = open_model(folder)

    assert opened.backend == "int8"
    exact, found = open_model(folder, "onnxruntime").predict(pixels), opened.predict(pixels)
    assert 0 < np.abs(found - exact).max() < 0.05
    assert len(opened.predict(pixels[:0])) == 0


def test_convolutions_of_few_channels_and_shared_weights_stay_one(bundle, synthetic):
    """The first convolution stays in float32; both looks at a digit read the same integers."""
    import onnx

    folder = bundle("convnet", {"widths": [16, 24, 48], "shifts": True, "upright": False})
    add_int8(folder, synthetic(200).pixels)

    graph = onnx.load(folder / INT8).graph
    kinds = [weights.data_type for weights in graph.initializer if len(weights.dims) == 4]
    assert sorted(kinds) == [onnx.TensorProto.FLOAT, onnx.TensorProto.INT8, onnx.TensorProto.INT8]
    assert (folder / INT8).stat().st_size < (folder / ONNX).stat().st_size


@pytest.mark.parametrize(
    ("model", "sizes"),
    [("scratch", {"hidden": [100]}), ("convnet", {"widths": [4, 6], "shifts": False, "upright": False})],
)
def test_a_model_that_gains_nothing_is_refused(bundle, synthetic, model, sizes):
    """Without a convolution of eight or more input channels nothing is written."""
    folder = bundle(model, sizes)

    with pytest.raises(BundleError, match="has no convolution that integers make faster"):
        add_int8(folder, synthetic(200).pixels)
    assert not (folder / INT8).exists()


def test_too_few_digits_are_refused(bundle, synthetic):
    """Scales from a handful of digits would be wrong, so they are not made."""
    folder = bundle("convnet", {"widths": [16, 24, 48], "shifts": False, "upright": False})

    with pytest.raises(DataError, match=r"199 digits are too few .*; give 200 or more"):
        add_int8(folder, synthetic(199).pixels)


def test_a_bundle_without_a_graph_and_a_changed_one_are_refused(bundle, synthetic):
    """The float32 graph is needed, and the graph in integers is as the manifest says, or not opened."""
    folder = bundle("convnet", {"widths": [16, 24, 48], "shifts": False, "upright": False})
    add_int8(folder, synthetic(200).pixels)
    (folder / INT8).write_bytes((folder / INT8).read_bytes()[:-1] + b"x")

    with pytest.raises(BundleError, match=rf"{INT8} has changed since"):
        open_model(folder)

    facts = json.loads((folder / "manifest.json").read_text())
    del facts["files"][ONNX]
    (folder / "manifest.json").write_text(json.dumps(facts))
    with pytest.raises(BundleError, match=f"has no {ONNX}; export the bundle with a graph"):
        add_int8(folder, synthetic(200).pixels)
