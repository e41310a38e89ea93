"""resnet18: the plain network beside fastai's, tiny convolutions, pretrained weights, CUDA to CPU."""

import hashlib
import json
import re
from contextlib import contextmanager
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torch import nn

from mnist_core import bundle
from mnist_core.digits import Digits
from mnist_core.errors import ModelError
from mnist_core.images import to_fastai
from mnist_core.inference import predict
from mnist_core.models.augment import draw
from mnist_core.models.base import build
from mnist_core.models.resnet import Recipe
from mnist_core.models.resnet import fit as training
from mnist_core.models.resnet._tiny import TinyConv, shrink
from mnist_core.models.resnet.net import IMAGENET_MEAN, ResNet18
from mnist_core.training import fit
from tests.core.models.patterns import noise, ten_kinds


def test_resnet18_is_what_fastai_makes():
    """With the weights of fastai's own resnet18, name by name, the plain network gives the same logits."""
    from fastai.vision.learner import create_vision_model
    from torchvision.models import resnet18

    body, head = theirs = create_vision_model(resnet18, 10, pretrained=False).eval()
    for module in theirs.modules():  # statistics other than 0 and 1, so that a mix-up shows
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    pixels = torch.from_numpy(noise(5))
    ours = ResNet18().eval()
    ours.body.load_state_dict(body.state_dict())
    ours.head.load_state_dict(head.state_dict())

    torch.testing.assert_close(ours(pixels), theirs(ours.pictures(pixels)))
    dropouts = [layer.p for layer in head if isinstance(layer, nn.Dropout)]
    assert [layer.p for layer in ours.head if isinstance(layer, nn.Dropout)] == dropouts


def test_a_resnet18_learns():
    """Three short epochs tell ten patterns apart, on digits that were not seen."""
    digits = ten_kinds(256)

    net = training.fit(digits.pixels, digits.labels, Recipe(epochs=3, batch_size=32))

    test = ten_kinds(100, seed=1)
    assert (predict(net, test.pixels).argmax(1) == test.labels).mean() > 0.9


def test_two_digits_train_a_resnet18_and_one_does_not():
    """Its head normalises over the batch, which takes two digits."""
    fit(ten_kinds(2), "resnet18", epochs=1)

    with pytest.raises(ModelError, match="needs 2 or more"):
        fit(ten_kinds(1), "resnet18", epochs=1)


SIDES = [(side, stride) for side in (1, 2, 3, 4) for stride in (1, 2)]


@pytest.mark.parametrize(("side", "stride"), SIDES)
def test_a_tiny_convolution_is_a_matrix_product(side, stride):
    """Outputs and the gradients of pictures and taps are those of the convolution."""
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 5, 3, stride=stride, padding=1, bias=False)
    tiny = TinyConv(convolution, side)
    ours = torch.randn(4, 3, side, side, requires_grad=True)
    theirs = ours.detach().clone().requires_grad_(True)

    out, expected = tiny(ours), convolution(theirs)
    (out**2).sum().backward()
    (expected**2).sum().backward()

    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(ours.grad, theirs.grad)
    gradient = convolution.weight.grad.flatten(2).permute(2, 1, 0)
    torch.testing.assert_close(tiny.weight.grad, gradient[tiny.seen])
    assert not gradient[~tiny.seen].any()


def test_one_tap_of_nine_meets_a_picture_of_one_pixel():
    """A 3×3 convolution then has a ninth of its weights to train, and the others stay as they are."""
    convolution = nn.Conv2d(3, 5, 3, padding=1, bias=False)
    tiny = TinyConv(convolution, 1)
    before = convolution.weight.detach().clone()

    with torch.no_grad():
        tiny.weight += 1
    filled = tiny.fill(convolution.weight.detach())

    assert tiny.weight.shape == (1, 3, 5)
    assert torch.equal(filled[:, :, 1, 1], before[:, :, 1, 1] + 1)
    filled[:, :, 1, 1] -= 1
    torch.testing.assert_close(filled, before)


@pytest.mark.parametrize("side", [24, 32])
def test_a_shrunk_body_is_the_same_function(side):
    """With matrix products for its tiny convolutions, fastai's body gives the same features as before."""
    from fastai.vision.learner import create_vision_model
    from torchvision.models import resnet18

    torch.manual_seed(0)
    body = create_vision_model(resnet18, 10, pretrained=False)[0].eval()
    pictures = torch.randn(6, 3, side, side)
    expected = body(pictures)

    tiny = shrink(body, side)

    torch.testing.assert_close(body(pictures), expected, rtol=1e-4, atol=1e-4)
    assert "7.1.conv2" in tiny
    assert sum(p.numel() for p in body.parameters()) < 11_176_512 * 0.4  # of torchvision's


