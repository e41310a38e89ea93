"""The models in plain tensors: each step against torch's own, and the way from digits to a Learner."""

import json
import random
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mnist_core import bundle
from mnist_core.digits import Digits
from mnist_core.errors import DataError, ModelError, SubmissionError
from mnist_core.images import to_fastai
from mnist_core.inference import predict
from mnist_core.models.base import build
from mnist_core.models.regression import net as regression
from mnist_core.models.scratch import PRESETS
from mnist_core.models.scratch import net as scratch
from mnist_core.submission import read_csv, to_csv
from mnist_core.training import fit

MODULES = {"scratch": scratch, "scratch-regression": regression}
LEARNERS = ["convnet", "resnet18", *MODULES]
SMALL = scratch.Recipe(hidden=(32,), epochs=3)


def seeded(seed=0):
    """A generator of random numbers."""
    return torch.Generator().manual_seed(seed)


def ten_kinds(n, seed=0):
    """Make labelled digits that can be told apart: ten fixed patterns of 7 × 7 blocks under noise."""
    patterns = np.random.default_rng(99).random((10, 7, 7)) < 0.4
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, n)
    ink = np.kron(patterns[labels], np.ones((1, 4, 4))) * 190
    return Digits((ink + rng.integers(0, 60, (n, 28, 28))).astype(np.uint8), labels)


