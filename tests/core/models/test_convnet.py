"""The convnet: its second look, what it learns, from labels and from teachers."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mnist_core.inference import predict
from mnist_core.models.augment import INK_SCALE, crop_through, frame_of, lean, straightened, to_ink
from mnist_core.models.convnet import PRESETS, _cpu
from mnist_core.models.convnet import fit as training
from mnist_core.models.convnet.net import ConvNet
from mnist_core.training import fit
from tests.core.models.patterns import noise, ten_kinds

FRAME = frame_of((28, 28))
CENTRE = torch.tensor([[24 / 28, 0, 0], [0, 24 / 28, 0]])
"""The map that neither rotates, scales, shears nor shifts."""


def test_an_unsure_digit_is_read_in_five_neighbouring_crops():
    """Below a probability of 0.8 the logits approach, and below 0.7 are, the mean over five crops.

    Other digits of the batch change nothing; in training every digit is read once.
    """
    torch.manual_seed(0)
    plain = ConvNet((4, 6, 8, 10)).eval()
    with torch.no_grad():
        plain.layers[-1].weight.mul_(52)
    shifting = ConvNet((4, 6, 8, 10), shifts=True).eval()
    shifting.load_state_dict(plain.state_dict())
    digits = (
        torch.from_numpy(noise(200)) * torch.linspace(0, 1, 200)[:, None, None]
    ).byte()  # with less ink, less sure
    once = plain(digits)
    best = once.softmax(1).amax(1)
    doubt = ((0.8 - best) / 0.1).clamp(0, 1)[:, None]
    assert (best >= 0.8).sum() > 20
    assert (best < 0.7).sum() > 20
    assert ((best > 0.7) & (best < 0.8)).sum() > 5

    moved = [digits.roll(step, axis) for step, axis in [(0, 1), (1, 1), (-1, 1), (1, 2), (-1, 2)]]
    five = torch.stack([plain(m) for m in moved]).mean(0)

    torch.testing.assert_close(shifting(digits), once + doubt * (five - once))
    torch.testing.assert_close(shifting(digits[best >= 0.8]), once[best >= 0.8])
    torch.testing.assert_close(shifting.train()(digits), plain.train()(digits))


def test_an_upright_network_sees_the_straightened_digit():
    """Its logits for a digit are those of a network of the same weights for the straightened centre."""
    torch.manual_seed(0)
    upright = ConvNet((4, 6, 8, 10), upright=True).eval()
    digits = torch.from_numpy(noise(20)) // 4
    digits[:, :, 20:] = 0
    leans = lean(digits)

    seen = crop_through(digits, straightened(CENTRE.expand(20, 2, 3), leans), FRAME)

    assert leans.abs().max() > 0.01
    torch.testing.assert_close(upright(digits), upright.logits(seen), rtol=1e-4, atol=1e-5)


def test_a_convnet_learns():
    """Four short passes tell ten patterns apart, on digits that were not seen."""
    net = fit(ten_kinds(1280), epochs=4)

    test = ten_kinds(500, seed=1)
    assert (predict(net, test.pixels).argmax(1) == test.labels).mean() > 0.98


@pytest.mark.parametrize("n", [1, 2, 127, 128, 129, 257])
def test_any_number_of_digits_trains_a_convnet(n):
    """Fewer digits than a batch, and one more than a batch or two, train to finite weights."""
    net = fit(ten_kinds(n), epochs=2)

    assert all(tensor.isfinite().all() for tensor in net.state_dict().values())


def test_the_average_has_statistics_of_its_own():
    """Batch normalisation has the averaged weights' statistics on the training digits, not augmented."""
    digits = ten_kinds(500)

    net = fit(digits, epochs=1)

    convolution, norm = net.layers[0][0], net.layers[0][1]
    ink = net.frame.narrow(to_ink(torch.from_numpy(digits.pixels)) * INK_SCALE)
    out = convolution(ink)
    torch.testing.assert_close(norm.running_mean, out.mean((0, 2, 3)), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(norm.running_var, out.var((0, 2, 3)), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("others", "least", "most"), [(0, 100, 128), (0.5, 50, 90)])
def test_a_pass_after_the_full_ones_takes_what_is_hard(monkeypatch, others, least, most):
    """A pass over the hardest tenth takes most of the digits with random labels, and no digit twice.

    If half of the pass is drawn from all digits, it takes fewer of them.
    """
    digits, seen = ten_kinds(1280), []
    digits.pixels[:, 0, :2] = np.stack(
        np.divmod(np.arange(1280), 256), axis=1
    )  # its number, to recognise it by
    digits.labels[::10] = np.random.default_rng(0).integers(0, 10, 128)
    real = training.crop_through

    def watched(pixels, maps, frame):
        seen.extend((pixels[:, 0, 0].int() * 256 + pixels[:, 0, 1]).tolist())
        return real(pixels, maps, frame)

    monkeypatch.setattr(training, "crop_through", watched)
    recipe = replace(PRESETS["fast"], full_epochs=4, epochs=5, batch_size=32, hard=0.1, others=others)

    training.fit(digits.pixels, digits.labels, recipe)

    last = seen[4 * 1280 :]
    assert len(last) == len(set(last)) == 128
    assert least <= sum(number % 10 == 0 for number in last) <= most


def test_progress_counts_the_passes_batches():
    """Progress goes up to the passes' full batches: two over all digits, one each over the hardest."""
    digits, reports = ten_kinds(20), []
    recipe = replace(PRESETS["fast"], epochs=3, batch_size=8)

    training.fit(digits.pixels, digits.labels, recipe, progress=lambda *report: reports.append(report))

    assert reports[-1][:2] == (2 + 1 + 1, 2 + 1 + 1)
    assert reports[-1][2].startswith("epoch 3/3, hard rows  loss ")


@pytest.mark.parametrize("together", [False, True], ids=["a convnet", "an ensemble"])
def test_a_student_learns_what_its_teacher_says(together):
    """Its teacher calls each pattern by the next one's name, so the student does; the teacher stays."""
    digits, wrong = ten_kinds(1280), ten_kinds(1280)
    wrong.labels[:] = (wrong.labels + 1) % 10
    teacher = fit(wrong, "ensemble" if together else "convnet", epochs=4)
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}

    net = fit(digits, epochs=4, seed=1, teacher=teacher)

    test = ten_kinds(500, seed=1)
    assert (predict(net, test.pixels).argmax(1) == (test.labels + 1) % 10).mean() > 0.98
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())