def test_a_trained_network_has_the_shapes_of_torchvision(synthetic):
    """Whatever replaced a convolution in training, the weights fit torchvision's resnet18."""
    from torchvision.models import resnet18

    net = fit(synthetic(40), "resnet18", epochs=1)

    theirs = nn.Sequential(*list(resnet18().children())[:-2])
    theirs.load_state_dict(net.body.state_dict())
    pictures = net.pictures(torch.from_numpy(synthetic(5).pixels))
    torch.testing.assert_close(theirs.eval()(pictures), net.body(pictures))


def test_the_network_reads_what_it_was_trained_on(monkeypatch):
    """The plain network gives the logits of the learner's own network for the same digits."""
    from fastai.vision import learner

    made = []
    monkeypatch.setattr(training, "measure_batch_norm", lambda *_, **__: None)  # all that differs
    whole = learner.vision_learner
    monkeypatch.setattr(learner, "vision_learner", lambda *a, **k: made.append(whole(*a, **k)) or made[-1])
    pixels = noise(64)

    net = training.fit(pixels, np.arange(64) % 10, Recipe(epochs=1, batch_size=16))

    with torch.no_grad():
        pictures = net.pictures(torch.from_numpy(pixels))
        theirs = made[0].model.eval()(pictures[:, :1])  # it trains on one channel, as all three are the same
        torch.testing.assert_close(net.head(net.body(pictures)), theirs, rtol=1e-3, atol=1e-3)


def test_the_statistics_are_those_of_the_digits_as_they_are():
    """Batch normalisation has the statistics of the final weights on digits that are not augmented."""
    pixels = noise(40)

    net = training.fit(pixels, np.arange(40) % 10, Recipe(epochs=1, batch_size=20))

    with torch.no_grad():
        out = net.body[0](net.pictures(torch.from_numpy(pixels)))
    torch.testing.assert_close(net.body[1].running_mean, out.mean((0, 2, 3)), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(net.body[1].running_var, out.var((0, 2, 3)), rtol=1e-3, atol=1e-4)


def test_a_crop_reads_the_centre():
    """Pixels at the edge change nothing, pixels inside do."""
    net = ResNet18(24).eval()
    pixels = torch.from_numpy(noise(2))
    edge, inside = pixels.clone(), pixels.clone()
    edge[:, :2] = 0
    edge[:, :, 26:] = 0
    inside[:, 2] = 0

    with torch.inference_mode():
        assert torch.equal(net(edge), net(pixels))
        assert not torch.equal(net(inside), net(pixels))


def test_an_enlarged_picture_is_the_one_that_was_drawn():
    """Training and inference enlarge alike: the map without any change gives the same picture."""
    pixels = torch.from_numpy(noise(3))
    net = ResNet18(24, 32)
    net.mean.zero_()
    net.std.fill_(1)
    centre = torch.tensor([[24 / 28, 0, 0], [0, 24 / 28, 0]]).expand(3, 2, 3)

    pictures = net.pictures(pixels)

    assert pictures.shape == (3, 3, 32, 32)
    ink = pixels[:, None].float() / 255
    torch.testing.assert_close(pictures, draw(ink, centre, (32, 32)).expand(-1, 3, -1, -1))
    torch.testing.assert_close(
        draw(ink, centre, (24, 24)),
        pixels[:, None, 2:26, 2:26] / 255,
        rtol=1e-4,
        atol=1e-4,
    )


def test_sizes_without_a_crop_read_the_whole_picture():
    """The defaults are those of the original recipe: 28 × 28, not enlarged."""
    assert build("resnet18", {}).sizes == {"crop": 28, "side": 28}


def test_pretrained_weights_are_used(imagenet_file):
    """fit starts from the weights in torch's cache; fine-tuning hardly moves the first filters."""
    from torchvision.models import resnet18

    weights = resnet18().state_dict()
    torch.save(weights, imagenet_file)

    net = fit(ten_kinds(64), "resnet18", epochs=1, pretrained=True)

    torch.testing.assert_close(net.body[0].weight, weights["conv1.weight"], rtol=0, atol=0.01)
    unseen = net.body[7][1].conv2.weight[:, :, 0, 0]
    assert torch.equal(unseen, weights["layer4.1.conv2.weight"][:, :, 0, 0])
    assert net.mean.flatten().tolist() == pytest.approx(IMAGENET_MEAN)


def test_pretrained_weights_that_are_damaged_are_named(imagenet_file):
    """Half a file in the cache is named with the remedy, instead of an unpickling error."""
    imagenet_file.write_bytes(b"PK\x03\x04 half of it")

    with pytest.raises(ModelError, match=re.escape(f"{imagenet_file} cannot be opened")) as refusal:
        fit(ten_kinds(64), "resnet18", epochs=1, pretrained=True)
    assert refusal.value.remedy.startswith("remove that file and try again")


def test_pretrained_weights_that_cannot_be_fetched_are_named(imagenet_file, monkeypatch):
    """Without a network, the error names the file, the address to get it from, and the way without."""

    def unreachable(*_, **__):
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)

    with pytest.raises(ModelError, match=re.escape(f"{imagenet_file} cannot be fetched")) as refusal:
        fit(ten_kinds(64), "resnet18", epochs=1, pretrained=True)
    assert re.match(r"download https://.* or train from scratch", refusal.value.remedy)
    assert not imagenet_file.exists()


