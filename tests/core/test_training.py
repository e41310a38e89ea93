"""fit: what it learns, what it sees, what it leaves alone, and what it refuses."""

import random
import re
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from urllib.error import URLError

import numpy as np
import pytest
import torch

from mnist_core.digits import Digits
from mnist_core.errors import ModelError
from mnist_core.inference import predict
from mnist_core.models.augment import INK_SCALE
from mnist_core.models.convnet import PRESETS, _cuda
from mnist_core.models.convnet import fit as convnet
from mnist_core.models.convnet.net import ConvNet
from mnist_core.models.resnet import PRESETS as RESNET_PRESETS
from mnist_core.models.resnet import Recipe as ResNetRecipe
from mnist_core.models.resnet import fit as resnet
from mnist_core.models.resnet.net import ResNet18
from mnist_core.training import fit, pick_device

MODELS = ["convnet", "resnet18"]
FAST = {convnet: PRESETS["fast"], resnet: RESNET_PRESETS["fast"]}


def ten_kinds(n, seed=0):
    """Make labelled digits that can be told apart: ten fixed patterns of 7 × 7 blocks under noise."""
    patterns = np.random.default_rng(99).random((10, 7, 7)) < 0.4
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, n)
    ink = np.kron(patterns[labels], np.ones((1, 4, 4))) * 190
    return Digits((ink + rng.integers(0, 60, (n, 28, 28))).astype(np.uint8), labels)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Train on one thread: several wait for each other where other work runs beside the tests."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def same(a, b):
    """Whether two networks have the same weights and statistics, bit for bit."""
    return all(
        torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


def test_a_convnet_learns():
    """Four short passes tell ten patterns apart, on digits that it has not seen."""
    net = fit(ten_kinds(1280), epochs=4)

    test = ten_kinds(500, seed=1)
    assert (predict(net, test.pixels).argmax(1) == test.labels).mean() > 0.98


def test_the_first_fit_does_not_wait_for_the_compiler():
    """A fit imports nothing of torch's compiler: that takes two seconds of each process that trains."""
    code = """
import sys, numpy as np
from mnist_core import Digits, fit
fit(Digits(np.zeros((200, 28, 28), np.uint8), np.zeros(200, np.int64)), epochs=2, device="cpu")
assert "torch.optim" in sys.modules and "torch._dynamo" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator, and /proc")
def test_a_fit_hands_its_memory_back():
    """What is kept from step to step goes back to the kernel in the end: a fifth or so of the peak."""
    code = """
import re, numpy as np
from pathlib import Path
from mnist_core import Digits, fit
digits = Digits(np.zeros((2000, 28, 28), np.uint8), np.zeros(2000, np.int64))
fit(digits, preset="wide", epochs=2, device="cpu")
status = Path("/proc/self/status").read_text()
peak, now = (int(re.search(rf"{name}:\\s+(\\d+)", status)[1]) >> 10 for name in ("VmHWM", "VmRSS"))
assert now < peak - 100, (peak, now)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("model", ["convnet", "ensemble"])
def test_a_gpu_trains_the_same_kind_of_network(model):
    """What a CUDA device trains, members side by side, tells the patterns apart on a CPU."""
    net = fit(ten_kinds(1280), model, epochs=4, device="cuda")

    test = ten_kinds(500, seed=1)
    assert (predict(net, test.pixels).argmax(1) == test.labels).mean() > 0.98


@pytest.mark.parametrize("together", [False, True], ids=["a convnet", "an ensemble"])
def test_a_convnet_learns_what_its_teacher_says(together):
    """Its teacher calls each pattern by the next one's name, so the pupil does; the teacher stays."""
    digits, wrong = ten_kinds(1280), ten_kinds(1280)
    wrong.labels[:] = (wrong.labels + 1) % 10
    teacher = fit(wrong, "ensemble" if together else "convnet", epochs=4)
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}

    net = fit(digits, epochs=4, seed=1, teacher=teacher)

    test = ten_kinds(500, seed=1)
    assert (predict(net, test.pixels).argmax(1) == (test.labels + 1) % 10).mean() > 0.98
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())


