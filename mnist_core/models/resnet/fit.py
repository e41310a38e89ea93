"""The training, by fastai. What was tried for this recipe is in tests/bench/LOG.md."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mnist_core.errors import DivergedError, ModelError
from mnist_core.models.augment import INK_SCALE, draw, fills_its_frame, frame_of, random_maps, scaled, to_ink
from mnist_core.models.network import lengthened, measure_batch_norm, shape_of
from mnist_core.models.resnet import Recipe
from mnist_core.models.resnet._tiny import shrink
from mnist_core.models.resnet.net import ResNet18
from mnist_core.models.resnet.pretrained import check_pretrained
from mnist_core.models.resnet.watch import make_watch
from mnist_core.progress import Progress
from mnist_core.spec import DIGIT_RECOGNIZER

if TYPE_CHECKING:
    from fastai.learner import Learner

MEASURED = 5_000
"""Training digits, drawn at random, over which batch normalisation is measured at the end."""


def fit(
    pixels: np.ndarray,
    labels: np.ndarray,
    recipe: Recipe,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
    classes: int = DIGIT_RECOGNIZER.class_count,
) -> ResNet18:
    """Train a resnet18 with fastai, `fit_one_cycle` from scratch or `fine_tune` from ImageNet's weights.

    Args:
        pixels: uint8 (N, 28, 28), N > 1; all are trained on. A last batch that is not full is left out; which
            digits it holds changes with each epoch.
        labels: int64 (N,), each 0..9.
        recipe: one of `PRESETS`, or another.
        seed: decides the first weights, the order of the digits, their augmentation and dropout; the same
            seed gives the same weights bit for bit on a CPU with the same number of threads. Global random
            states stay as they were.
        device: where to train, and where the result lies.
        progress: called after every batch with batches done, batches in all, and e.g. "epoch 1/2  loss 0.31".
        classes: number of classes.

    Raises:
        ModelError: there are fewer than two digits; the loss is no longer finite; the pretrained weights
            cannot be fetched or opened.
    """
    device = torch.device(device)
    if len(pixels) < 2:
        raise ModelError(
            f"resnet18 cannot be trained on {len(pixels)} digit", "its batch normalisation needs 2 or more"
        )
    if recipe.pretrained:
        check_pretrained()
    with seeded(seed, device):
        return _fit(pixels, labels, lengthened(recipe, len(pixels)), classes, device, progress)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Draw from `seed` inside, and leave torch's and Python's global random states as they were."""
    python_random = random.getstate()  # fastai's DataLoader draws its seed from it
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            random.seed(seed)
            yield
    finally:
        random.setstate(python_random)


def _fit(
    pixels: np.ndarray,
    labels: np.ndarray,
    recipe: Recipe,
    classes: int,
    device: torch.device,
    progress: Progress | None,
) -> ResNet18:
    """Train with the global random generators as they are."""
    shape = shape_of(pixels)
    frame = frame_of(shape[:2], whole=fills_its_frame(pixels))
    sides = max(recipe.side, frame.crop[0]), max(recipe.side, frame.crop[1])
    net = ResNet18(frame.crop, sides, shape, classes).to(device).to(memory_format=torch.channels_last)
    if not recipe.pretrained:
        # Background is 0, as padding is, and the three channels are one: the first convolution trains on one.
        net.mean.zero_()
        net.std.fill_(1 / (255 * INK_SCALE))
    batches = _Batches(pixels, labels, net, recipe, device)
    learner = _make_learner(batches, recipe, device)
    full_kernels = {name: tensor.clone() for name, tensor in learner.model[0].state_dict().items()}
    tiny = shrink(learner.model[0], sides[0]) if sides[0] == sides[1] else {}
    learner.model = learner.model.to(device, memory_format=torch.channels_last)
    learner.opt = None  # fastai makes one for the weights that are there now
    if device.type == "cuda":
        learner.to_bf16()

    epochs = recipe.epochs + recipe.pretrained  # fine_tune adds one for the head alone
    watch = make_watch(batches.count, epochs, progress, validate=False)
    with learner.no_bar(), learner.no_logging():
        if recipe.pretrained:
            learner.fine_tune(recipe.epochs, recipe.fine_tune_lr, cbs=watch)
        else:
            learner.fit_one_cycle(recipe.epochs, recipe.lr, cbs=watch)
    if watch.failure:
        raise DivergedError(
            f"resnet18: {watch.failure}", f"try another seed, or a recipe with a lower lr than {recipe.lr:g}"
        )

    body, head = learner.model
    state = body.state_dict()
    for name, convolution in tiny.items():
        state[f"{name}.weight"] = convolution.fill(full_kernels[f"{name}.weight"].to(device))
    if batches.channels == 1:
        state["0.weight"] = state["0.weight"].expand(-1, 3, -1, -1) / 3
    net.body.load_state_dict(state)
    net.head.load_state_dict(head.state_dict())
    order = torch.randperm(len(pixels), device=device)
    measure_batch_norm(net, batches.pixels[order[:MEASURED]], batch_size=500)
    return net.eval()


