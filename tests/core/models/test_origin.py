"""The original notebook's recipe: its split, its network as one of ours, and what it refuses."""

import random
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from mnist_core import bundle
from mnist_core.errors import DataError, ModelError
from mnist_core.inference import predict
from mnist_core.models.resnet.net import IMAGENET_MEAN, IMAGENET_STD
from mnist_core.models.resnet.origin import fit_origin
from tests.core.models.patterns import random_states, same


def write_folder(folder, each=12, side=28):
    """Write PNGs by label: ten fixed patterns under noise, `each` of every digit."""
    rng = np.random.default_rng(3)
    patterns = np.random.default_rng(99).random((10, 7, 7)) < 0.4
    for label in range(10):
        (folder / str(label)).mkdir(parents=True)
        for i in range(each):
            ink = np.kron(patterns[label], np.ones((4, 4))) * 190 + rng.integers(0, 60, (28, 28))
            picture = Image.fromarray(ink.astype(np.uint8)).resize((side, side))
            picture.save(folder / str(label) / f"{label * each + i}.png")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Make a folder of 120 PNGs, of which the split holds out 24."""
    return write_folder(tmp_path_factory.mktemp("origin") / "pngs")


@pytest.fixture(scope="module")
def trained(folder):
    """Train by the recipe, from scratch with one epoch instead of three; keep the progress reports."""
    reports = []
    fitted = fit_origin(folder, seed=4, epochs=1, progress=lambda *report: reports.append(report))
    return SimpleNamespace(fitted=fitted, reports=reports)


def read(folder, files):
    """Read PNGs, and their labels from the folders that they lie in."""
    pixels = np.stack([np.array(Image.open(folder / file)) for file in files])
    return pixels, np.array([int(file.split("/")[-2]) for file in files])


def test_it_keeps_its_own_split(folder, trained):
    """The files held out are those of fastai's RandomSplitter(0.2, seed=42) over the paths in order."""
    order = torch.randperm(120, generator=torch.Generator().manual_seed(42))[:24]
    files = sorted(folder.rglob("*.png"))

    assert trained.fitted.valid_files == [files[i].relative_to(folder).as_posix() for i in order]


def test_the_accuracy_is_that_of_the_plain_network(folder, trained):
    """fastai's error rate on its validation files is that of our own inference with the same weights."""
    net, accuracy, files = trained.fitted
    pixels, labels = read(folder, files)

    assert (predict(net, pixels).argmax(1) == labels).mean() == accuracy
    assert net.name == "resnet18"
    assert not net.training
    assert not any(parameter.requires_grad for parameter in net.parameters())


def test_it_normalises_as_it_was_trained(trained):
    """From scratch fastai does not normalise: the network takes bytes / 255."""
    assert trained.fitted.net.mean.flatten().tolist() == [0, 0, 0]
    assert trained.fitted.net.std.flatten().tolist() == [1, 1, 1]


def test_it_exports_and_loads_like_any_network(folder, trained, tmp_path):
    """Its bundle opens in plain torch, and gives the same probabilities."""
    net, accuracy, files = trained.fitted
    bundle.export(net, tmp_path / "bundle", {"preset": "origin", "valid_accuracy": accuracy})

    again, manifest = bundle.load(tmp_path / "bundle")

    pixels, _ = read(folder, files)
    assert np.array_equal(predict(again, pixels), predict(net, pixels))
    assert manifest.facts["preset"] == "origin"


def test_progress_counts_training_batches(trained):
    """Two epochs (the head's and one more) of three full batches of 32; validation is not counted."""
    assert [report[:2] for report in trained.reports] == [(done, 6) for done in range(1, 7)]
    assert re.fullmatch(r"epoch 2/2  loss \d+\.\d\d", trained.reports[-1][2])


def test_a_seed_gives_a_network_and_nothing_else_changes(folder, trained):
    """The same seed gives the same weights bit for bit; global random states stay as they were."""
    random.random()
    torch.rand(3)
    before = random_states()
    again = fit_origin(folder, seed=4, epochs=1)

    assert random_states() == before
    assert same(trained.fitted.net, again.net)


def test_pretrained_weights_are_used_as_in_the_notebook(folder, imagenet_file):
    """With weights in torch's cache it starts from them, and normalises by ImageNet's numbers."""
    from torchvision.models import resnet18

    weights = resnet18().state_dict()
    torch.save(weights, imagenet_file)

    net, accuracy, files = fit_origin(folder, pretrained=True, epochs=1)

    torch.testing.assert_close(net.body[0].weight, weights["conv1.weight"], rtol=0, atol=0.001)
    torch.testing.assert_close(net.mean.flatten(), torch.tensor(IMAGENET_MEAN))
    torch.testing.assert_close(net.std.flatten(), torch.tensor(IMAGENET_STD))
    pixels, labels = read(folder, files)
    assert (predict(net, pixels).argmax(1) == labels).mean() == accuracy


def test_damaged_pretrained_weights_are_named(folder, imagenet_file):
    """If they cannot be opened, the error names the file in torch's cache."""
    imagenet_file.write_bytes(b"half of it")

    with pytest.raises(ModelError, match=rf"{re.escape(str(imagenet_file))}.*remove that file"):
        fit_origin(folder, pretrained=True)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    """A misspelt folder is named."""
    with pytest.raises(DataError, match="nowhere: there is no such folder"):
        fit_origin(tmp_path / "nowhere")


def test_other_classes_are_refused(tmp_path):
    """Ten folders 0 to 9 are needed; those found are listed."""
    write_folder(tmp_path, each=1)
    (tmp_path / "9").rename(tmp_path / "nine")

    with pytest.raises(
        DataError, match=r"folders named 0, 1, .*, 8, nine; expected PNGs in 10 folders named 0, 1"
    ):
        fit_origin(tmp_path)


def test_pictures_of_another_size_are_refused(tmp_path):
    """A network for 28 × 28 is not trained on anything else."""
    write_folder(tmp_path, each=4, side=32)

    with pytest.raises(DataError, match=r"0\.png: the picture has 32 × 32 pixels; resize it to 28 × 28"):
        fit_origin(tmp_path)


def test_a_file_that_is_not_a_picture_is_named(tmp_path):
    """A damaged file is found before the training starts."""
    write_folder(tmp_path, each=4)
    (tmp_path / "3" / "12.png").write_bytes(b"no picture")

    with pytest.raises(DataError, match=r"3/12\.png: is not a picture"):
        fit_origin(tmp_path)


def test_too_few_files_are_refused(tmp_path):
    """Fewer than a batch would train nothing."""
    write_folder(tmp_path, each=3)

    with pytest.raises(ModelError, match=r"30 files are too few"):
        fit_origin(tmp_path)
