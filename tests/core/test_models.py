"""The networks: what goes in, what comes out, and that each can be made again from its sizes."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from mnist_core.errors import ModelError
from mnist_core.models import augment, ensemble
from mnist_core.models.base import COMMON_PRESETS, build, kinds
from mnist_core.models.convnet import PRESETS, STRONG, _cpu, _winograd
from mnist_core.models.convnet import fit as convnet
from mnist_core.models.convnet.net import ConvNet
from mnist_core.models.ensemble import net as ensembles
from mnist_core.models.resnet.net import ResNet18

NETS = [
    ConvNet((4, 6, 8, 10)),
    ConvNet((4, 6, 8, 10), shifts=True),
    ConvNet((4, 6, 8, 10), shifts=True, upright=True),
    ResNet18(),
    ensembles.Ensemble([ConvNet((4, 6, 8, 10)), ConvNet((2, 2, 2, 2), shifts=True)], 0.8),
]


def pixels(n, seed=0):
    """Noise, uint8 (n, 28, 28)."""
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (n, 28, 28), np.uint8))


@pytest.mark.parametrize("net", NETS, ids=lambda net: net.name)
def test_bytes_go_in_and_logits_come_out(net):
    """Every network takes uint8 (N, 28, 28) as it is, and gives float32 (N, 10) not yet probabilities."""
    logits = net.eval()(pixels(7))

    assert logits.shape == (7, 10)
    assert logits.dtype == torch.float32
    assert not torch.allclose(logits.sum(1), torch.ones(7))


@pytest.mark.parametrize("net", NETS, ids=lambda net: net.name)
def test_a_manifest_makes_the_same_network_again(net):
    """The name and sizes of a network, through JSON, build one that its weights fit and that agrees."""
    again = build(net.name, json.loads(json.dumps(net.sizes)))
    again.load_state_dict(net.state_dict())

    assert torch.equal(again.eval()(pixels(3)), net.eval()(pixels(3)))


def test_an_unknown_model_is_refused_with_the_known_ones():
    """A misspelt model names those there are, and the one that was probably meant."""
    with pytest.raises(ModelError, match=r"'convnt'; did you mean convnet\? choose one of convnet, e"):
        build("convnt", {})


@pytest.mark.parametrize("sizes", [{}, {"widths": [8]}, {"widths": 3, "shifts": False}, []])
def test_sizes_of_no_convnet_are_refused(sizes):
    """Sizes that no ConvNet has are a ModelError, not a traceback from deep inside."""
    with pytest.raises(ModelError, match="convnet has no sizes"):
        build("convnet", sizes)


@pytest.mark.parametrize("kind", kinds().values(), ids=kinds())
def test_the_common_presets_train_longer_and_longer(kind):
    """fast, balanced and best exist for each model, each training longer than the one before."""
    recipes = [kind.presets[preset] for preset in COMMON_PRESETS]
    lengths = [recipe.epochs for recipe in recipes]
    if kind.name == "convnet":
        lengths = [sum(convnet.steps_per_epoch(1000, recipe)) for recipe in recipes]
    assert lengths == sorted(set(lengths))


@pytest.mark.parametrize("count", [1, 16])
def test_training_by_winograd_is_the_same_network(count):
    """Normalising by the batch, logits and gradients are those of direct convolutions, but for rounding."""
    torch.manual_seed(0)
    net = ConvNet((4, 6, 8, 10, 12)).train()
    ink = torch.rand(count, 1, 24, 24)
    weight = torch.rand(count, 10)

    direct, winograd = net.logits(ink), _cpu.logits_by_winograd(net, ink)

    torch.testing.assert_close(winograd, direct, rtol=1e-4, atol=1e-4)
    for ours, theirs in zip(
        *(
            torch.autograd.grad((logits * weight).sum(), list(net.parameters()))
            for logits in (winograd, direct)
        ),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4 * theirs.abs().max().item())


@pytest.mark.parametrize("count", [1, 7])
def test_winograd_convolves_as_torch_does(count):
    """A border of zeros, any number of pictures and channels; kernel and place by place the same sums."""
    random = torch.Generator().manual_seed(count)
    pictures = torch.randn(count, 3, 6, 6, generator=random)
    kernels = torch.randn(5, 3, 3, 3, generator=random)

    found = _winograd.convolve(_winograd.by_pixel(pictures), kernels)

    wanted = _winograd.by_pixel(torch.nn.functional.conv2d(pictures, kernels, padding=1))
    assert found.shape == (1, 5, 36, count)
    torch.testing.assert_close(found, wanted, rtol=0, atol=2e-4)


def test_an_ensemble_says_the_mean_of_its_members():
    """Its probabilities are the members' mean; a temperature makes them more even and keeps the labels."""
    members = [ConvNet((4, 6, 8, 10)).eval() for _ in range(3)]
    digits = pixels(50)

    plain = ensembles.Ensemble(members)(digits).softmax(1)
    even = ensembles.Ensemble(members, temperature=2.0)(digits).softmax(1)

    torch.testing.assert_close(plain, torch.stack([net(digits).softmax(1) for net in members]).mean(0))
    assert torch.equal(plain.argmax(1), even.argmax(1))
    assert (even.amax(1) < plain.amax(1)).all()