def same(a, b):
    """Whether two networks have the same weights, bit for bit."""
    return all(
        torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Train on one thread: several wait for each other where other work runs beside the tests."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# The steps


def test_pixels_become_inputs():
    """Rows of 784 numbers, row-major, 0 for background and 1 for full ink."""
    pixels = torch.zeros(2, 28, 28, dtype=torch.uint8)
    pixels[1, 1, 0] = 255

    inputs = scratch.to_inputs(pixels)

    assert inputs.shape == (2, 784)
    assert inputs.dtype == torch.float32
    assert inputs.nonzero().tolist() == [[1, 28]]
    assert inputs[1, 28] == 1


def test_first_weights_keep_a_signal_at_its_size():
    """Through five layers with ReLU, numbers neither fade nor grow; all biases start at 0."""
    layers = [scratch.init_layer(300, 300, seeded(i)) for i in range(5)]
    x = torch.randn(200, 300, generator=seeded(9))

    for weights, bias in layers:
        x = scratch.relu(scratch.linear(x, weights, bias))
        assert not bias.any()

    assert 0.5 < x.square().mean() < 2


def test_cross_entropy_is_torchs():
    """The loss written by hand and its gradient are those of F.cross_entropy."""
    logits, labels = torch.randn(20, 10, generator=seeded()) * 5, torch.arange(20) % 10
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()

    loss = scratch.cross_entropy(ours, labels)
    loss.backward()
    expected = F.cross_entropy(theirs, labels)
    expected.backward()

    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_large_logits_do_not_overflow():
    """A logit of 10,000, whose exponential is no float, gives a finite loss and gradient."""
    logits = torch.tensor([[1e4, 0.0], [0.0, 1e4]], requires_grad=True)

    loss = scratch.cross_entropy(logits, torch.tensor([0, 0]))
    loss.backward()

    assert loss.item() == 5000
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_step_is_torchs(momentum):
    """Five steps, with momentum or without, end where torch.optim.SGD does, and use the gradient up."""
    ours = torch.randn(4, 3, generator=seeded()).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    optimizer = torch.optim.SGD([theirs], lr=0.1, momentum=momentum)
    velocity = [torch.zeros_like(ours)]

    for _ in range(5):
        ours.square().sum().backward()
        scratch.step([ours], velocity, lr=0.1, momentum=momentum)
        assert ours.grad is None
        optimizer.zero_grad()
        theirs.square().sum().backward()
        optimizer.step()

    torch.testing.assert_close(ours, theirs)


def test_mini_batches_deal_each_row_once():
    """Full mini-batches of different rows, in another order each time; what fills none is left out."""
    dealer = seeded()

    first, second = scratch.mini_batches(100, 8, dealer), scratch.mini_batches(100, 8, dealer)

    assert [len(rows) for rows in first] == [8] * 12
    rows = torch.cat(first)
    assert len(rows.unique()) == 96
    assert rows.min() >= 0
    assert rows.max() < 100
    assert not torch.equal(rows, torch.cat(second))


def test_a_batch_moves_as_one():
    """All digits of a mini-batch move alike, by up to the given pixels each way, and every way comes up."""
    pixels = torch.zeros(2, 28, 28, dtype=torch.uint8)
    pixels[:, 14, 14] = 1
    mover = seeded()

    moved = [scratch.move(pixels, 1, mover).nonzero() for _ in range(200)]

    assert all(torch.equal(places[0, 1:], places[1, 1:]) for places in moved)
    found = {tuple((places[0, 1:] - 14).tolist()) for places in moved}
    assert found == {(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)}
    assert torch.equal(scratch.move(pixels, 0, mover), pixels)


def test_without_hidden_layers_the_net_is_the_linear_model():
    """Step 2 holds step 1: one layer gives ten weighted sums, more put a ReLU between them."""
    pixels = torch.from_numpy(ten_kinds(5).pixels)
    [one] = scratch.init_layers([], 10, seeded())
    first, last = scratch.init_layers([16], 10, seeded())

    assert torch.equal(scratch.network(pixels, [one]), scratch.to_inputs(pixels) @ one[0] + one[1])
    inside = F.relu(scratch.to_inputs(pixels) @ first[0] + first[1])
    torch.testing.assert_close(scratch.network(pixels, [first, last]), inside @ last[0] + last[1])


def test_an_epoch_that_trains_lowers_the_loss_and_one_that_validates_changes_nothing():
    """train_epoch changes the layers for the better; validate_epoch gives the accuracy and leaves them."""
    digits = ten_kinds(500)
    pixels, labels = torch.from_numpy(digits.pixels), torch.from_numpy(digits.labels)
    layers = [
        (weights.requires_grad_(), bias.requires_grad_())
        for weights, bias in scratch.init_layers([], 10, seeded())
    ]
    velocity = [torch.zeros_like(tensor) for layer in layers for tensor in layer]
    recipe = replace(PRESETS["linear"], batch_size=50)

    losses = [scratch.train_epoch(layers, velocity, pixels, labels, recipe, 0.1, seeded(i)) for i in range(3)]
    before = [tensor.detach().clone() for layer in layers for tensor in layer]
    accuracy = scratch.validate_epoch(layers, pixels, labels, batch_size=64)

    assert losses == sorted(losses, reverse=True)
    assert accuracy == (predict(scratch.Scratch(layers), digits.pixels).argmax(1) == digits.labels).mean()
    after = [tensor for layer in layers for tensor in layer]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(tensor.grad is None for tensor in after)


# The training


@pytest.mark.parametrize("recipe", [PRESETS["linear"], SMALL], ids=["linear", "net"])
def test_scratch_learns(recipe):
    """A few short epochs tell ten patterns apart, on digits that were not seen, in either step."""
    digits, test = ten_kinds(1280), ten_kinds(500, seed=1)

    net = scratch.fit(digits.pixels, digits.labels, recipe)

    assert net.sizes == {"hidden": list(recipe.hidden)}
    assert (predict(net, test.pixels).argmax(1) == test.labels).mean() > 0.98


def test_a_regression_learns():
    """So does the number, but for the digits whose neighbours it can not tell from them."""
    digits, test = ten_kinds(1280), ten_kinds(500, seed=1)

    net = regression.fit(digits.pixels, digits.labels, replace(regression.ORIGIN, batch_size=32, lr=0.003))

    numbers = net.numbers(torch.from_numpy(test.pixels))
    assert (regression.round_numbers(numbers) == test.labels).mean() > 0.9


@pytest.mark.parametrize("module", MODULES.values(), ids=MODULES)
def test_training_takes_no_module_and_no_optimizer(module, monkeypatch):
    """The training is plain tensors: it works where a module can not be called and no optimizer made."""

    def refuse(*_, **__):
        raise AssertionError("the training is to do without")

    monkeypatch.setattr(nn.Module, "__call__", refuse)
    monkeypatch.setattr(torch.optim.Optimizer, "__init__", refuse)
    digits = ten_kinds(40)

    net = module.fit(digits.pixels, digits.labels, replace(SMALL, batch_size=8, lr=0.01))

    assert isinstance(net, nn.Module)
    with pytest.raises(AssertionError, match="do without"):
        net(torch.from_numpy(digits.pixels))


@pytest.mark.parametrize("model", MODULES)
def test_a_seed_gives_a_network(model):
    """The same seed gives the same weights bit for bit, whatever was drawn before; another gives others."""
    digits = ten_kinds(300)

    first = fit(digits, model, epochs=1, seed=1)
    torch.rand(3)

    assert same(first, fit(digits, model, epochs=1, seed=1))
    assert not same(first, fit(digits, model, epochs=1, seed=2))


@pytest.mark.parametrize("model", MODULES)
def test_global_random_states_stay_as_they_were(model):
    """Training draws from its own seed: torch's, numpy's and Python's global states are as before."""

    def states():
        return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()

    before = states()
    fit(ten_kinds(64), model, epochs=1, seed=7)

    assert states() == before


@pytest.mark.parametrize("model", MODULES)
def test_only_the_given_rows_are_seen(model):
    """Nonsense in the pixels and labels of all other rows changes no bit of the network."""
    digits = ten_kinds(60)
    rows = np.random.default_rng(5).permutation(60)[:40]
    hidden = np.setdiff1d(np.arange(60), rows)
    spoilt = Digits(digits.pixels.copy(), digits.labels.copy())
    spoilt.pixels[hidden] = 255 - spoilt.pixels[hidden]
    spoilt.labels[hidden] = 9 - spoilt.labels[hidden]

    net = fit(digits, model, rows=rows, epochs=1)

    assert same(net, fit(spoilt, model, rows=rows, epochs=1))
    assert not same(net, fit(spoilt, model, epochs=1))


@pytest.mark.parametrize("model", MODULES)
def test_the_network_is_ready_for_use(model):
    """What comes back is in evaluation mode, float32, without gradients, on the CPU, laid out plainly."""
    net = fit(ten_kinds(40), model, epochs=1)

    assert not net.training
    assert not any(parameter.requires_grad for parameter in net.parameters())
    for tensor in net.state_dict().values():
        assert tensor.device.type == "cpu"
        assert tensor.is_contiguous()
        assert tensor.dtype == torch.float32


@pytest.mark.parametrize("n", [1, 2, 127, 128, 129])
def test_any_number_of_digits_trains(n):
    """Fewer digits than a batch, and one more than a batch, train to finite weights."""
    digits = ten_kinds(n)

    net = scratch.fit(digits.pixels, digits.labels, SMALL)

    assert all(tensor.isfinite().all() for tensor in net.state_dict().values())


@pytest.mark.parametrize("module", MODULES.values(), ids=MODULES)
def test_progress_counts_batches(module):
    """After each epoch: full batches done and in all, epoch and loss, and accuracy where it is asked for."""
    digits, reports = ten_kinds(20), []
    recipe = replace(SMALL, epochs=3, batch_size=8, lr=1e-4)

    def note(*report):
        reports.append(report)

    plain = module.fit(digits.pixels, digits.labels, recipe, progress=note)
    watched = module.fit(
        digits.pixels, digits.labels, recipe, progress=note, valid=(digits.pixels, digits.labels)
    )

    assert [report[:2] for report in reports] == [(2, 6), (4, 6), (6, 6)] * 2
    assert all(re.fullmatch(r"epoch [123]/3  loss \d+\.\d\d", report[2]) for report in reports[:3])
    assert all(re.search(r"  valid [01]\.\d{4}$", report[2]) for report in reports[3:])
    assert same(plain, watched)


def test_the_last_accuracy_is_the_networks():
    """What validation says after the last epoch is what the network reaches that comes back."""
    digits, test, notes = ten_kinds(300), ten_kinds(200, seed=1), []

    net = scratch.fit(
        digits.pixels, digits.labels, SMALL,
        valid=(test.pixels, test.labels), progress=lambda *report: notes.append(report[2]),
    )  # fmt: skip

    accuracy = (predict(net, test.pixels).argmax(1) == test.labels).mean()
    assert notes[-1].endswith(f"  valid {accuracy:.4f}")


@pytest.mark.parametrize("model", MODULES)
def test_an_interrupt_passes_through(model):
    """^C after an epoch ends the training as what it is."""

    def interrupt(done, total, note):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(ten_kinds(64), model, epochs=1, progress=interrupt)


@pytest.mark.parametrize("module", MODULES.values(), ids=MODULES)
def test_a_loss_that_is_not_finite_ends_the_training(module):
    """A network that diverges is an error that names the epoch and what to try, never a bundle."""
    digits = ten_kinds(32)
    recipe = replace(SMALL, epochs=40, batch_size=8, lr=1e30)

    with pytest.raises(ModelError, match=r"loss is (nan|inf) in epoch \d+ of 40; try another seed"):
        module.fit(digits.pixels, digits.labels, recipe)


# The networks


@pytest.mark.parametrize("hidden", [[], [16], [16, 8]])
@pytest.mark.parametrize("module", MODULES.values(), ids=MODULES)
def test_a_manifest_makes_the_same_network_again(module, hidden):
    """Bytes in, ten logits out; name and sizes, through JSON, build one that agrees with the same weights."""
    net = module.build({"hidden": hidden})
    net.load_state_dict({name: torch.randn_like(tensor) for name, tensor in net.state_dict().items()})
    pixels = torch.from_numpy(ten_kinds(7).pixels)

    again = build(net.name, json.loads(json.dumps(net.sizes)))
    again.load_state_dict(net.state_dict())

    assert net(pixels).shape == (7, 10)
    assert net(pixels).dtype == torch.float32
    assert torch.equal(again(pixels), net(pixels))
    assert type(again) is type(net)


@pytest.mark.parametrize("model", MODULES)
@pytest.mark.parametrize("sizes", [{}, {"hidden": 3}, {"hidden": ["a"]}, []])
def test_sizes_of_no_scratch_are_refused(model, sizes):
    """Sizes that no such network has are a ModelError."""
    with pytest.raises(ModelError, match=f"{model} has no sizes"):
        build(model, sizes)


# The regression's numbers


def reading(*numbers):
    """A regression that reads the given numbers in digits whose first pixels say which one it is."""
    net = regression.build({"hidden": []})
    with torch.no_grad():
        net.weights[0].zero_()
        net.weights[0][: len(numbers), 0] = torch.tensor(numbers)
    pixels = np.zeros((len(numbers), 28, 28), np.uint8)
    pixels[range(len(numbers)), 0, range(len(numbers))] = 255
    return net, pixels


def test_a_regressions_tens_and_elevens_are_refused_or_clipped():
    """Rounded numbers outside 0..9 never become a file; asked for, they become the nearest digit."""
    net, pixels = reading(3.4, 9.8, 11.2, -0.7)
    labels = regression.round_numbers(net.numbers(torch.from_numpy(pixels)))

    assert labels.dtype == np.int64
    assert labels.tolist() == [3, 10, 11, -1]
    with pytest.raises(
        SubmissionError,
        match=r"ImageId 2: the label 10 is not a class.*3 of 4 are wrong.*rounded number.*clip",
    ):
        to_csv(labels, rows=4)
    assert read_csv(to_csv(labels, rows=4, clip=True), rows=4).tolist() == [3, 9, 9, 0]


def test_the_nearest_digit_is_a_regressions_likeliest():
    """As a model it gives every digit a probability, the highest to its number rounded and clipped."""
    numbers = [3.4, 3.6, 9.8, 11.2, -0.7, 0.2]
    net, pixels = reading(*numbers)

    probabilities = predict(net, pixels)

    labels = regression.round_numbers(np.array(numbers))
    assert probabilities.argmax(1).tolist() == labels.clip(0, 9).tolist()
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)


