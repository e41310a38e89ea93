"""resnet18 as fastai's `vision_learner` makes and trains it, and the same network in plain torch.

fastai (and with it torchvision) is imported by `fit` alone. `ResNet18` is its own few lines, with parameters
named and ordered as fastai's model has them, so that trained weights move over one to one: `body` is
torchvision's resnet18 up to its last block (He et al., arXiv 1512.03385), `head` is fastai's `create_head`.
"""

from __future__ import annotations

import math
import pickle
import random
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mnist_core.errors import ModelError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Of red, green and blue in [0, 1]: what fastai's `imagenet_stats` and torchvision's weights go by."""


@dataclass(frozen=True)
class Recipe:
    """How a ResNet18 is trained; the rest are fastai's defaults (Adam, one cycle, weight decay 0.01)."""

    epochs: int
    peak_lr: float = 3e-3
    batch: int = 128
    pretrained: bool = False
    """Start from torchvision's ImageNet weights, fetched once into torch's hub folder, and `fine_tune`."""


PRESETS = {
    "fast": Recipe(epochs=2),
    "balanced": Recipe(epochs=5),
    "best": Recipe(epochs=10),
}


class ResNet18(nn.Module):
    """Digits in, logits out."""

    name = "resnet18"
    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[str, Any] = {}
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1))
        self.body = nn.Sequential(
            nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1),
            nn.Sequential(Block(64, 64), Block(64, 64)),
            nn.Sequential(Block(64, 128, stride=2), Block(128, 128)),
            nn.Sequential(Block(128, 256, stride=2), Block(256, 256)),
            nn.Sequential(Block(256, 512, stride=2), Block(512, 512)),
        )
        self.head = nn.Sequential(
            MaxAndMean(),
            nn.Flatten(),
            nn.BatchNorm1d(1024),
            nn.Dropout(0.25),
            nn.Linear(1024, 512, bias=False),
            nn.ReLU(inplace=True),
            nn.BatchNorm1d(512),
            nn.Dropout(0.5),
            nn.Linear(512, 10, bias=False),
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """Give the logits, float32 (N, 10), of pixels uint8 (N, 28, 28), 0 background, 255 full ink."""
        return self.head(self.body(self.pictures(pixels))).float()

    def pictures(self, pixels: Tensor) -> Tensor:
        """Turn pixels uint8 (N, 28, 28) into what `body` takes: float32 (N, 3, 28, 28), normalised."""
        ink = pixels[:, None].float() / 255
        return (ink - self.mean) / self.std


class Block(nn.Module):
    """torchvision's BasicBlock: two 3×3 convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (N, inputs, H, W), or halve H and W with stride 2."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + shortcut)


class MaxAndMean(nn.Module):
    """fastai's AdaptiveConcatPool2d: a channel's maximum, then its mean."""

    def forward(self, x: Tensor) -> Tensor:
        """Turn (N, C, H, W) into (N, 2 C, 1, 1)."""
        return torch.cat([x.amax((2, 3), keepdim=True), x.mean((2, 3), keepdim=True)], dim=1)


def build(sizes: dict[str, Any]) -> ResNet18:
    """Make an untrained ResNet18; `sizes` is empty, as there is only the one."""
    return ResNet18(**sizes)


def fit(
    pixels: np.ndarray,
    labels: np.ndarray,
    recipe: Recipe,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int, str], None] | None = None,
) -> ResNet18:
    """Train a resnet18 with fastai, `fit_one_cycle` from scratch or `fine_tune` from ImageNet's weights.

    Batches are cut from the array as a whole, not collected picture by picture.

    Args:
        pixels: uint8 (N, 28, 28), N > 1; all are trained on. A last batch that is not full is left out; which
            digits it holds changes with each epoch.
        labels: int64 (N,), each 0..9.
        recipe: one of `PRESETS`, or another.
        seed: decides the first weights, the order of the digits and dropout; the same seed gives the same
            weights bit for bit on a CPU with the same number of threads. Global random states stay as they
            were.
        device: where to train, and where the result lies.
        progress: called after every batch with batches done, batches in all, and e.g. "epoch 1/2  loss 0.31".

    Raises:
        ModelError: there are fewer than two digits; the loss is no longer finite; the pretrained weights can
            not be fetched or opened.
    """
    device = torch.device(device)
    if len(pixels) < 2:
        raise ModelError(
            f"resnet18: its batch normalisation needs 2 digits or more to train on, not {len(pixels)}"
        )
    if recipe.pretrained:
        check_pretrained()
    python_random = random.getstate()  # fastai's DataLoader draws its seed from it
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            random.seed(seed)
            return _fit(pixels, labels, recipe, device, progress)
    finally:
        random.setstate(python_random)


def _fit(
    pixels: np.ndarray,
    labels: np.ndarray,
    recipe: Recipe,
    device: torch.device,
    progress: Callable[[int, int, str], None] | None,
) -> ResNet18:
    """Train under the global random states as they are."""
    from fastai.callback.core import Callback, CancelFitException, CancelValidException
    from fastai.callback.schedule import Learner  # this import adds fit_one_cycle and fine_tune to Learner
    from fastai.data.core import DataLoaders
    from fastai.data.load import DataLoader
    from fastai.data.transforms import TensorCategory
    from fastai.losses import CrossEntropyLossFlat
    from fastai.vision.core import TensorImage
    from fastai.vision.learner import vision_learner
    from torchvision.models import resnet18

    net = ResNet18().to(device)
    data, targets = torch.from_numpy(pixels).to(device), torch.from_numpy(labels).to(device)
    batch = min(recipe.batch, len(data))
    per_epoch = len(data) // batch

    def shuffled() -> list[Tensor]:
        return list(torch.randperm(len(data))[: per_epoch * batch].to(device).split(batch))

    def cut(rows: Tensor) -> tuple[Tensor, Tensor]:
        return TensorImage(net.pictures(data[rows])), TensorCategory(targets[rows])

    class Watch(Callback):
        """Reports each batch, stops at a loss that is not finite, and leaves the (empty) validation out."""

        done = 0
        total = per_epoch * (recipe.epochs + recipe.pretrained)  # fine_tune adds an epoch for the head alone
        failure = ""

        def after_batch(self) -> None:
            self.done += 1
            loss = self.learn.loss.item()
            epoch, epochs = math.ceil(self.done / per_epoch), self.total // per_epoch
            if not math.isfinite(loss):
                # A callback's own exceptions are reworded by fastai; its Cancel… ones end the training
                # quietly.
                self.failure = f"the loss is {loss} in epoch {epoch} of {epochs}"
                raise CancelFitException
            if progress is not None:
                progress(self.done, self.total, f"epoch {epoch}/{epochs}  loss {loss:.2f}")

        def before_validate(self) -> None:
            raise CancelValidException

    loader = DataLoader(n=per_epoch, bs=None, indexed=True, get_idxs=shuffled, create_item=cut, device=device)
    learner: Learner = vision_learner(
        DataLoaders(loader, loader, device=device),
        resnet18,
        n_out=10,
        pretrained=recipe.pretrained,
        normalize=False,  # `pictures` has done it
        loss_func=CrossEntropyLossFlat(),
    )
    learner.model = learner.model.to(device, memory_format=torch.channels_last)
    if device.type == "cuda":
        learner.to_bf16()
    watch = Watch()
    with learner.no_bar(), learner.no_logging():
        if recipe.pretrained:
            learner.fine_tune(recipe.epochs, recipe.peak_lr, cbs=watch)
        else:
            learner.fit_one_cycle(recipe.epochs, recipe.peak_lr, cbs=watch)
    if watch.failure:
        raise ModelError(
            f"resnet18: {watch.failure}; try another seed, or a lower peak_lr than {recipe.peak_lr:g} in the "
            f"recipe (models/resnet.py)"
        )

    body, head = learner.model
    net.body.load_state_dict(body.state_dict())
    net.head.load_state_dict(head.state_dict())
    return net.eval()


def check_pretrained() -> Path:
    """Fetch torchvision's ImageNet weights of resnet18 (45 MB) where torch keeps such files, and open them.

    Returns:
        The file. It is there whole or not at all: torch fetches beside it, checks the digest, and renames.

    Raises:
        ModelError: they can not be fetched, or what lies there can not be opened; the message names the file.
    """
    from torchvision.models import ResNet18_Weights

    weights = ResNet18_Weights.DEFAULT
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    try:
        with redirect_stdout(sys.stderr):  # where torch says that it downloads; stdout is for results
            weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        remedy = "remove that file and try again" if file.exists() else f"put {weights.url} there by hand"
        raise ModelError(
            f"resnet18: the pretrained weights {file} can not be had ({error}); {remedy}, or train from "
            f"scratch (pretrained=False)"
        ) from error
    return file
