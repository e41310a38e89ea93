"""What every registered model does alike: a new one is tested by being there."""

import json
import random
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from mnist_core.bundle import export, load, load_learner
from mnist_core.digits import Digits
from mnist_core.errors import ModelError
from mnist_core.images import to_fastai
from mnist_core.inference import open_model, predict
from mnist_core.models.base import COMMON_PRESETS, build, find, kinds
from mnist_core.models.convnet.fit import steps_per_epoch
from mnist_core.training import fit
from tests.core.models.patterns import random_states, same, ten_kinds

MODELS = list(kinds())
SINGLE = [name for name, kind in kinds().items() if kind.member is None]
EPOCHS = {"convnet": 3, "ensemble": 3}
"""Of the models whose later epochs differ from the first; the others train for one."""


def fit_briefly(digits, model, **options):
    """Train a network for as few epochs as show what a model does."""
    return fit(digits, model, epochs=EPOCHS.get(model, 1), device="cpu", **options)


@pytest.fixture(scope="module", params=MODELS)
def trained(request):
    """Give a network of each model."""
    return fit_briefly(ten_kinds(64), request.param)


@pytest.fixture(scope="module")
def bundle(trained, tmp_path_factory):
    """Give the folder of its bundle."""
    folder = tmp_path_factory.mktemp(trained.name)
    export(trained, folder, {"seed": 0})
    return folder


@pytest.fixture(scope="module")
def learner(bundle):
    """Give the Learner of its bundle."""
    return load_learner(bundle)


@pytest.mark.parametrize("kind", kinds().values(), ids=kinds())
def test_the_common_presets_train_longer_and_longer(kind):
    """fast, balanced and best exist for each model, each training longer than the one before."""
    recipes = [kind.presets[preset] for preset in COMMON_PRESETS]
    lengths = [recipe.epochs for recipe in recipes]
    if kind.name == "convnet":
        lengths = [sum(steps_per_epoch(1000, recipe)) for recipe in recipes]
    assert lengths == sorted(set(lengths))


def test_a_network_is_ready_for_use(trained):
    """It is in evaluation mode, float32, without gradients, on the CPU, contiguous; uint8 in, logits out."""
    assert not trained.training
    assert not any(parameter.requires_grad for parameter in trained.parameters())
    for tensor in trained.state_dict().values():
        assert tensor.device.type == "cpu"
        assert tensor.is_contiguous()
        assert tensor.dtype in (torch.float32, torch.int64)
    logits = trained(torch.from_numpy(ten_kinds(7).pixels))
    assert (logits.shape, logits.dtype) == ((7, 10), torch.float32)
    assert not torch.allclose(logits.sum(1), torch.ones(7))


def test_a_network_is_built_again_from_name_and_sizes(trained):
    """Its name and sizes, through JSON, build one that its weights fit and that gives the same logits."""
    pixels = torch.from_numpy(ten_kinds(7).pixels)

    again = build(trained.name, json.loads(json.dumps(trained.sizes)))
    again.load_state_dict(trained.state_dict())

    assert type(again) is type(trained)
    assert torch.equal(again.eval()(pixels), trained(pixels))


@pytest.mark.parametrize("model", MODELS)
def test_a_seed_gives_a_network(model):
    """The same seed gives the same weights bit for bit, whatever was drawn before; another gives others."""
    digits = ten_kinds(40)

    first = fit_briefly(digits, model, seed=1)
    torch.rand(3)
    random.random()

    assert same(first, fit_briefly(digits, model, seed=1))
    assert not same(first, fit_briefly(digits, model, seed=2))


@pytest.mark.parametrize("model", MODELS)
def test_global_random_states_stay_as_they_were(model):
    """Training draws from its own seed: torch's, numpy's and Python's global states are as before."""
    fit_briefly(ten_kinds(64), model)  # imports fastai, which may draw
    before = random_states()

    fit_briefly(ten_kinds(64), model, seed=7)

    assert random_states() == before