def test_an_upright_pupil_learns_of_teachers_that_are_not():
    """Each network sees the same drawn digit in its own way: upright or as it is."""
    digits, wrong = ten_kinds(1280), ten_kinds(1280)
    wrong.labels[:] = (wrong.labels + 1) % 10
    teacher = fit(wrong, "ensemble", epochs=4)

    net = fit(digits, "ensemble", epochs=4, seed=1, member=1, teacher=teacher)

    test = ten_kinds(500, seed=1)
    assert net.sizes["upright"]
    assert (predict(net, test.pixels).argmax(1) == (test.labels + 1) % 10).mean() > 0.98


def test_a_member_is_the_one_of_the_whole():
    """A member that is trained alone has the weights that it has in the ensemble; others have none."""
    digits = ten_kinds(300)

    whole = fit(digits, "ensemble", epochs=3, seed=4)

    assert same(whole.members[1], fit(digits, "ensemble", epochs=3, seed=5, member=1))
    with pytest.raises(ModelError, match="member is 1, but convnet has no members"):
        fit(digits, "convnet", epochs=3, member=1)


def test_trainings_that_take_turns_do_not_disturb_each_other():
    """Steps of two networks in turn, as a GPU takes them, give the weights that each has alone."""
    digits = ten_kinds(600)
    recipe = replace(PRESETS["fast"], epochs=3)
    data, labels = torch.from_numpy(digits.pixels), torch.from_numpy(digits.labels)

    trainings = [convnet._train(data, labels, recipe, seed, [], lambda *_: None) for seed in (1, 2)]
    *_, nets = zip(*trainings, strict=True)

    for seed, net in zip((1, 2), nets, strict=True):
        assert same(net, convnet.fit(digits.pixels, digits.labels, recipe, seed=seed))


def test_a_step_is_recorded_once_and_replayed_with_what_it_is_given(monkeypatch):
    """After three steps as they are, the fourth is recorded, and it and all others are replays; a replay
    reads and writes the places that were recorded, as a CUDA graph does."""
    said, total, recording = [], torch.zeros(()), []

    class Graph:
        def replay(self):
            said.append("replay")
            for place in recording:
                total.add_(place)

    @contextmanager
    def record(graph, stream):
        said.append("record")
        yield

    def step(value):
        if said:
            recording.append(value)
        else:
            total.add_(value)

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", record)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: None)
    recorded = _cuda.RecordedStep(step)

    for value in range(1, 7):
        recorded(torch.tensor(float(value)))
        assert total.item() == value * (value + 1) / 2

    assert said == ["record", "replay", "replay", "replay"]


def test_a_resnet18_learns():
    """The same through fastai."""
    digits = ten_kinds(256)

    net = resnet.fit(digits.pixels, digits.labels, ResNetRecipe(epochs=3, batch_size=32))

    test = ten_kinds(100, seed=1)
    assert (predict(net, test.pixels).argmax(1) == test.labels).mean() > 0.9


@pytest.mark.parametrize("model", MODELS)
def test_a_seed_gives_a_network(model):
    """The same seed gives the same weights bit for bit, whatever was drawn before; another gives others."""
    digits, epochs = (ten_kinds(300), 4) if model == "convnet" else (ten_kinds(40), 1)

    first = fit(digits, model, epochs=epochs, seed=1)
    torch.rand(3)
    random.random()

    assert same(first, fit(digits, model, epochs=epochs, seed=1))
    assert not same(first, fit(digits, model, epochs=epochs, seed=2))


@pytest.mark.parametrize("model", MODELS)
def test_global_random_states_stay_as_they_were(model):
    """Training draws from its own seed: torch's, numpy's and Python's global states are as before."""

    def states():
        return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()

    fit(ten_kinds(64), model, epochs=1)  # imports fastai, which may draw
    before = states()
    fit(ten_kinds(64), model, epochs=1, seed=7)

    assert states() == before


@pytest.mark.parametrize("model", MODELS)
def test_only_the_given_rows_are_seen(model):
    """Nonsense in the pixels and labels of all other rows changes no bit of the network."""
    digits = ten_kinds(60)
    rows = np.random.default_rng(5).permutation(60)[:40]
    hidden = np.setdiff1d(np.arange(60), rows)
    spoilt = Digits(digits.pixels.copy(), digits.labels.copy())
    spoilt.pixels[hidden] = 255 - spoilt.pixels[hidden]
    spoilt.labels[hidden] = 9 - spoilt.labels[hidden]
    epochs = 3 if model == "convnet" else 1  # two of them over the hardest

    net = fit(digits, model, rows=rows, epochs=epochs)

    assert same(net, fit(spoilt, model, rows=rows, epochs=epochs))
    assert not same(net, fit(spoilt, model, epochs=epochs))


