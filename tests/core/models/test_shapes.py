"""Pictures of other shapes and other numbers of classes, through every model."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from mnist_core._libraries import load_onnxruntime
from mnist_core.bundle import export, load, to_onnx
from mnist_core.digits import Digits
from mnist_core.errors import BundleError, DataError
from mnist_core.inference import open_model, predict
from mnist_core.models.augment import SMALLEST, Frame, fills_its_frame, frame_of, random_maps
from mnist_core.models.base import build
from mnist_core.models.convnet import PRESETS
from mnist_core.models.convnet.net import ConvNet
from mnist_core.models.network import lengthened
from mnist_core.spec import CompetitionSpec
from mnist_core.training import fit

SHAPES = [(8, 8, 1), (64, 9, 3), (33, 21, 1)]
CLASSES = 3


def spec_of(shape, classes=CLASSES, **fields):
    """Return a competition of pictures of a shape."""
    return CompetitionSpec("shapes", None, None, shape, tuple(f"c{n}" for n in range(classes)), **fields)


def pictures(spec, count, seed=0):
    """Return noise with a bright bar, whose place is the class."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % spec.class_count
    pixels = random.integers(0, 60, (count, *spec.picture_shape), np.uint8)
    for label in range(spec.class_count):
        rows = slice(
            label * spec.shape[0] // spec.class_count, (label + 1) * spec.shape[0] // spec.class_count
        )
        pixels[labels == label, rows] += 150
    return Digits(pixels, labels.astype(np.int64), spec)


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        *(("convnet", shape) for shape in SHAPES),
        ("ensemble", (33, 21, 1)),
        ("scratch", (9, 31, 3)),
        ("scratch-regression", (8, 8, 1)),
    ],
    ids=str,
)
def test_a_model_takes_any_allowed_shape(model, shape):
    """Odd, oblong, small, large and coloured pictures are trained on, and the graph gives the same logits."""
    digits = pictures(spec_of(shape), 40)

    net = fit(digits, model, "fast", epochs=1, device="cpu")

    assert (net.shape, net.class_count) == (shape, CLASSES)
    again = build(net.name, json.loads(json.dumps(net.sizes)))
    again.load_state_dict(net.state_dict())
    assert np.array_equal(predict(again, digits.pixels), predict(net, digits.pixels))
    assert to_onnx(net)  # compares the graph with the network


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(8, 8, 1), (33, 21, 3)], ids=str)
def test_resnet18_takes_other_shapes(shape):
    """Its body needs pictures that are large enough: small ones are enlarged."""
    digits = pictures(spec_of(shape), 40)

    net = fit(digits, "resnet18", "fast", epochs=1, device="cpu")

    again = build(net.name, json.loads(json.dumps(net.sizes)))
    again.load_state_dict(net.state_dict())
    assert np.array_equal(predict(again, digits.pixels), predict(net, digits.pixels))
    assert (net.shape, net.class_count) == (shape, CLASSES)


def test_what_is_easy_is_learnt_in_few_rows():
    """On fewer rows than a preset is made for, its epochs are repeated."""
    digits = pictures(spec_of((12, 16, 3), classes=2, least_rows=2_000), 200)

    net = fit(digits, "convnet", "fast", device="cpu")

    assert (predict(net, digits.pixels).argmax(1) == digits.labels).all()


def test_a_bundle_knows_its_pictures_and_classes(tmp_path):
    """Both backends read the shape in the manifest, and refuse other pictures."""
    spec = spec_of((9, 12, 3))
    net = ConvNet((4, 6, 8), shape=spec.shape, classes=3).eval()
    digits = pictures(spec, 5)

    manifest = export(net, tmp_path, {}, learner=False, spec=spec)

    assert (manifest.classes, manifest.shape) == (["c0", "c1", "c2"], (9, 12, 3))
    assert load(tmp_path)[1] == manifest
    for backend in ("torch", "onnxruntime"):
        model = open_model(tmp_path, backend)
        np.testing.assert_allclose(model.predict(digits.pixels), predict(net, digits.pixels), atol=1e-4)
        with pytest.raises(DataError, match=r"takes uint8 \(N, 9, 12, 3\)"):
            model.predict(digits.pixels[..., 0])


def test_a_bundle_of_another_competition_is_refused(tmp_path):
    """The names of the classes would be wrong."""
    with pytest.raises(BundleError, match=r"pictures \(8, 8, 1\) of 3 classes, and digit-recognizer has"):
        export(ConvNet((2, 2), shape=(8, 8, 1), classes=3), tmp_path, {})


