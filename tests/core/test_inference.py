"""predict, and the command that turns a bundle and test.csv into submission.csv."""

import hashlib
import json
import shutil
import subprocess
import sys
from copy import deepcopy
from functools import partial

import numpy as np
import pytest
import torch

from mnist_core.__main__ import main
from mnist_core.bundle import export
from mnist_core.digits import write_csv
from mnist_core.errors import BundleError, DataError, MnistError
from mnist_core.inference import open_model, pick_backend, predict
from mnist_core.models import convnet
from mnist_core.models.base import build
from mnist_core.models.convnet.net import ConvNet
from mnist_core.submission import read_csv

WIDE, WIDER = (list(convnet.PRESETS[preset].widths) for preset in ("fast", "best"))
MODELS = {
    "convnet-fast": ("convnet", {"widths": WIDE, "shifts": True, "upright": False}),
    "convnet-best": ("convnet", {"widths": WIDER, "shifts": True, "upright": False}),
    "convnet-plain": ("convnet", {"widths": WIDE, "shifts": False, "upright": False}),
    "convnet-upright": ("convnet", {"widths": WIDE, "shifts": True, "upright": True}),
    "resnet18": ("resnet18", {"crop": 24, "side": 32}),
    "resnet18-origin": ("resnet18", {}),
    "scratch": ("scratch", {"hidden": [100]}),
    "scratch-linear": ("scratch", {"hidden": []}),
    "scratch-regression": ("scratch-regression", {"hidden": [150, 150]}),
}


@pytest.fixture(scope="module")
def net():
    """Make a small untrained network that is sure of some digits, so that only others get a second look."""
    torch.manual_seed(0)
    net = ConvNet((4, 6, 8, 10), shifts=True).eval()
    with torch.no_grad():
        net.layers[-1].weight.mul_(52)
    return net


@pytest.fixture(scope="module")
def bundle(net, tmp_path_factory):
    """Export its bundle."""
    folder = tmp_path_factory.mktemp("bundle")
    export(net, folder, {}, learner=False)
    return folder


@pytest.fixture(params=["onnxruntime", "torch"])
def predictor(request, net, bundle):
    """Give each way to predict, called with pixels and options: the network, or its graph in ONNX Runtime."""
    return partial(predict, net) if request.param == "torch" else open_model(bundle, "onnxruntime").predict


def test_probabilities_are_those_of_the_logits(net, predictor, synthetic):
    """Each row is the softmax of the network's logits, float32, and sums to 1."""
    pixels = synthetic(30).pixels

    probabilities = predictor(pixels)

    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-6)
    with torch.no_grad():
        expected = net(torch.from_numpy(pixels)).softmax(1)
    np.testing.assert_allclose(probabilities, expected, rtol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 7, 30, 1000])
def test_the_batch_size_changes_nothing(predictor, synthetic, batch_size):
    """However the digits are split into batches, their order and probabilities stay the same."""
    pixels = synthetic(30).pixels

    np.testing.assert_allclose(predictor(pixels, batch_size=batch_size), predictor(pixels), rtol=1e-5)


def test_no_digits_give_no_probabilities(predictor):
    """An empty array gives an empty result."""
    assert predictor(np.empty((0, 28, 28), np.uint8)).shape == (0, 10)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((2, 28, 28), np.float32),
        np.zeros((2, 784), np.uint8),
        np.zeros((28, 28), np.uint8),
        np.zeros((2, 1, 28, 28), np.uint8),
    ],
)
def test_what_is_not_an_array_of_digits_is_refused(predictor, pixels):
    """Pixels of another type or shape are an error that names type and shape."""
    with pytest.raises(DataError, match=r"pixels are .*takes uint8 \(N, 28, 28\)"):
        predictor(pixels)


def test_the_network_stays_as_it_was(net, synthetic):
    """A network in training mode predicts as in evaluation mode, and keeps its mode and statistics."""
    training = deepcopy(net).train()
    before = deepcopy(training.state_dict())

    probabilities = predict(training, synthetic(30).pixels)

    np.testing.assert_array_equal(probabilities, predict(net, synthetic(30).pixels))
    assert training.training
    assert all(torch.equal(value, before[name]) for name, value in training.state_dict().items())
    assert all(value.is_contiguous() for value in training.state_dict().values())


def test_read_only_arrays_are_read(predictor, synthetic, recwarn):
    """Read-only and strided arrays predict like any other, without a warning."""
    pixels = synthetic(20).pixels
    pixels.flags.writeable = False

    np.testing.assert_allclose(predictor(pixels[::-2]), predictor(pixels)[::-2], rtol=1e-5)
    assert not recwarn.list


def test_progress_counts_digits(predictor, synthetic):
    """After each batch: digits done, digits in all."""
    reports = []

    predictor(synthetic(25).pixels, batch_size=10, progress=lambda *report: reports.append(report))

    assert reports == [(10, 25, "predict"), (20, 25, "predict"), (25, 25, "predict")]