def test_an_upright_student_learns_from_teachers_that_are_not():
    """Each network sees the same drawn digit in its own way: upright or as it is."""
    digits, wrong = ten_kinds(1280), ten_kinds(1280)
    wrong.labels[:] = (wrong.labels + 1) % 10
    teacher = fit(wrong, "ensemble", epochs=4)

    net = fit(digits, "ensemble", epochs=4, seed=1, member=1, teacher=teacher)

    test = ten_kinds(500, seed=1)
    assert net.upright
    assert (predict(net, test.pixels).argmax(1) == (test.labels + 1) % 10).mean() > 0.98


def test_each_network_of_a_training_sees_the_digits_in_its_own_way(monkeypatch):
    """A student and its teachers get the same drawn digits, straightened for those that learnt upright."""
    digits = noise(128)
    digits[:, 14:, :14] //= 8
    digits[:, :14, 14:] //= 8
    recipe = replace(PRESETS["fast"], epochs=1, augmentation=(0.0, 0.0, 0.0, 0.0), upright=True)
    teachers = [ConvNet((4, 6, 8, 10), upright=upright).eval() for upright in (False, True)]
    read, drawn, seen = _cpu.logits_by_winograd, {}, []

    def drawing(rows, maps, frame):
        ink = crop_through(rows, maps, frame)
        drawn[id(ink)] = rows
        return ink

    def reading(net, ink):
        seen.append((net.upright, net.training, ink))
        return read(net, ink)

    monkeypatch.setattr(training, "crop_through", drawing)
    monkeypatch.setattr(_cpu, "logits_by_winograd", reading)
    training.fit(digits, np.zeros(128, np.int64), recipe, teachers=teachers)

    assert {(upright, in_training) for upright, in_training, _ in seen} >= {
        (True, True),
        (False, False),
        (True, False),
    }
    for upright, _, ink in seen:
        rows = drawn[id(ink)]
        leans, centre = lean(rows), CENTRE.expand(len(rows), 2, 3)
        assert leans.abs().min() > 0.1
        torch.testing.assert_close(
            ink, crop_through(rows, straightened(centre, leans) if upright else centre, FRAME)
        )