class _Batches:
    """The training digits in random batches, augmented and normalised; cut as a whole, not digit by digit."""

    def __init__(
        self, pixels: np.ndarray, labels: np.ndarray, net: ResNet18, recipe: Recipe, device: torch.device
    ) -> None:
        self.classes, self.mirror = net.class_count, recipe.mirror
        self.frame = replace(frame_of(net.shape[:2], whole=net.crop == net.shape[:2]), read=net.side)
        self.pixels, self.labels = torch.from_numpy(pixels).to(device), torch.from_numpy(labels).to(device)
        self.batch_size = min(recipe.batch_size, len(pixels))
        self.count = len(pixels) // self.batch_size
        self.channels = 3 if recipe.pretrained else net.shape[2]
        self.mean, self.std = net.mean[: self.channels], net.std[: self.channels]
        self.augmentation = scaled(recipe.augmentation, recipe.amount)

    def shuffle(self) -> list[Tensor]:
        """Return the rows of each batch of an epoch."""
        rows = torch.randperm(len(self.pixels))[: self.count * self.batch_size]
        return list(rows.to(self.pixels.device).split(self.batch_size))

    def cut(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return pictures float32 (N, channels, side, side) and labels."""
        random = torch.default_generator
        maps = random_maps(len(rows), random, self.augmentation, self.frame, mirror=self.mirror)
        ink = to_ink(self.pixels[rows]) / 255
        ink = draw(ink, maps.to(rows.device), self.frame.read, self.frame.padding)
        return (ink - self.mean) / self.std, self.labels[rows]


def _make_learner(batches: _Batches, recipe: Recipe, device: torch.device) -> Learner:
    import fastai.callback.schedule  # noqa: F401, as it adds fit_one_cycle and fine_tune to Learner
    from fastai.data.core import DataLoaders
    from fastai.data.load import DataLoader
    from fastai.losses import CrossEntropyLossFlat
    from fastai.optimizer import OptimWrapper
    from fastai.vision.learner import vision_learner
    from torchvision.models import resnet18

    loader = DataLoader(
        n=batches.count,
        bs=None,
        indexed=True,
        get_idxs=lambda: batches.shuffle(),  # fastai would bind a method of ours to its own loader
        create_item=lambda rows: batches.cut(rows),
        device=device,
    )
    learner: Learner = vision_learner(
        DataLoaders(loader, loader, device=device),
        resnet18,
        n_in=batches.channels,
        n_out=batches.classes,
        pretrained=recipe.pretrained,
        normalize=False,  # `_Batches` does it
        loss_func=CrossEntropyLossFlat(label_smoothing=recipe.label_smoothing),
        # fastai's Adam is the same in Python, a pass over all weights for each of its steps.
        opt_func=partial(
            OptimWrapper, opt=torch.optim.AdamW, betas=(0.95, 0.99), eps=1e-5,
            weight_decay=recipe.weight_decay, fused=True,
        ),
    )  # fmt: skip
    return learner