def test_rows_are_indices_or_a_mask():
    """A mask names the same digits as their indices in order."""
    digits = ten_kinds(60)
    mask = np.random.default_rng(5).random(60) < 0.5

    assert same(fit(digits, rows=mask, epochs=1), fit(digits, rows=np.flatnonzero(mask), epochs=1))


@pytest.mark.parametrize("model", MODELS)
def test_the_network_is_ready_for_use(model):
    """What comes back is in evaluation mode, float32, without gradients, on the CPU, laid out plainly."""
    net = fit(ten_kinds(40), model, epochs=1)

    assert not net.training
    for tensor in net.state_dict().values():
        assert tensor.device.type == "cpu"
        assert tensor.is_contiguous()
        assert tensor.dtype in (torch.float32, torch.int64)
    assert not any(parameter.requires_grad for parameter in net.parameters())


@pytest.mark.parametrize("n", [1, 2, 127, 128, 129, 257])
def test_any_number_of_digits_trains_a_convnet(n):
    """Fewer digits than a batch, and one more than a batch or two, train to finite weights."""
    net = fit(ten_kinds(n), epochs=2)

    assert all(tensor.isfinite().all() for tensor in net.state_dict().values())


def test_two_digits_train_a_resnet18_and_one_does_not():
    """Its head normalises over the batch, which one digit does not make."""
    fit(ten_kinds(2), "resnet18", epochs=1)

    with pytest.raises(ModelError, match="needs 2 or more"):
        fit(ten_kinds(1), "resnet18", epochs=1)


@pytest.mark.parametrize(("module", "total"), [(convnet, 2 + 1 + 1), (resnet, 3 * 2)], ids=MODELS)
def test_progress_counts_batches(module, total):
    """Progress goes up to its total, which is the passes' full batches, and names pass and loss."""
    digits, reports = ten_kinds(20), []
    recipe = replace(FAST[module], epochs=3, batch_size=8)

    module.fit(digits.pixels, digits.labels, recipe, progress=lambda *report: reports.append(report))

    done = [report[0] for report in reports]
    assert done == sorted(set(done))
    assert reports[-1][:2] == (total, total)
    assert all(
        re.fullmatch(r"epoch [123]/3(, the hardest)?  loss \d+\.\d\d", report[2]) for report in reports
    )


@pytest.mark.parametrize(("others", "least", "most"), [(0, 100, 128), (0.5, 50, 90)])
def test_a_pass_after_the_full_ones_takes_what_is_hard(monkeypatch, others, least, most):
    """A tenth of the digits has labels of dice, which nobody can learn: a pass over a tenth holds most of
    them, fewer where half of it is drawn from all digits, and no digit twice."""
    digits, seen = ten_kinds(1280), []
    digits.pixels[:, 0, :2] = np.stack(np.divmod(np.arange(1280), 256), axis=1)  # its number, a mark
    digits.labels[::10] = np.random.default_rng(0).integers(0, 10, 128)
    real = convnet.crop_through

    def watched(pixels, maps):
        seen.extend((pixels[:, 0, 0].int() * 256 + pixels[:, 0, 1]).tolist())
        return real(pixels, maps)

    monkeypatch.setattr(convnet, "crop_through", watched)
    recipe = replace(PRESETS["fast"], full_epochs=4, epochs=5, batch_size=32, hard=0.1, others=others)

    convnet.fit(digits.pixels, digits.labels, recipe)

    last = seen[4 * 1280 :]
    assert len(last) == len(set(last)) == 128
    assert least <= sum(number % 10 == 0 for number in last) <= most


@pytest.mark.parametrize("model", MODELS)
def test_an_interrupt_passes_through(model):
    """^C between two batches ends the training as what it is."""

    def interrupt(done, total, note):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(ten_kinds(64), model, epochs=1, progress=interrupt)


@pytest.mark.parametrize("module", [convnet, resnet], ids=MODELS)
def test_a_loss_that_is_not_finite_ends_the_training(module):
    """A network that diverges is an error that names the epoch and what to try, never a bundle."""
    digits = ten_kinds(32)
    recipe = replace(FAST[module], epochs=40, batch_size=8, lr=1e30)

    with pytest.raises(ModelError, match=r"loss is (nan|inf) in epoch \d+ of 40; try another seed"):
        module.fit(digits.pixels, digits.labels, recipe)