def test_a_learner_names_the_classes_of_its_competition(tmp_path):
    """A picture in colour goes through fastai unchanged."""
    from mnist_core.bundle import load_learner

    spec = spec_of((9, 12, 3))
    net = ConvNet((4, 6, 8), shape=spec.shape, classes=3).eval()
    export(net, tmp_path, {}, spec=spec)
    pixels = pictures(spec, 1).pixels

    label, _, probabilities = load_learner(tmp_path).predict(pixels[0])

    assert label in spec.classes
    np.testing.assert_allclose(probabilities, predict(net, pixels)[0], atol=1e-4)


def test_a_graph_looks_twice_at_one_picture_at_least():
    """Some runtimes refuse a batch of no pictures, and here the network is sure of all of them."""
    net = ConvNet((2, 3, 4), shifts=True).eval()
    with torch.no_grad():
        net.layers[-1].weight[0] = 1000
    pixels = np.random.default_rng(0).integers(0, 256, (7, 28, 28), np.uint8)
    seen = []
    read = net.logits
    net.logits = lambda ink: seen.append(len(ink)) or read(ink)

    with torch.no_grad():
        logits = net(torch.from_numpy(pixels))

    assert logits.softmax(1).amax(1).min() > 0.99
    assert seen == [7, 4]
    net.shifts = False
    assert torch.equal(net(torch.from_numpy(pixels)), logits)
    net.shifts = True
    del net.logits
    session = load_onnxruntime().InferenceSession(to_onnx(net))
    np.testing.assert_allclose(session.run(None, {"pixels": pixels})[0], logits, rtol=1e-4)


def test_pictures_that_fill_their_frame_are_read_whole():
    """Digits leave a margin, photographs do not; small pictures are enlarged."""
    digit = np.zeros((3, 28, 28), np.uint8)
    digit[:, 4:24, 8:20] = 255

    assert not fills_its_frame(digit)
    assert fills_its_frame(255 - digit)
    assert frame_of((28, 28)) == Frame((28, 28), (24, 24), (24, 24))
    assert frame_of((28, 28), whole=True) == Frame((28, 28), (28, 28), (28, 28))
    assert frame_of((SMALLEST - 1, 40)) == Frame((SMALLEST - 1, 40), (SMALLEST - 1, 40), (24, 40))


def test_a_turned_oblong_picture_is_not_sheared():
    """In pixels, a map is a rotation and a scale, whatever the sides are."""
    frame = frame_of((20, 60), whole=True)

    maps = random_maps(50, torch.Generator().manual_seed(0), (0.5, 0.2, 0.0, 0.0), frame)

    sides = torch.tensor([60.0, 20.0])
    in_pixels = maps[:, :, :2] * sides[:, None] / sides
    gram = in_pixels.transpose(1, 2) @ in_pixels
    assert gram[:, 0, 1].abs().max() < 1e-5
    torch.testing.assert_close(gram[:, 0, 0], gram[:, 1, 1])


@pytest.mark.parametrize("mirror", [True, False])
def test_only_a_competition_that_says_so_mirrors(mirror):
    """A mirrored digit is none; a mirrored leaf is one."""
    maps = random_maps(100, torch.Generator().manual_seed(0), (0, 0, 0, 0), frame_of((28, 28)), mirror=mirror)

    mirrored = (maps[:, 0, 0] < 0).float().mean()

    assert 0.3 < mirrored < 0.7 if mirror else mirrored == 0


def test_epochs_rise_on_few_rows_alone():
    """The steps are about those that the preset takes on `least_rows`, and on more rows nothing changes."""
    recipe = replace(PRESETS["fast"], least_rows=10_000, batch_size=100)

    assert lengthened(recipe, 10_000) == recipe == lengthened(recipe, 33_600)
    longer = lengthened(recipe, 1_000)
    assert (longer.epochs, longer.full_epochs) == (10 * recipe.epochs, 10 * recipe.full_epochs)
    assert lengthened(recipe, 9_900) == recipe  # one step of a hundred less, not all of them again
    assert lengthened(PRESETS["fast"], 10) == PRESETS["fast"]


def test_epochs_that_were_asked_for_are_not_raised():
    """`--epochs 1` is one epoch."""
    calls = []
    digits = pictures(spec_of((8, 8, 1), least_rows=5_000), 130)

    fit(digits, "scratch", "fast", epochs=2, progress=lambda done, total, note: calls.append(total))

    assert calls == [2, 2]