def test_an_ensemble_trains_networks_that_differ():
    """Its members have seed, seed + 1, …, every second one is upright; progress runs over all of them."""
    random = np.random.default_rng(0)
    digits = random.integers(0, 256, (256, 28, 28), np.uint8), random.integers(0, 10, 256)
    told = []

    recipe = ensemble.Recipe(2, ("fast", "fast"), 3)
    net = ensembles.fit(*digits, recipe, seed=5, progress=lambda *at: told.append(at))

    assert [member.sizes["upright"] for member in net.members] == [False, True]
    for number, member in enumerate(net.members):
        alone = convnet.fit(*digits, ensemble.member(recipe, number)[1], seed=5 + number)
        assert all(torch.equal(a, b) for a, b in zip(member.parameters(), alone.parameters(), strict=True))
    assert [at[:2] for at in told] == [(done, 8) for done in (2, 3, 4, 6, 7, 8)]
    assert told[3][2].startswith("member 2/2  epoch 1/3")


def test_resnet18_is_what_fastai_makes():
    """With the weights of fastai's own resnet18, name by name, the plain one gives the same logits."""
    from fastai.vision.learner import create_vision_model
    from torchvision.models import resnet18

    body, head = theirs = create_vision_model(resnet18, 10, pretrained=False).eval()
    for module in theirs.modules():  # statistics other than 0 and 1, so that a mix-up shows
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    ours = ResNet18().eval()
    ours.body.load_state_dict(body.state_dict())
    ours.head.load_state_dict(head.state_dict())

    torch.testing.assert_close(ours(pixels(5)), theirs(ours.pictures(pixels(5))))
    dropouts = [layer.p for layer in head if isinstance(layer, nn.Dropout)]
    assert [layer.p for layer in ours.head if isinstance(layer, nn.Dropout)] == dropouts


def test_the_map_that_changes_nothing_is_the_centre_crop():
    """Training and inference crop alike: a map without turn, scale, shear and shift copies 24 × 24 pixels."""
    digits = pixels(4)
    still = torch.tensor([[24 / 28, 0, 0], [0, 24 / 28, 0]]).expand(4, 2, 3)

    ink = augment.crop_through(digits, still)

    torch.testing.assert_close(ink[:, 0], digits[:, 2:26, 2:26] * augment.INK_SCALE)


def test_a_map_shifts_by_halves_of_the_side():
    """A shift of 2 / 28 reads one pixel further to the right, and one of -2 / 28 one pixel further up."""
    digits = pixels(1)
    shifted = torch.tensor([[[24 / 28, 0, 2 / 28], [0, 24 / 28, -2 / 28]]])

    ink = augment.crop_through(digits, shifted)

    torch.testing.assert_close(ink[:, 0], digits[:, 1:25, 3:27] * augment.INK_SCALE)