# The graph


@pytest.mark.parametrize(("model", "sizes"), MODELS.values(), ids=MODELS)
def test_the_graph_agrees_with_the_network(model, sizes, synthetic, tmp_path):
    """Labels are the same, probabilities within 1e-4: on noise, no ink, only ink, and strokes that lean.

    An untrained network is sure of none of them; trained ones and real digits are in flows/test_parity.py.
    """
    torch.manual_seed(0)
    net = build(model, sizes).eval()
    export(net, tmp_path, {}, learner=False)
    extremes = np.stack([np.full((28, 28), ink, np.uint8) for ink in (0, 255)])
    row, column = np.indices((28, 28)) - 13.5
    strokes = [255 * (abs(column - lean * row) < 2).astype(np.uint8) for lean in np.linspace(-1.2, 1.2, 21)]
    pixels = np.concatenate([synthetic(2000, seed=3).pixels, extremes, strokes])

    found = open_model(tmp_path, "onnxruntime").predict(pixels)

    expected = predict(net, pixels)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.array_equal(found.argmax(1), expected.argmax(1))


@pytest.mark.parametrize("unsure", [[0], [1], [0, 0, 0], [0, 1, 0], [1, 1]], ids=str)
def test_the_graph_looks_twice_when_the_network_does(bundle, net, synthetic, unsure):
    """If none, one or all digits of a batch get a second look, the probabilities are those of torch."""
    pixels = synthetic(300, seed=3).pixels
    once = build("convnet", net.sizes | {"shifts": False})
    once.load_state_dict(net.state_dict())
    best = predict(once, pixels).max(1)
    sure, doubtful = pixels[best > 0.85], pixels[best < 0.65]
    batch = np.stack([(doubtful if look else sure)[place] for place, look in enumerate(unsure)])

    found = open_model(bundle, "onnxruntime").predict(batch)

    np.testing.assert_allclose(found, predict(net, batch), atol=1e-5)


def test_a_bundle_with_a_graph_is_opened_by_it(bundle):
    """If ONNX Runtime is installed, it predicts."""
    model = open_model(bundle)

    assert model.backend == pick_backend(model.manifest.files) == "onnxruntime"
    assert model.manifest.model == "convnet"


@pytest.mark.parametrize("backend", ["onnxruntime", "torch"])
def test_labels_are_the_likeliest_classes(bundle, net, synthetic, backend):
    """Of a classifier the open model reads the class with the greatest probability, in either backend."""
    pixels = synthetic(300).pixels

    assert np.array_equal(open_model(bundle, backend).read_labels(pixels), predict(net, pixels).argmax(1))


@pytest.mark.parametrize("backend", ["onnxruntime", "torch"])
def test_labels_of_a_regression_are_its_rounded_numbers(tmp_path, synthetic, backend):
    """They may lie outside the classes, which the probabilities alone would hide."""
    torch.manual_seed(0)
    net = build("scratch-regression", {"hidden": []})
    pixels = synthetic(200).pixels
    with torch.no_grad():
        net.weights[0].mul_(10 / net.numbers(torch.from_numpy(pixels)).std())
        expected = net.numbers(torch.from_numpy(pixels)).round().long().numpy()
    assert expected.min() < -1
    assert expected.max() > 10
    export(net, tmp_path, {}, learner=False)

    assert np.array_equal(open_model(tmp_path, backend).read_labels(pixels), expected)