def test_pretrained_is_refused_for_models_that_have_no_such_weights():
    """A model that only trains from scratch says which one does not."""
    with pytest.raises(ModelError, match="convnet has no pretrained weights, only resnet18"):
        fit(ten_kinds(20), "convnet", pretrained=True)


@contextmanager
def on_cuda():
    """Let torch store tensors inside as if they were on a GPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda _: "cuda:0")
        yield


@pytest.fixture
def no_cuda(monkeypatch):
    """Pretend that this machine has no GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.usefixtures("no_cuda")
def test_a_state_dict_with_cuda_places_opens_on_a_cpu(tmp_path):
    """Weights saved on a GPU need `map_location` on a CPU, and with it are the same weights."""
    net = ResNet18()
    with on_cuda():
        torch.save(net.state_dict(), tmp_path / "weights.pth")

    with pytest.raises(RuntimeError, match="deserialize object on a CUDA device"):
        torch.load(tmp_path / "weights.pth")
    opened = torch.load(tmp_path / "weights.pth", map_location="cpu")
    again = ResNet18()
    again.load_state_dict(opened)
    assert all(torch.equal(tensor, net.state_dict()[name]) for name, tensor in again.state_dict().items())
    assert {tensor.device.type for tensor in opened.values()} == {"cpu"}


@pytest.mark.usefixtures("no_cuda")
def test_a_learner_trained_on_cuda_opens_on_a_cpu(tmp_path):
    """A bundle whose learner.pkl is on CUDA throughout, DataLoaders included, opens and predicts alike."""
    net = ResNet18().eval()
    digit = noise(1)
    manifest = bundle.export(net, tmp_path, {})
    learner = bundle.to_learner(net)
    learner.dls.device = torch.device("cuda:0")
    with on_cuda():
        learner.export(tmp_path / "learner.pkl")
    digest = hashlib.sha256((tmp_path / "learner.pkl").read_bytes()).hexdigest()
    changed = manifest.to_json()
    changed["files"]["learner.pkl"] = {"sha256": digest, "bytes": 0}
    (tmp_path / "manifest.json").write_text(json.dumps(changed))

    with pytest.raises(RuntimeError, match="deserialize object on a CUDA device"):
        torch.load(tmp_path / "learner.pkl", weights_only=False)
    opened = bundle.load_learner(tmp_path)

    assert opened.dls.device == torch.device("cpu")
    assert {tensor.device.type for tensor in opened.model.state_dict().values()} == {"cpu"}
    np.testing.assert_allclose(opened.predict(to_fastai(digit[0]))[2], predict(net, digit)[0], atol=1e-4)


def test_fit_brings_the_network_to_the_cpu(monkeypatch):
    """Whatever device a model was trained on, `fit` returns it on the CPU, where it can be exported."""
    moved = []

    class Elsewhere(ResNet18):
        def to(self, *arguments, **options):
            moved.append(arguments)
            return super().to(*arguments, **options)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    devices = []
    monkeypatch.setattr(training, "fit", lambda *_, device, **__: devices.append(device) or Elsewhere())

    net = fit(Digits(noise(2), np.array([0, 1])), "resnet18", device="cuda")

    assert devices == [torch.device("cuda")]
    assert moved[0] == ("cpu", torch.float32)
    assert next(net.parameters()).device.type == "cpu"