def test_numbers_are_rounded_in_either_shape():
    """A column, as his net puts it out, and a row of numbers give the same labels."""
    outputs = torch.tensor([[2.4], [2.6], [-0.4], [10.5001]])

    assert regression.round_numbers(outputs).tolist() == [2, 3, 0, 11]
    assert regression.round_numbers(outputs[:, 0].numpy()).tolist() == [2, 3, 0, 11]


def test_squared_error_is_torchs():
    """One difference a digit, not one for each pair of them."""
    outputs, labels = torch.randn(6, 1, generator=seeded()), torch.arange(6)

    torch.testing.assert_close(
        regression.squared_error(outputs, labels), F.mse_loss(outputs[:, 0], labels.float())
    )


def test_the_origins_split_is_the_first_four_fifths():
    """33,600 of 42,000 rows to train on, the 8,400 behind them to validate, in their order."""
    seen, valid = regression.origin_split(42_000)

    assert (seen[0], seen[-1], len(seen)) == (0, 33_599, 33_600)
    assert (valid[0], valid[-1], len(valid)) == (33_600, 41_999, 8_400)


def test_the_origins_net_is_his():
    """784-150-150-150-130-1, 40 epochs of plain SGD."""
    net = regression.Regression(scratch.init_layers(regression.ORIGIN.hidden, 1, seeded()))

    shapes = [tuple(weights.shape) for weights, _ in net.layers()]
    assert shapes == [(784, 150), (150, 150), (150, 150), (150, 130), (130, 1)]
    assert (regression.ORIGIN.epochs, regression.ORIGIN.momentum) == (40, 0)


