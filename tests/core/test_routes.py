"""Two routes to the same prediction: from files, as notebook 3 of the origin, and in memory, as notebook 4.

On the way the two type errors that stopped him, and what the same calls do in the fastai that is installed.
"""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from mnist_core.bundle import export, load, load_learner
from mnist_core.digits import Digits, read_test, write_csv
from mnist_core.folders import read_pngs, write_pngs
from mnist_core.images import from_image, read_image, to_fastai
from mnist_core.inference import predict
from mnist_core.training import fit

SAMPLE = np.arange(0, 28_000, 1000)


@pytest.fixture(scope="module")
def trained(synthetic, tmp_path_factory):
    """A network that was trained a little, so that its answers differ, and its Learner from the bundle."""
    # Digits that can be learnt: ink in another place for each class, and noise.
    digits = synthetic(2000)
    pixels = digits.pixels // 2
    for label in range(10):
        pixels[digits.labels == label, 4 + 2 * label : 6 + 2 * label, 4:24] |= 128
    net = fit(Digits(pixels, digits.labels), "convnet", epochs=1, device="cpu")
    folder = tmp_path_factory.mktemp("routes") / "bundle"
    export(net, folder, {})
    return SimpleNamespace(net=load(folder)[0], learner=load_learner(folder))


@pytest.fixture(scope="module")
def test_set(synthetic, tmp_path_factory):
    """A test.csv of full size, 28,000 digits, and the folder of PNGs made from it."""
    folder = tmp_path_factory.mktemp("test-set")
    write_csv(synthetic(28_000, labelled=False), folder / "test.csv")
    write_pngs(read_test(folder / "test.csv"), folder / "test")
    return folder


@pytest.fixture(scope="module")
def in_memory(test_set):
    """The digits of test.csv."""
    return read_test(test_set / "test.csv").pixels


def test_files_and_memory_give_the_same_28_000_labels(trained, test_set, in_memory):
    """Neither the PNGs nor their order change a label, nor a probability."""
    from_files = read_pngs(test_set / "test").pixels

    a, b = predict(trained.net, from_files), predict(trained.net, in_memory)

    assert np.array_equal(a, b)
    assert len(a) == 28_000
    assert len(set(a.argmax(1))) > 5  # it has something to say


def test_one_by_one_gives_the_same_labels(trained, test_set, in_memory):
    """The origin's loop over `learn.predict`, from files and from memory, and our batches: one answer."""
    files = [test_set / "test" / f"{i}.png" for i in SAMPLE]

    from_files = [int(trained.learner.predict(file)[0]) for file in files]
    from_memory = [int(trained.learner.predict(to_fastai(in_memory[i]))[0]) for i in SAMPLE]

    ours = predict(trained.net, in_memory[SAMPLE]).argmax(1)
    assert from_files == from_memory == ours.tolist()


def test_get_preds_gives_the_same_labels(trained, test_set, in_memory):
    """fastai's own way to predict many files gives what our batches give, within rounding."""
    files = [test_set / "test" / f"{i}.png" for i in range(500)]

    theirs, _ = trained.learner.get_preds(dl=trained.learner.dls.test_dl(files))

    ours = predict(trained.net, in_memory[:500])
    assert np.array_equal(theirs.numpy().argmax(1), ours.argmax(1))
    np.testing.assert_allclose(theirs.numpy(), ours, atol=1e-4)


def test_one_png_is_read_as_its_folder_is(synthetic, tmp_path):
    """A PNG of a digit as MNIST has them is the same digit to `predict` and to `submission`."""
    disc = np.hypot(*(np.indices((28, 28)) - 13.5))
    digit = from_image(Image.fromarray(((disc < 10) & (disc > 6)).astype(np.uint8) * 255))
    write_pngs(Digits(digit[None]), tmp_path)

    assert np.array_equal(read_image(tmp_path / "0.png"), digit)
    assert np.array_equal(read_pngs(tmp_path).pixels[0], digit)


# The two type errors