@pytest.mark.parametrize("model", MODELS)
def test_only_the_given_rows_are_seen(model):
    """Nonsense in the pixels and labels of all other rows changes no bit of the network."""
    digits = ten_kinds(60)
    rows = np.random.default_rng(5).permutation(60)[:40]
    hidden = np.setdiff1d(np.arange(60), rows)
    spoilt = Digits(digits.pixels.copy(), digits.labels.copy())
    spoilt.pixels[hidden] = 255 - spoilt.pixels[hidden]
    spoilt.labels[hidden] = 9 - spoilt.labels[hidden]

    net = fit_briefly(digits, model, rows=rows)

    assert same(net, fit_briefly(spoilt, model, rows=rows))
    assert not same(net, fit_briefly(spoilt, model))


@pytest.mark.parametrize("model", MODELS)
def test_progress_goes_up_to_its_total(model):
    """Progress counts up to its total and names epoch and loss."""
    reports = []

    fit(ten_kinds(40), model, epochs=3, device="cpu", progress=lambda *report: reports.append(report))

    done, totals, notes = zip(*reports, strict=True)
    assert list(done) == sorted(set(done))
    assert set(totals) == {done[-1]}
    assert all(re.search(r"epoch [123]/3(, hard rows)?  loss \d+\.\d\d$", note) for note in notes)


@pytest.mark.parametrize("model", MODELS)
def test_an_interrupt_passes_through(model):
    """^C in the training ends it as what it is."""

    def interrupt(done, total, note):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_briefly(ten_kinds(64), model, progress=interrupt)


@pytest.mark.parametrize("model", SINGLE)
def test_a_loss_that_is_not_finite_ends_the_training(model):
    """A network that diverges is an error that names the epoch and what to try, never a bundle."""
    digits, kind = ten_kinds(32), find(model)
    recipe = replace(kind.recipe("fast", 40), batch_size=8, lr=1e30)

    with pytest.raises(ModelError, match=r"loss is (nan|inf) in epoch \d+ of 40; try another seed"):
        kind.fit(digits.pixels, digits.labels, recipe)


# The bundle


def test_a_bundle_opens_as_the_network_that_was_exported(trained, bundle):
    """fit → export → load → predict: the same probabilities bit for bit."""
    pixels = ten_kinds(50, seed=1).pixels

    net, manifest = load(bundle)

    assert manifest.model == trained.name
    assert np.array_equal(predict(net, pixels), predict(trained, pixels))


@pytest.mark.parametrize("backend", ["onnxruntime", "torch"])
def test_both_backends_agree_with_the_network(trained, bundle, backend):
    """The same labels as the network's, and probabilities within 1e-4."""
    pixels = ten_kinds(300, seed=1).pixels

    found = open_model(bundle, backend).predict(pixels)

    expected = predict(trained, pixels)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.array_equal(found.argmax(1), expected.argmax(1))


@pytest.mark.parametrize("form", ["PILImages", "tensors", "arrays", "one tensor", "one array"])
def test_a_learner_takes_pictures_and_bytes(trained, learner, form):
    """get_preds on a test_dl agrees with our own inference, for PILImages and for uint8 digits alike."""
    pixels = ten_kinds(120, seed=1).pixels
    items = {
        "PILImages": [to_fastai(digit) for digit in pixels],
        "tensors": [torch.from_numpy(digit) for digit in pixels],
        "arrays": list(pixels),
        "one tensor": torch.from_numpy(pixels),
        "one array": pixels,
    }[form]

    theirs, _ = learner.get_preds(dl=learner.dls.test_dl(items))

    ours = predict(trained, pixels)
    np.testing.assert_allclose(theirs.numpy(), ours, atol=1e-4)
    assert np.array_equal(theirs.numpy().argmax(1), ours.argmax(1))


@pytest.mark.parametrize(
    "form", [to_fastai, torch.from_numpy, lambda digit: digit], ids=["PILImage", "tensor", "array"]
)
def test_a_learner_predicts_one_digit(trained, learner, form):
    """predict takes a PILImage or the digit's own bytes, and returns label, index and probabilities."""
    digits = ten_kinds(1, seed=2).pixels

    label, index, probabilities = learner.predict(form(digits[0]))

    ours = predict(trained, digits)[0]
    assert (label, int(index)) == (str(ours.argmax()), ours.argmax())
    np.testing.assert_allclose(probabilities.numpy(), ours, atol=1e-4)