def test_a_digit_that_leans_is_straightened():
    """A stroke that moves a column for two rows leans by a half and is upright afterwards; so is one that is
    drawn through the map that changes nothing else. An empty picture leans by nothing."""
    stroke = torch.zeros(1, 28, 28, dtype=torch.uint8)
    for row in range(4, 24):
        stroke[0, row, 8 + row // 2 : 11 + row // 2] = 255
    still = torch.tensor([[[24 / 28, 0, 0], [0, 24 / 28, 0]]])

    leans = augment.lean(stroke)
    ink = augment.crop_through(stroke, augment.straightened(still, leans))
    whole = torch.zeros(1, 28, 28, dtype=torch.uint8)
    whole[:, 2:26, 2:26] = (ink[:, 0] / augment.INK_SCALE).round().byte()

    assert leans.item() == pytest.approx(0.5, abs=0.01)
    assert augment.lean(whole).item() == pytest.approx(0, abs=0.02)
    assert augment.lean(torch.zeros(1, 28, 28, dtype=torch.uint8)).item() == 0


def test_an_upright_network_sees_the_straightened_digit():
    """It says of a digit what a network of the same weights says of its straightened centre."""
    torch.manual_seed(0)
    upright = ConvNet((4, 6, 8, 10), upright=True).eval()
    digits = pixels(20) // 4
    digits[:, :, 20:] = 0
    still = torch.tensor([[24 / 28, 0, 0], [0, 24 / 28, 0]]).expand(20, 2, 3)
    leans = augment.lean(digits)

    seen = augment.crop_through(digits, augment.straightened(still, leans))

    assert leans.abs().max() > 0.01
    torch.testing.assert_close(upright(digits), upright.logits(seen), rtol=1e-4, atol=1e-5)


def test_each_network_of_a_training_sees_the_digits_in_its_own_way(monkeypatch):
    """A pupil and its two teachers get the same drawn digits, those straightened that one learnt upright."""
    digits = pixels(128).numpy()
    digits[:, 14:, :14] //= 8
    digits[:, :14, 14:] //= 8
    recipe = replace(PRESETS["fast"], epochs=1, augmentation=(0.0, 0.0, 0.0, 0.0), upright=True)
    teachers = [ConvNet((4, 6, 8, 10), upright=upright).eval() for upright in (False, True)]
    crop_through, read = augment.crop_through, _cpu.logits_by_winograd
    drawn, seen = {}, []

    def drawing(rows, maps):
        ink = crop_through(rows, maps)
        drawn[id(ink)] = rows
        return ink

    def reading(net, ink):
        seen.append((net.sizes["upright"], net.training, ink))
        return read(net, ink)

    monkeypatch.setattr(convnet, "crop_through", drawing)
    monkeypatch.setattr(_cpu, "logits_by_winograd", reading)
    convnet.fit(digits, np.zeros(128, np.int64), recipe, teachers=teachers)

    assert {(upright, training) for upright, training, _ in seen} >= {
        (True, True),
        (False, False),
        (True, False),
    }
    for upright, _, ink in seen:
        rows = drawn[id(ink)]
        still = (torch.eye(2, 3) * augment.CROP / augment.SIDE).expand(len(rows), 2, 3)
        leans = augment.lean(rows)
        assert leans.abs().min() > 0.1
        maps = augment.straightened(still, leans) if upright else still
        torch.testing.assert_close(ink, crop_through(rows, maps))


def test_random_maps_stay_within_their_bounds():
    """Ten thousand maps turn, scale and shift up to the stated amounts, both ways, and never beyond."""
    rotation, most_scale, _shear, shift = STRONG
    maps = augment.random_maps(10_000, torch.Generator().manual_seed(0), STRONG)

    turn = torch.atan2(maps[:, 1, 0], maps[:, 0, 0])
    scale = maps[:, :, 0].norm(dim=1) * 28 / 24
    for value, centre, bound in [
        (turn, 0, rotation),
        (scale, 1, most_scale),
        (maps[:, 0, 2], 0, shift),
        (maps[:, 1, 2], 0, shift),
    ]:
        assert value.max() == pytest.approx(centre + bound, abs=0.002)
        assert value.min() == pytest.approx(centre - bound, abs=0.002)


def test_an_unsure_digit_is_read_in_five_neighbouring_crops():
    """Where no class has 0.8 the readout nears, and from 0.7 is, the mean over the digit and its four
    neighbours, else the plain one, whatever else is in the batch; in training it looks once at each."""
    torch.manual_seed(0)
    plain = ConvNet((4, 6, 8, 10)).eval()
    with torch.no_grad():
        plain.layers[-1].weight.mul_(52)
    shifting = ConvNet((4, 6, 8, 10), shifts=True).eval()
    shifting.load_state_dict(plain.state_dict())
    digits = (pixels(200) * torch.linspace(0, 1, 200)[:, None, None]).byte()  # with less ink, less sure
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
