"""The recipe that this project comes from, as the first of the six original notebooks runs it.

    dls = DataBlock(
        blocks=(ImageBlock, CategoryBlock), get_items=get_image_files,
        splitter=RandomSplitter(0.2, seed=42), get_y=parent_label,
    ).dataloaders(folder_of_pngs_by_label, bs=32)
    learn = vision_learner(dls, resnet18, metrics=error_rate)
    learn.fine_tune(3)

The notebook starts from ImageNet's weights, which is what `fine_tune` is for: an epoch for the head alone,
then three for all layers, the first ones at a hundredth of the head's learning rate. From scratch, the
default here, the same calls do what they do: the first epoch trains the head on the features of a random
body, frozen except for its batch normalisation, and the first layers learn slowly throughout. Our own recipe
is in `fit.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image

from mnist_core.errors import DataError, DivergedError, ModelError
from mnist_core.models.resnet.fit import seeded
from mnist_core.models.resnet.net import IMAGENET_MEAN, IMAGENET_STD, ResNet18
from mnist_core.models.resnet.pretrained import check_pretrained
from mnist_core.models.resnet.watch import make_watch
from mnist_core.picture_files import FORMATS
from mnist_core.progress import Progress
from mnist_core.spec import DIGIT_RECOGNIZER

CLASSES = list(DIGIT_RECOGNIZER.classes)
BATCH_SIZE = 32


class Origin(NamedTuple):
    """A network trained by the original recipe, and how good it is."""

    net: ResNet18
    """On the CPU, in evaluation mode, float32, without gradients: as `training.fit` returns one."""
    valid_accuracy: float
    """On the files that the recipe's own split holds out."""
    valid_files: list[str]
    """These files, relative to the folder, with / between. They are not a fold of the nightly job."""


def fit_origin(
    folder: Path,
    *,
    pretrained: bool = False,
    seed: int = 0,
    epochs: int = 3,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> Origin:
    """Train a resnet18 on a folder of PNGs, exactly as the original notebook did.

    It keeps its own split: `RandomSplitter(0.2, seed=42)` over the files in order of their paths, whatever
    the seed. (fastai takes files in the file system's order, so its split differs from machine to machine.)

    `python -m mnist_core train FOLDER BUNDLE --model resnet18 --preset origin` is this (fit_origin is in
    mnist_core.models.resnet.origin, pick_device and export in mnist_core):

        net, accuracy, files = fit_origin(
            FOLDER, pretrained=pretrained, seed=seed, device=pick_device(device), progress=progress
        )
        facts = {"preset": "origin", "pretrained": pretrained, "seed": seed, "epochs": 3}
        export(net, BUNDLE, facts | {"valid_accuracy": accuracy, "valid_rows": len(files)})

    Args:
        folder: `<label>/<any name>.png`, ten folders 0 to 9, also deeper down; pictures of 28 × 28, white on
            black. Of fastai's mnist_png that is `mnist_png/training`.
        pretrained: start from torchvision's ImageNet weights, as the notebook did.
        seed: decides the first weights, the order of the files and dropout; the same seed gives the same
            weights bit for bit on a CPU with the same number of threads. Global random states stay as they
            were.
        epochs: of `fine_tune`, after the one for the head alone.
        device: where to train.
        progress: called after every batch with batches done, batches in all, and e.g. "epoch 1/4  loss 0.31".

    Raises:
        DataError: the folder is not there, has other classes than 0 to 9, or pictures of another size.
        ModelError: there are too few files for a batch; the loss is no longer finite; the pretrained weights
            cannot be fetched or opened.
    """
    from fastai.data.transforms import get_image_files

    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder")
    files = sorted(get_image_files(folder))
    found = sorted({file.parent.name for file in files})
    if found != CLASSES:
        raise DataError(
            f"{folder}: the pictures lie in folders named {', '.join(found[:12]) or 'nothing'}",
            f"expected PNGs in {len(CLASSES)} folders named {', '.join(CLASSES)}",
        )
    if len(files) * 4 < BATCH_SIZE * 5:
        raise ModelError(
            f"{folder}: {len(files)} files are too few",
            f"four fifths of them must fill a batch of {BATCH_SIZE}",
        )
    for file in files:
        _check_picture(file)
    if pretrained:
        check_pretrained()
    device = torch.device(device)
    with seeded(seed, device):
        return _fit_origin(folder, files, pretrained, seed, epochs, device, progress)


def _check_picture(file: Path) -> None:
    """Raise a DataError if a file is not a picture of 28 × 28; only its header is read."""
    try:
        with Image.open(file, formats=FORMATS) as picture:
            width, height = picture.size
    except OSError as error:
        raise DataError(f"{file}: is not a picture ({error})") from error
    rows, columns = DIGIT_RECOGNIZER.picture_shape
    if (width, height) != (columns, rows):
        raise DataError(
            f"{file}: the picture has {width} × {height} pixels", f"resize it to {columns} × {rows}"
        )


def _fit_origin(
    folder: Path,
    files: list[Path],
    pretrained: bool,
    seed: int,
    epochs: int,
    device: torch.device,
    progress: Progress | None,
) -> Origin:
    """Train with the global random generators as they are."""
    from fastai.callback.schedule import Learner  # this import adds fine_tune to Learner
    from fastai.data.block import CategoryBlock, DataBlock
    from fastai.data.transforms import RandomSplitter, parent_label
    from fastai.metrics import error_rate
    from fastai.vision.data import ImageBlock
    from fastai.vision.learner import vision_learner
    from torchvision.models import resnet18

    dls = DataBlock(
        blocks=(ImageBlock, CategoryBlock),
        get_items=lambda _: files,
        splitter=RandomSplitter(0.2, seed=42),
        get_y=parent_label,
    ).dataloaders(folder, bs=BATCH_SIZE, num_workers=0, device=device)
    if list(dls.vocab) != CLASSES:
        raise DataError(
            f"{folder}: a digit has so few files that the split leaves none to train on", "add more of them"
        )
    torch.manual_seed(seed)  # RandomSplitter has seeded with its 42
    learner: Learner = vision_learner(dls, resnet18, metrics=error_rate, pretrained=pretrained)
    watch = make_watch(len(dls.train), epochs + 1, progress, validate=True)
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(epochs, cbs=watch)
    if watch.failure:
        raise DivergedError(f"resnet18: {watch.failure} of the original recipe", "try another seed")

    net = ResNet18()
    # fastai normalises by ImageNet's numbers if the weights are ImageNet's, and not at all from scratch.
    mean, std = (IMAGENET_MEAN, IMAGENET_STD) if pretrained else ((0.0,) * 3, (1.0,) * 3)
    net.mean.copy_(torch.tensor(mean).view(3, 1, 1))
    net.std.copy_(torch.tensor(std).view(3, 1, 1))
    body, head = learner.model
    net.body.load_state_dict(body.state_dict())
    net.head.load_state_dict(head.state_dict())
    valid = [file.relative_to(folder).as_posix() for file in dls.valid.items]
    right = round((1 - learner.recorder.values[-1][-1]) * len(valid))
    return Origin(net.eval().requires_grad_(False), right / len(valid), valid)