def test_without_onnx_runtime_it_is_torch(bundle, net, synthetic, monkeypatch):
    """If ONNX Runtime cannot be imported, a bundle is opened in torch."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)

    model = open_model(bundle)

    assert model.backend == "torch"
    assert np.array_equal(model.predict(synthetic(9).pixels), predict(net, synthetic(9).pixels))


@pytest.fixture
def spoilt(bundle, tmp_path):
    """Copy the bundle with other content in model.onnx and the right digest, or (None) without the file."""

    def write(content):
        folder = tmp_path / "spoilt"
        shutil.copytree(bundle, folder)
        manifest = json.loads((folder / "manifest.json").read_text())
        if content is None:
            (folder / "model.onnx").unlink()
            del manifest["files"]["model.onnx"]
        else:
            (folder / "model.onnx").write_bytes(content)
            manifest["files"]["model.onnx"]["sha256"] = hashlib.sha256(content).hexdigest()
        (folder / "manifest.json").write_text(json.dumps(manifest))
        return folder

    return write


def test_a_bundle_without_a_graph_is_opened_in_torch(spoilt, net, synthetic):
    """A bundle whose manifest names no graph predicts in torch."""
    model = open_model(spoilt(None))

    assert model.backend == "torch"
    assert np.array_equal(model.predict(synthetic(9).pixels), predict(net, synthetic(9).pixels))


def test_a_bundle_without_a_graph_is_not_opened_by_one(spoilt):
    """A backend asked for by name whose file is missing names that file."""
    with pytest.raises(BundleError, match=r"model.onnx cannot be read"):
        open_model(spoilt(None), "onnxruntime")


@pytest.mark.parametrize("content", [b"", b"no graph", b"\x08\x08" * 500])
def test_a_graph_that_cannot_be_read_is_refused(spoilt, content):
    """A file that has the right digest and is not a graph is an error of one line that names it."""
    with pytest.raises(BundleError, match=r"model.onnx cannot be opened by ONNX Runtime") as refusal:
        open_model(spoilt(content))
    assert "\n" not in str(refusal.value)


def test_a_graph_that_is_cut_short_is_refused(bundle, spoilt):
    """Half a graph is refused."""
    content = (bundle / "model.onnx").read_bytes()

    with pytest.raises(BundleError, match=r"model.onnx cannot be opened"):
        open_model(spoilt(content[: len(content) // 2]))


def test_a_graph_of_something_else_is_refused(spoilt, tmp_path):
    """A graph with other inputs and outputs is not one of our networks."""
    other = tmp_path / "other.onnx"
    torch.onnx.export(
        torch.nn.Linear(2, 2), (torch.zeros(1, 2),), other, input_names=["words"], output_names=["tags"],
        dynamo=False,
    )  # fmt: skip

    with pytest.raises(BundleError, match=r"is not a graph of pixels and logits but of words, tags"):
        open_model(spoilt(other.read_bytes()))


# The command


@pytest.fixture(scope="module")
def competition(net, synthetic, tmp_path_factory):
    """Make a folder with a bundle and a test.csv of full length."""
    folder = tmp_path_factory.mktemp("competition")
    export(net, folder / "bundle", {})
    write_csv(synthetic(28_000, labelled=False), folder / "test.csv")
    return folder


def test_a_submission_is_one_light_process(competition, net, synthetic):
    """`submission` writes 28,000 labels without torch, fastai or Prefect, in less than 250 MB."""
    script = """
import json, sys
from pathlib import Path
from mnist_core.__main__ import main
try:
    main()
finally:
    names = {name.partition(".")[0] for name in sys.modules}
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(json.dumps([sorted(names), int(status["VmHWM"].split()[0])]))  # the peak of its memory, in KiB
"""
    files = [competition / "bundle", competition / "test.csv", competition / "submission.csv"]

    process = subprocess.run(
        [sys.executable, "-c", script, "submission", *map(str, files)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert process.returncode == 0, process.stderr
    modules, peak_kib = json.loads(process.stdout)
    heavy = {
        "torch",
        "onnx",
        "fastai",
        "fastcore",
        "torchvision",
        "pandas",
        "prefect",
        "kaggle",
        "matplotlib",
    }
    assert not heavy & set(modules)
    assert peak_kib * 1024 < 250e6
    assert process.stderr.splitlines()[-1].startswith(f"{files[2]}: 28,000 digits by convnet in ")
    expected = predict(net, synthetic(28_000, labelled=False).pixels).argmax(1)
    assert np.array_equal(read_csv(files[2]), expected)


def test_a_submission_without_onnx_runtime_is_the_same(competition, net, synthetic, monkeypatch, capsys):
    """In torch the labels are the same, and the last line names the backend."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    out = competition / "by-torch.csv"
    monkeypatch.setattr(
        sys,
        "argv",
        ["mnist-core", "submission", str(competition / "bundle"), str(competition / "test.csv"), str(out)],
    )

    with pytest.raises(SystemExit) as end:
        main()

    assert not end.value.code
    assert capsys.readouterr().err.endswith(" s (torch)\n")
    expected = predict(net, synthetic(28_000, labelled=False).pixels).argmax(1)
    assert np.array_equal(read_csv(out), expected)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ({"bundle": "nothing"}, "manifest.json cannot be read"),
        ({"test.csv": "nothing.csv"}, "nothing.csv: does not exist"),
        ({"out": "no/folder/submission.csv"}, "No such file or directory"),
    ],
)
def test_an_error_is_one_line(competition, monkeypatch, capsys, spoil, message):
    """What a user can fix ends in exit code 1 and one line on stderr."""
    names = {"bundle": "bundle", "test.csv": "test.csv", "out": "submission.csv"} | spoil
    monkeypatch.setattr(
        sys, "argv", ["mnist-core", "submission", *(str(competition / n) for n in names.values())]
    )

    with pytest.raises(SystemExit) as end:
        main()

    assert end.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1


def test_an_error_of_the_caller_stays_what_it_is(bundle, monkeypatch):
    """A run whose time is over while a graph is opened is not told that the graph is damaged."""

    def overdue(*_args, **_options):
        raise MnistError("the night took too long")

    monkeypatch.setattr("onnxruntime.InferenceSession", overdue)

    with pytest.raises(MnistError, match="too long") as caught:
        open_model(bundle, "onnxruntime")

    assert not isinstance(caught.value, BundleError)