def test_the_average_has_statistics_of_its_own():
    """Batch normalisation holds what the averaged weights give on the training digits, not augmented."""
    digits = ten_kinds(500)

    net = fit(digits, epochs=1)

    convolution, norm = net.layers[0][0], net.layers[0][1]
    ink = torch.from_numpy(digits.pixels[:, None, 2:26, 2:26]) * INK_SCALE
    out = convolution(ink)
    torch.testing.assert_close(norm.running_mean, out.mean((0, 2, 3)), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(norm.running_var, out.var((0, 2, 3)), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"model": "resnet81"},
            r"no model 'resnet81'; did you mean resnet18\? choose one of convnet, ens",
        ),
        ({"preset": "slow"}, r"no preset 'slow'; choose one of fast, balanced, best"),
        ({"device": "tpu"}, r"no device 'tpu'; choose one of auto, cpu, cuda"),
        ({"epochs": 0}, r"epochs is 0"),
        ({"model": "ensemble", "member": -1}, r"member is -1; they are numbered from 0"),
        ({"teacher": ResNet18()}, r"convnet cannot learn from resnet18"),
        ({"teacher": ConvNet((2, 2)), "model": "resnet18"}, r"resnet18 cannot learn from convnet"),
        ({"rows": np.array([0, 20])}, r"rows do not fit the 20 digits"),
        ({"rows": np.ones(19, bool)}, r"rows do not fit the 20 digits"),
        ({"rows": np.array([0.0, 1.0])}, r"rows is float64 \(2,\)"),
        ({"rows": np.zeros(20, bool)}, r"rows selects none"),
    ],
)
def test_what_can_not_be_trained_is_refused(arguments, message):
    """An unknown name, or rows that are not there, say what there is."""
    with pytest.raises(ModelError, match=message):
        fit(ten_kinds(20), **arguments)


def test_digits_without_labels_are_refused(synthetic):
    """test.csv teaches nothing."""
    with pytest.raises(ModelError, match="no labels"):
        fit(synthetic(5, labelled=False))


def test_cuda_that_is_not_there_is_refused(monkeypatch):
    """Asking for CUDA without it is an error that names the way out; auto takes the CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    assert pick_device("auto") == pick_device("cpu") == torch.device("cpu")
    with pytest.raises(ModelError, match=r"device cuda: .* use device cpu or auto"):
        pick_device("cuda")


def test_cuda_is_taken_where_it_is(monkeypatch):
    """auto and cuda mean CUDA where torch finds it, and cpu still means the CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)

    assert pick_device("auto") == pick_device("cuda") == torch.device("cuda")
    assert pick_device("cpu") == torch.device("cpu")


@pytest.fixture
def weights_file(tmp_path, monkeypatch):
    """Where torchvision's weights of resnet18 would lie, in an empty cache of torch's."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    file = tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    file.parent.mkdir(parents=True)
    return file


def pretrained_fit():
    digits = ten_kinds(64)
    recipe = replace(RESNET_PRESETS["fast"], epochs=1, pretrained=True)
    return resnet.fit(digits.pixels, digits.labels, recipe)


def test_pretrained_weights_are_used(weights_file):
    """With weights in the cache, training starts from them: fine-tuning hardly moves the first filters."""
    from torchvision.models import resnet18

    weights = resnet18().state_dict()
    torch.save(weights, weights_file)

    net = pretrained_fit()

    torch.testing.assert_close(net.body[0].weight, weights["conv1.weight"], rtol=0, atol=0.01)


def test_pretrained_weights_that_are_damaged_are_named(weights_file):
    """A half file in the cache is named with the remedy, instead of an unpickling error."""
    weights_file.write_bytes(b"PK\x03\x04 half of it")

    with pytest.raises(ModelError, match=rf"{re.escape(str(weights_file))}.*remove that file"):
        pretrained_fit()


def test_pretrained_weights_that_can_not_be_fetched_are_named(weights_file, monkeypatch):
    """Without a network, the error names the file, the address to get it from, and the way without."""

    def unreachable(*_, **__):
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)

    with pytest.raises(
        ModelError, match=rf"{re.escape(str(weights_file))}.*download https://.*pretrained=False"
    ):
        pretrained_fit()
    assert not weights_file.exists()
