"""Two routes to the same prediction: from files, as in the third notebook, and in memory, as in the fourth.

Also the two type errors of these notebooks, and what the same calls do in the fastai that is installed.
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

ROWS = 3000
SAMPLE = np.arange(0, ROWS, 100)


@pytest.fixture(scope="module")
def trained(synthetic, tmp_path_factory):
    """Return a network that was trained briefly, so that its answers differ, and its Learner."""
    # Digits that can be learnt: noise, and ink whose position depends on the class.
    digits = synthetic(2000)
    pixels = digits.pixels // 2
    for label in range(10):
        pixels[digits.labels == label, 4 + 2 * label : 6 + 2 * label, 4:24] |= 128
    net = fit(Digits(pixels, digits.labels), "convnet", epochs=1, device="cpu")
    folder = tmp_path_factory.mktemp("routes") / "bundle"
    export(net, folder, {})
    return SimpleNamespace(net=load(folder)[0], learner=load_learner(folder))


@pytest.fixture(scope="module")
def files(synthetic, tmp_path_factory):
    """Return a folder with a test.csv and the PNGs made from it."""
    folder = tmp_path_factory.mktemp("files")
    write_csv(synthetic(ROWS, labelled=False), folder / "test.csv")
    write_pngs(read_test(folder / "test.csv"), folder / "test")
    return folder


@pytest.fixture(scope="module")
def in_memory(files):
    """Return the digits of test.csv."""
    return read_test(files / "test.csv").pixels


def test_files_and_memory_give_the_same_labels(trained, files, in_memory):
    """Neither the PNGs nor their order change a probability."""
    from_files = read_pngs(files / "test").pixels

    a, b = predict(trained.net, from_files), predict(trained.net, in_memory)

    assert np.array_equal(a, b)
    assert len(a) == ROWS
    assert len(set(a.argmax(1))) > 1  # the network distinguishes classes


def test_one_by_one_gives_the_same_labels(trained, files, in_memory):
    """The notebook's loop over `learn.predict`, from files and in memory, agrees with batches."""
    from_files = [int(trained.learner.predict(files / "test" / f"{i}.png")[0]) for i in SAMPLE]
    from_memory = [int(trained.learner.predict(to_fastai(in_memory[i]))[0]) for i in SAMPLE]

    ours = predict(trained.net, in_memory[SAMPLE]).argmax(1)
    assert from_files == from_memory == ours.tolist()


def test_get_preds_gives_the_same_labels(trained, files, in_memory):
    """fastai's own batches give what `predict` gives, within rounding."""
    pngs = [files / "test" / f"{i}.png" for i in range(500)]

    theirs, _ = trained.learner.get_preds(dl=trained.learner.dls.test_dl(pngs))

    ours = predict(trained.net, in_memory[:500])
    assert np.array_equal(theirs.numpy().argmax(1), ours.argmax(1))
    np.testing.assert_allclose(theirs.numpy(), ours, atol=1e-4)


def test_a_png_is_read_alone_as_in_its_folder(synthetic, tmp_path):
    """A PNG of a digit of MNIST is the same digit to the commands `predict` and `submission`."""
    disc = np.hypot(*(np.indices((28, 28)) - 13.5))
    digit = from_image(Image.fromarray(((disc < 10) & (disc > 6)).astype(np.uint8) * 255))
    write_pngs(Digits(digit[None]), tmp_path)

    assert np.array_equal(read_image(tmp_path / "0.png"), digit)
    assert np.array_equal(read_pngs(tmp_path).pixels[0], digit)


# The two type errors


@pytest.fixture(scope="module")
def original(synthetic, tmp_path_factory):
    """Return the notebooks' Learner: DataBlock over PNGs by label, RandomSplitter(0.2, seed=42), resnet18."""
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

    folder = tmp_path_factory.mktemp("original")
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
    """Return one digit, uint8 (28, 28)."""
    return synthetic(1, seed=9).pixels[0]


def row_to_image(digit):
    """Convert a row as the notebook does: `Image.frombytes('L', (28, 28), bytes(row))`."""
    return Image.frombytes("L", (28, 28), bytes(digit.ravel().tolist()))


@pytest.fixture
def as_in_2022(original, monkeypatch):
    """Return the notebooks' Learner with the item types that fastai accepted in November 2022 (2.7.10).

    `PILImage.create` had the annotation Path|str|Tensor|ndarray|bytes then, without a plain PIL image. It was
    added with github.com/fastai/fastai/issues/3880.
    """
    for part in (original.dls.train_ds, original.dls.valid_ds):
        for pipe in part.tls:
            types = [
                tuple(kind for kind in known if kind is not Image.Image)
                if isinstance(known, tuple)
                else known
                for known in pipe.types
            ]
            monkeypatch.setattr(pipe, "types", types)
    return original


def test_a_plain_pil_image_was_an_assertion_error(as_in_2022, digit):
    """learn.predict(PIL.Image) was an AssertionError about its type; `to_fastai` returns the right type."""
    with pytest.raises(AssertionError, match=r"(?s)Expected an input of type in.*but got <class 'PIL"):
        as_in_2022.predict(row_to_image(digit))

    label, _, probabilities = as_in_2022.predict(to_fastai(digit))

    assert label in "0123456789"
    assert probabilities.sum().item() == pytest.approx(1)


def test_a_plain_pil_image_of_mode_l_fails_in_the_network(original, digit):
    """fastai 2.8 accepts a plain PIL image unchanged: one channel, but the network has weights for three."""
    with pytest.raises(RuntimeError, match="to have 3 channels, but got 1 channels"):
        original.predict(row_to_image(digit))

    assert original.predict(to_fastai(digit))[0] in "0123456789"


def test_a_tensor_with_one_channel_is_a_type_error(original, digit):
    """Pillow makes no image of a tensor with one channel; `to_fastai` returns three."""
    from fastai.vision.core import PILImage, TensorImage

    one_channel = TensorImage(torch.from_numpy(digit)[None].float())
    with pytest.raises(TypeError, match=r"Cannot handle this data type: \(1, 1, 1\), \|u1"):
        PILImage.create(one_channel)
    with pytest.raises(TypeError, match=r"Cannot handle this data type: \(1, 1, 1\), \|u1"):
        original.predict(one_channel)

    assert np.array_equal(np.asarray(to_fastai(digit))[..., 0], digit)
    assert original.predict(to_fastai(digit))[0] in "0123456789"


def test_the_notebooks_own_solution_is_the_same_conversion(original, digit):
    """Row → PIL `L` → `convert('RGB')` → numpy → `PILImage.create`, equals `to_fastai`."""
    from fastai.vision.core import PILImage

    converted = PILImage.create(np.array(row_to_image(digit).convert("RGB")))

    assert np.array_equal(np.asarray(converted), np.asarray(to_fastai(digit)))
    assert torch.equal(original.predict(converted)[2], original.predict(to_fastai(digit))[2])


def test_a_file_and_its_row_give_the_same_probabilities(original, digit, tmp_path):
    """Both submissions of the notebooks scored 0.99442."""
    write_pngs(Digits(digit[None]), tmp_path)

    from_file, from_row = original.predict(Path(tmp_path / "0.png"))[2], original.predict(to_fastai(digit))[2]

    assert torch.equal(from_file, from_row)