# The way from digits to a Learner, for every model


@pytest.fixture(scope="module", params=LEARNERS)
def exported(request, tmp_path_factory):
    """A network trained through `fit` on a few digits, its bundle, and the Learner that opens from it."""
    net = fit(ten_kinds(64), request.param, epochs=1)
    folder = tmp_path_factory.mktemp(request.param)
    manifest = bundle.export(net, folder, {"seed": 0})
    return SimpleNamespace(
        net=net, folder=folder, manifest=manifest, learner=bundle.load_learner(folder), model=request.param
    )


def test_a_bundle_opens_as_the_network_that_was_exported(exported):
    """fit → export → load → predict: the same probabilities bit for bit, whatever the model."""
    pixels = ten_kinds(50, seed=1).pixels

    net, manifest = bundle.load(exported.folder)

    assert manifest.model == exported.model
    assert np.array_equal(predict(net, pixels), predict(exported.net, pixels))


@pytest.mark.parametrize("form", ["PILImages", "tensors", "arrays", "one tensor", "one array"])
def test_a_learner_takes_pictures_and_bytes(exported, form):
    """get_preds on a test_dl agrees with our own inference, of PILImages and of uint8 digits alike."""
    pixels = ten_kinds(120, seed=1).pixels
    items = {
        "PILImages": [to_fastai(digit) for digit in pixels],
        "tensors": [torch.from_numpy(digit) for digit in pixels],
        "arrays": list(pixels),
        "one tensor": torch.from_numpy(pixels),
        "one array": pixels,
    }[form]

    theirs, _ = exported.learner.get_preds(dl=exported.learner.dls.test_dl(items))

    ours = predict(exported.net, pixels)
    np.testing.assert_allclose(theirs.numpy(), ours, atol=1e-4)
    assert np.array_equal(theirs.numpy().argmax(1), ours.argmax(1))


@pytest.mark.parametrize(
    "form", [to_fastai, torch.from_numpy, lambda digit: digit], ids=["PILImage", "tensor", "array"]
)
def test_a_learner_predicts_one_digit(exported, form):
    """predict takes a PILImage or the digit's own bytes, and gives label, index and probabilities."""
    digits = ten_kinds(1, seed=2).pixels

    label, index, probabilities = exported.learner.predict(form(digits[0]))

    ours = predict(exported.net, digits)[0]
    assert (label, int(index)) == (str(ours.argmax()), ours.argmax())
    np.testing.assert_allclose(probabilities.numpy(), ours, atol=1e-4)


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
def test_a_learner_refuses_what_is_no_digit(exported, digit):
    """Floats, which would be read as black, and other shapes are an error, never a guess."""
    with pytest.raises(DataError, match=r"uint8 \(28, 28\), found"):
        exported.learner.predict(digit)