@pytest.fixture(scope="module")
def his(synthetic, tmp_path_factory):
    """The origin's Learner: DataBlock over PNGs by label, RandomSplitter(0.2, seed=42), resnet18."""
    from fastai.vision.all import (
        CategoryBlock,
        DataBlock,
        ImageBlock,
        RandomSplitter,
        error_rate,
        get_image_files,
        parent_label,
        resnet18,
        vision_learner,
    )

    folder = tmp_path_factory.mktemp("his")
    write_pngs(synthetic(60), folder / "training")
    dls = DataBlock(
        blocks=(ImageBlock, CategoryBlock),
        get_items=get_image_files,
        splitter=RandomSplitter(0.2, seed=42),
        get_y=parent_label,
    ).dataloaders(folder / "training", bs=32, num_workers=0)
    return vision_learner(dls, resnet18, metrics=error_rate, pretrained=False)


@pytest.fixture
def digit(synthetic):
    """One digit of a CSV, uint8 (28, 28)."""
    return synthetic(1, seed=9).pixels[0]


def his_row(digit):
    """His conversion of a row: `Image.frombytes('L', (28, 28), bytes(row))`."""
    return Image.frombytes("L", (28, 28), bytes(digit.ravel().tolist()))


@pytest.fixture
def as_in_2022(his, monkeypatch):
    """His Learner with the types that fastai took items of in November 2022 (2.7.10).

    `PILImage.create` had the annotation Path|str|Tensor|ndarray|bytes then, and a plain PIL image was none of
    them. Image.Image came to it with github.com/fastai/fastai/issues/3880.
    """
    for part in (his.dls.train_ds, his.dls.valid_ds):
        for pipe in part.tls:
            types = [
                tuple(kind for kind in known if kind is not Image.Image)
                if isinstance(known, tuple)
                else known
                for known in pipe.types
            ]
            monkeypatch.setattr(pipe, "types", types)
    return his


def test_a_plain_pil_image_stopped_him(as_in_2022, digit):
    """learn.predict(PIL.Image) was an AssertionError about its type; `to_fastai` gives the type it wants."""
    with pytest.raises(AssertionError, match=r"(?s)Expected an input of type in.*but got <class 'PIL"):
        as_in_2022.predict(his_row(digit))

    label, _, probabilities = as_in_2022.predict(to_fastai(digit))

    assert label in "0123456789"
    assert probabilities.sum().item() == pytest.approx(1)


def test_a_plain_pil_image_of_mode_l_stops_todays_fastai_later(his, digit):
    """2.8 takes a plain PIL image, as it is: one channel, where the network has weights for three."""
    with pytest.raises(RuntimeError, match="to have 3 channels, but got 1 channels"):
        his.predict(his_row(digit))

    assert his.predict(to_fastai(digit))[0] in "0123456789"


def test_a_mode_l_tensor_stopped_him(his, digit):
    """A digit as a tensor with its one channel can not become an image; `to_fastai` makes three of it."""
    from fastai.vision.core import PILImage, TensorImage

    one_channel = TensorImage(torch.from_numpy(digit)[None].float())
    with pytest.raises(TypeError, match=r"Cannot handle this data type: \(1, 1, 1\), \|u1"):
        PILImage.create(one_channel)
    with pytest.raises(TypeError, match=r"Cannot handle this data type: \(1, 1, 1\), \|u1"):
        his.predict(one_channel)

    assert np.array_equal(np.asarray(to_fastai(digit))[..., 0], digit)
    assert his.predict(to_fastai(digit))[0] in "0123456789"


def test_his_own_way_out_is_our_conversion(his, digit):
    """Row → PIL `L` → `convert('RGB')` → numpy → `PILImage.create`, his fourth notebook, and `to_fastai`."""
    from fastai.vision.core import PILImage

    by_hand = PILImage.create(np.array(his_row(digit).convert("RGB")))

    assert np.array_equal(np.asarray(by_hand), np.asarray(to_fastai(digit)))
    assert torch.equal(his.predict(by_hand)[2], his.predict(to_fastai(digit))[2])


def test_a_file_and_its_row_are_one_picture_to_him(his, digit, tmp_path):
    """His two submissions had the same score, 0.99442: a PNG and its row give the same probabilities."""
    write_pngs(Digits(digit[None]), tmp_path)

    from_file, from_row = his.predict(Path(tmp_path / "0.png"))[2], his.predict(to_fastai(digit))[2]

    assert torch.equal(from_file, from_row)
