"""resnet18: a convolution as a matrix product, the crop, pretrained weights, and from CUDA to the CPU."""

import hashlib
import json
from contextlib import contextmanager

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


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Train on one thread: several wait for each other where other work runs beside the tests."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def noise(n, seed=0):
    """Pixels uint8 (n, 28, 28)."""
    return np.random.default_rng(seed).integers(0, 256, (n, 28, 28), np.uint8)


CASES = [(side, stride) for side in (1, 2, 3, 4) for stride in (1, 2)]


@pytest.mark.parametrize(("side", "stride"), CASES)
def test_a_tiny_convolution_is_a_matrix_product(side, stride):
    """Outputs, the gradient of the pictures and that of the taps are the convolution's own."""
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
    """There a 3×3 convolution has a ninth of its weights to train, and the others stay as they are."""
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
    """With products for its tiny convolutions, fastai's body gives the features that it gave before."""
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
    """Whatever stood in for a convolution while it trained, the weights fit torchvision's resnet18."""
    from torchvision.models import resnet18

    net = fit(synthetic(40), "resnet18", epochs=1)

    theirs = nn.Sequential(*list(resnet18().children())[:-2])
    theirs.load_state_dict(net.body.state_dict())
    pictures = net.pictures(torch.from_numpy(synthetic(5).pixels))
    torch.testing.assert_close(theirs.eval()(pictures), net.body(pictures))


def test_the_network_reads_what_it_was_trained_on(monkeypatch):
    """What comes out gives the logits that the learner's own network gave for the same, unmoved digits."""
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
    """After the training, batch normalisation holds what the final weights give on digits not moved."""
    pixels = noise(40)

    net = training.fit(pixels, np.arange(40) % 10, Recipe(epochs=1, batch_size=20))

    with torch.no_grad():
        out = net.body[0](net.pictures(torch.from_numpy(pixels)))
    torch.testing.assert_close(net.body[1].running_mean, out.mean((0, 2, 3)), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(net.body[1].running_var, out.var((0, 2, 3)), rtol=1e-3, atol=1e-4)


def test_a_crop_reads_the_centre():
    """Four pixels less a side: what lies at the edge changes nothing, what lies inside does."""
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
    """Training and inference enlarge alike: a map without turn, scale, shear and shift gives the same."""
    pixels = torch.from_numpy(noise(3))
    net = ResNet18(24, 32)
    net.mean.zero_()
    net.std.fill_(1)
    still = torch.tensor([[24 / 28, 0, 0], [0, 24 / 28, 0]]).expand(3, 2, 3)

    pictures = net.pictures(pixels)

    assert pictures.shape == (3, 3, 32, 32)
    ink = pixels[:, None].float() / 255
    torch.testing.assert_close(pictures, draw(ink, still, 32).expand(-1, 3, -1, -1))
    torch.testing.assert_close(
        draw(ink, still, 24),
        pixels[:, None, 2:26, 2:26] / 255,
        rtol=1e-4,
        atol=1e-4,
    )


def test_sizes_without_a_crop_read_the_whole_picture():
    """Bundles of before there was a crop carry no sizes, and mean 28 × 28."""
    assert build("resnet18", {}).sizes == {"crop": 28, "side": 28}


@pytest.mark.parametrize("sizes", [{"crop": 0}, {"crop": 29}, {"crop": "all"}, {"side": 0}, {"zoom": 2}])
def test_sizes_of_no_resnet18_are_refused(sizes):
    """A crop that no picture has is a ModelError."""
    with pytest.raises(ModelError, match="resnet18 has no sizes"):
        build("resnet18", sizes)


def test_pretrained_is_an_option_of_fit(synthetic, tmp_path, monkeypatch):
    """fit starts from the weights in torch's cache; fine-tuning hardly moves the first filters."""
    from torchvision.models import resnet18

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    file = tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    file.parent.mkdir(parents=True)
    weights = resnet18().state_dict()
    torch.save(weights, file)

    net = fit(synthetic(64), "resnet18", epochs=1, pretrained=True)

    torch.testing.assert_close(net.body[0].weight, weights["conv1.weight"], rtol=0, atol=0.01)
    unseen = net.body[7][1].conv2.weight[:, :, 0, 0]
    assert torch.equal(unseen, weights["layer4.1.conv2.weight"][:, :, 0, 0])
    assert net.mean.flatten().tolist() == pytest.approx(IMAGENET_MEAN)


def test_pretrained_is_refused_where_there_are_no_such_weights(synthetic):
    """A model that only trains from scratch says which one does not."""
    with pytest.raises(ModelError, match="convnet has no pretrained weights, only resnet18"):
        fit(synthetic(20), "convnet", pretrained=True)


@contextmanager
def on_cuda():
    """Let torch note, inside, the places that it notes where tensors lie on a GPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda _: "cuda:0")
        yield


@pytest.fixture
def no_cuda(monkeypatch):
    """A machine without a GPU, whatever this one has."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.usefixtures("no_cuda")
def test_a_state_dict_with_cuda_places_opens_on_a_cpu(tmp_path):
    """Weights saved on a GPU need `map_location` where there is none, and with it are the same weights."""
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
    """A bundle whose learner.pkl lies on CUDA throughout, its DataLoaders too, opens and predicts alike."""
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
    """Whatever device a model was trained on, what `fit` gives lies on the CPU and can be exported there."""
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
