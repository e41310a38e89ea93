"""The lesson in plain tensors: each step beside torch's own, and the training."""

import re
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mnist_core.inference import predict
from mnist_core.models.regression import net as regression
from mnist_core.models.scratch import PRESETS, Recipe
from mnist_core.models.scratch import net as scratch
from tests.core.models.patterns import same, ten_kinds

MODULES = {"scratch": scratch, "scratch-regression": regression}
SMALL = Recipe(hidden=(32,), epochs=3)


def seeded(seed=0):
    """Make a generator of random numbers."""
    return torch.Generator().manual_seed(seed)


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
    """Our loss and its gradient are those of F.cross_entropy."""
    logits, labels = torch.randn(20, 10, generator=seeded()) * 5, torch.arange(20) % 10
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()

    loss = scratch.cross_entropy(ours, labels)
    loss.backward()
    expected = F.cross_entropy(theirs, labels)
    expected.backward()

    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_large_logits_do_not_overflow():
    """A logit of 10,000, whose exponential overflows, gives a finite loss and gradient."""
    logits = torch.tensor([[1e4, 0.0], [0.0, 1e4]], requires_grad=True)

    loss = scratch.cross_entropy(logits, torch.tensor([0, 0]))
    loss.backward()

    assert loss.item() == 5000
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_step_is_torchs(momentum):
    """Five steps, with momentum or without, end where torch.optim.SGD does, and clear the gradient."""
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


def test_mini_batches_have_each_row_at_most_once():
    """Full mini-batches of different rows, in another order each time; the rest is left out."""
    random = seeded()

    first, second = scratch.mini_batches(100, 8, random), scratch.mini_batches(100, 8, random)

    assert [len(rows) for rows in first] == [8] * 12
    rows = torch.cat(first)
    assert len(rows.unique()) == 96
    assert rows.min() >= 0
    assert rows.max() < 100
    assert not torch.equal(rows, torch.cat(second))


def test_a_batch_moves_as_one():
    """All digits of a mini-batch move alike, by up to the given pixels each way, and each way occurs."""
    pixels = torch.zeros(2, 28, 28, dtype=torch.uint8)
    pixels[:, 14, 14] = 1
    random = seeded()

    moved = [scratch.move(pixels, 1, random).nonzero() for _ in range(200)]

    assert all(torch.equal(points[0, 1:], points[1, 1:]) for points in moved)
    found = {tuple((points[0, 1:] - 14).tolist()) for points in moved}
    assert found == {(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)}
    assert torch.equal(scratch.move(pixels, 0, random), pixels)


def test_without_hidden_layers_the_net_is_the_linear_model():
    """Step 2 contains step 1: one layer gives ten weighted sums, more layers have a ReLU between them."""
    pixels = torch.from_numpy(ten_kinds(5).pixels)
    [one] = scratch.init_layers(784, [], 10, seeded())
    first, last = scratch.init_layers(784, [16], 10, seeded())

    assert torch.equal(scratch.network(pixels, [one]), scratch.to_inputs(pixels) @ one[0] + one[1])
    inside = F.relu(scratch.to_inputs(pixels) @ first[0] + first[1])
    torch.testing.assert_close(scratch.network(pixels, [first, last]), inside @ last[0] + last[1])


def test_an_epoch_that_trains_lowers_the_loss_and_one_that_validates_changes_nothing():
    """train_epoch lowers the loss; validate_epoch returns the accuracy and changes no layer."""
    digits = ten_kinds(500)
    pixels, labels = torch.from_numpy(digits.pixels), torch.from_numpy(digits.labels)
    layers = [
        (weights.requires_grad_(), bias.requires_grad_())
        for weights, bias in scratch.init_layers(784, [], 10, seeded())
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


@pytest.mark.parametrize("module", MODULES.values(), ids=MODULES)
def test_training_takes_no_module_and_no_optimizer(module, monkeypatch):
    """The training is plain tensors: it works if no module can be called and no optimizer made."""

    def refuse(*_, **__):
        raise AssertionError("the training must not use this")

    monkeypatch.setattr(nn.Module, "__call__", refuse)
    monkeypatch.setattr(torch.optim.Optimizer, "__init__", refuse)
    digits = ten_kinds(40)

    net = module.fit(digits.pixels, digits.labels, replace(SMALL, batch_size=8, lr=0.01))

    assert isinstance(net, nn.Module)
    with pytest.raises(AssertionError, match="must not use"):
        net(torch.from_numpy(digits.pixels))


def test_training_takes_one_thread_and_gives_the_others_back(monkeypatch):
    """Threads that wait for each other take longer than one, so one trains; afterwards all are back."""
    seen, loss = set(), scratch.cross_entropy
    monkeypatch.setattr(
        scratch, "cross_entropy", lambda *given: (seen.add(torch.get_num_threads()), loss(*given))[1]
    )
    digits, before = ten_kinds(64), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        scratch.fit(digits.pixels, digits.labels, Recipe(hidden=(8,), epochs=1))
        assert (seen, torch.get_num_threads()) == ({1}, 2)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("n", [1, 2, 127, 128, 129])
def test_any_number_of_digits_trains(n):
    """Fewer digits than a batch, and one more than a batch, train to finite weights."""
    digits = ten_kinds(n)

    net = scratch.fit(digits.pixels, digits.labels, SMALL)

    assert all(tensor.isfinite().all() for tensor in net.state_dict().values())


@pytest.mark.parametrize("module", MODULES.values(), ids=MODULES)
def test_progress_counts_batches(module):
    """After each epoch: full batches done and in all, epoch and loss, and accuracy if there is `valid`."""
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
    """The validation after the last epoch is that of the returned network."""
    digits, test, notes = ten_kinds(300), ten_kinds(200, seed=1), []

    net = scratch.fit(
        digits.pixels, digits.labels, SMALL,
        valid=(test.pixels, test.labels), progress=lambda *report: notes.append(report[2]),
    )  # fmt: skip

    accuracy = (predict(net, test.pixels).argmax(1) == test.labels).mean()
    assert notes[-1].endswith(f"  valid {accuracy:.4f}")
