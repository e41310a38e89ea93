"""resnet18 as fastai's `vision_learner` makes and trains it, and the same network in plain torch.

fastai (and with it torchvision) is imported by `fit` alone. `ResNet18` is its own few lines, with parameters
named and ordered as fastai's model has them, so that trained weights move over one to one: `body` is
torchvision's resnet18 up to its last block (He et al., arXiv 1512.03385), `head` is fastai's `create_head`.

    32 × 32  the picture's centre of 24 × 24, enlarged
     8 × 8   7×7 convolution, stride 2, and 3×3 max pool, stride 2;  layer1, 4 convolutions   64 channels
     4 × 4   layer2, 4 convolutions                                                          128
     2 × 2   layer3, 4 convolutions                                                          256
     1 × 1   layer4, 4 convolutions                                                          512

Made for pictures 7 × as wide, it ends on 1 × 1 pixel here, where eight of a 3×3 kernel's nine taps meet
nothing but padding; `TinyConv` leaves them out while training. The origin's own recipe is in `origin.py`;
what was tried for this one is in tests/bench/LOG.md.
"""

from __future__ import annotations

import math
import pickle
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from mnist_core.errors import ModelError
from mnist_core.models.convnet import CROP, INK_SCALE, SIDE, random_maps

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Of red, green and blue in [0, 1]: what fastai's `imagenet_stats` and torchvision's weights go by."""

TINY = 2
"""Sides of pictures up to which a convolution trains faster as a `TinyConv`."""

MEASURED = 5_000
"""Training digits, drawn at random, over which batch normalisation is measured at the end."""


@dataclass(frozen=True)
class Recipe:
    """How a ResNet18 is trained: fastai's one cycle of AdamW over randomly turned, scaled, sheared and
    shifted digits, the same as the convnet's.
    """

    epochs: int
    peak_lr: float = 1e-2
    batch: int = 128
    weight_decay: float = 0.02
    smoothing: float = 0.05
    side: int = 32
    """Of the pictures that the network reads, pixels: the digit's 24 × 24, enlarged."""
    pretrained: bool = False
    """Start from torchvision's ImageNet weights, fetched once into torch's hub folder, and `fine_tune`: an
    epoch for the head alone, then `epochs` for all of it."""
    fine_tune_lr: float = 2e-3
    """What `fine_tune` takes instead of `peak_lr`: fastai's default."""


PRESETS = {
    "fast": Recipe(epochs=6),
    "balanced": Recipe(epochs=12),
    "best": Recipe(epochs=24),
}


class ResNet18(nn.Module):
    """Digits in, logits out.

    Args:
        crop: the side of the picture's centre that the network reads, in pixels.
        side: what that is enlarged to, in pixels; as it is without it.
    """

    name = "resnet18"
    mean: Tensor
    std: Tensor

    def __init__(self, crop: int = SIDE, side: int | None = None) -> None:
        super().__init__()
        side = crop if side is None else side
        if not 1 <= crop <= SIDE or not 1 <= side <= 8 * SIDE:
            raise ValueError(f"crop {crop} is not within 1..{SIDE}, or side {side} not within 1..{8 * SIDE}")
        self.sizes: dict[str, Any] = {"crop": crop, "side": side}
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
        """Turn pixels uint8 (N, 28, 28) into what `body` takes: float32 (N, 3, side, side), normalised."""
        crop, side = self.sizes["crop"], self.sizes["side"]
        edge = (SIDE - crop) // 2
        if side == crop:
            ink = pixels[:, None, edge : edge + crop, edge : edge + crop].float() / 255
        else:
            still = torch.eye(2, 3, device=pixels.device) * crop / SIDE
            ink = draw(pixels, still.expand(pixels.shape[0], 2, 3), side)
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
    """Make an untrained ResNet18 of the `sizes` that another one carries; `{}` reads the whole picture."""
    return ResNet18(**sizes)


def draw(pixels: Tensor, maps: Tensor, side: int) -> Tensor:
    """Draw digits uint8 (N, 28, 28) through affine maps (N, 2, 3) to ink in [0, 1], (N, 1, side, side)."""
    grid = F.affine_grid(maps, [pixels.shape[0], 1, side, side], align_corners=False)
    return F.grid_sample(pixels[:, None].float() / 255, grid, align_corners=False)


class TinyConv(nn.Module):
    """A convolution of tiny pictures as one matrix product: the same function, trained in less time.

    It has the kernel's taps that meet a pixel at all, and no others: on a 1 × 1 picture one of nine. The
    others would get a gradient of zero; here they are neither multiplied, nor decayed, nor do they move.

    Args:
        convolution: square, without bias; it is not changed before `fill`.
        side: of the pictures that come in, pixels.
    """

    places: Tensor

    def __init__(self, convolution: nn.Conv2d, side: int) -> None:
        super().__init__()
        kernel, stride, padding = (
            convolution.kernel_size[0],
            convolution.stride[0],
            int(convolution.padding[0]),
        )
        self.side = (side + 2 * padding - kernel) // stride + 1
        tap, source, target = torch.arange(kernel), torch.arange(side), torch.arange(self.side)
        line = (tap[:, None, None] - padding + target * stride == source[:, None]).float()
        places = torch.einsum("yac,xbd->yxabcd", line, line).reshape(kernel**2, side**2, self.side**2)
        self.seen = places.any(2).any(1)
        self.register_buffer("places", places[self.seen], persistent=False)
        """[tap, pixel in, pixel out]: 1 where the tap leads from the one to the other, else 0."""
        self.weight = nn.Parameter(convolution.weight.detach().flatten(2).permute(2, 1, 0)[self.seen])
        """[tap, channel in, channel out]."""

    def forward(self, x: Tensor) -> Tensor:
        """Turn (N, C, H, W) into what the convolution makes of it."""
        taps, inputs, outputs = self.weight.shape
        _, pixels_in, pixels_out = self.places.shape
        matrix = self.weight[0]
        if taps > 1:
            matrix = self.places.flatten(1).T @ self.weight.flatten(1)
            matrix = matrix.view(pixels_in, pixels_out, inputs, outputs).transpose(1, 2)
            matrix = matrix.reshape(pixels_in * inputs, pixels_out * outputs)
        rows = x.permute(0, 2, 3, 1).reshape(len(x), -1)  # no copy of what is channels_last
        return (rows @ matrix).view(len(x), self.side, self.side, outputs).permute(0, 3, 1, 2)

    @torch.no_grad()
    def fill(self, weight: Tensor) -> Tensor:
        """Give the kernel (O, I, K, K) with the taps trained here; the others are those of `weight`."""
        filled = weight.flatten(2).clone()
        filled[:, :, self.seen] = self.weight.permute(2, 1, 0)
        return filled.view_as(weight)


def shrink(body: nn.Sequential, side: int) -> dict[str, TinyConv]:
    """Put a TinyConv for each 3×3 convolution of a resnet18's `body` that meets pictures of `TINY` or less.

    Args:
        body: is changed.
        side: of the pictures that come in, pixels.

    Returns:
        They, by name.
    """
    side = math.ceil(side / 4)  # after the first convolution and the pool
    tiny = {}
    for layer in range(4, 8):
        blocks: Any = body[layer]
        for number, block in enumerate(blocks):
            for name in ("conv1", "conv2"):
                convolution = getattr(block, name)
                if side <= TINY:
                    tiny[f"{layer}.{number}.{name}"] = TinyConv(convolution, side)
                    setattr(block, name, tiny[f"{layer}.{number}.{name}"])
                side = math.ceil(side / convolution.stride[0])
    return tiny


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
        seed: decides the first weights, the order of the digits, their augmentation and dropout; the same
            seed gives the same weights bit for bit on a CPU with the same number of threads. Global random
            states stay as they were.
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
    with seeded(seed, device):
        return _fit(pixels, labels, recipe, device, progress)


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
    device: torch.device,
    progress: Callable[[int, int, str], None] | None,
) -> ResNet18:
    """Train under the global random states as they are."""
    from fastai.callback.schedule import Learner  # this import adds fit_one_cycle and fine_tune to Learner
    from fastai.data.core import DataLoaders
    from fastai.data.load import DataLoader
    from fastai.losses import CrossEntropyLossFlat
    from fastai.optimizer import OptimWrapper
    from fastai.vision.learner import vision_learner
    from torchvision.models import resnet18

    net = ResNet18(CROP, recipe.side).to(device).to(memory_format=torch.channels_last)
    if not recipe.pretrained:
        # Background is 0, as padding is, and the three channels are one: the first convolution trains on one.
        net.mean.zero_()
        net.std.fill_(1 / (255 * INK_SCALE))
    channels = 3 if recipe.pretrained else 1
    data, targets = torch.from_numpy(pixels).to(device), torch.from_numpy(labels).to(device)
    batch = min(recipe.batch, len(data))
    per_epoch = len(data) // batch

    def shuffled() -> list[Tensor]:
        return list(torch.randperm(len(data))[: per_epoch * batch].to(device).split(batch))

    def cut(rows: Tensor) -> tuple[Tensor, Tensor]:
        maps = random_maps(len(rows), torch.default_generator).to(device)
        ink = draw(data[rows], maps, recipe.side)
        return (ink - net.mean[:channels]) / net.std[:channels], targets[rows]

    loader = DataLoader(n=per_epoch, bs=None, indexed=True, get_idxs=shuffled, create_item=cut, device=device)
    learner: Learner = vision_learner(
        DataLoaders(loader, loader, device=device),
        resnet18,
        n_in=channels,
        n_out=10,
        pretrained=recipe.pretrained,
        normalize=False,  # `cut` has done it
        loss_func=CrossEntropyLossFlat(label_smoothing=recipe.smoothing),
        # fastai's Adam is the same in Python, a pass over all weights for each of its steps.
        opt_func=partial(
            OptimWrapper, opt=torch.optim.AdamW, betas=(0.95, 0.99), eps=1e-5,
            weight_decay=recipe.weight_decay, fused=True,
        ),
    )  # fmt: skip
    whole = {name: tensor.clone() for name, tensor in learner.model[0].state_dict().items()}
    tiny = shrink(learner.model[0], recipe.side)
    learner.model = learner.model.to(device, memory_format=torch.channels_last)
    learner.opt = None  # made anew for the weights that are there now
    if device.type == "cuda":
        learner.to_bf16()
    epochs = recipe.epochs + recipe.pretrained  # fine_tune adds one for the head alone
    watch = make_watch(per_epoch, epochs, progress, validate=False)
    with learner.no_bar(), learner.no_logging():
        if recipe.pretrained:
            learner.fine_tune(recipe.epochs, recipe.fine_tune_lr, cbs=watch)
        else:
            learner.fit_one_cycle(recipe.epochs, recipe.peak_lr, cbs=watch)
    if watch.failure:
        raise ModelError(
            f"resnet18: {watch.failure}; try another seed, or a lower peak_lr than {recipe.peak_lr:g} in the "
            f"recipe (models/resnet.py)"
        )

    body, head = learner.model
    state = body.state_dict()
    for name, convolution in tiny.items():
        state[f"{name}.weight"] = convolution.fill(whole[f"{name}.weight"].to(device))
    if not recipe.pretrained:
        state["0.weight"] = state["0.weight"].expand(-1, 3, -1, -1) / 3
    net.body.load_state_dict(state)
    net.head.load_state_dict(head.state_dict())
    measure_batch_norm(net, data[torch.randperm(len(data), device=device)[:MEASURED]])
    return net.eval()


def measure_batch_norm(net: ResNet18, pixels: Tensor, batch: int = 500) -> None:
    """Set the statistics of all batch normalisations to their means over pixels uint8 (N, 28, 28).

    Those of the training are of moved digits and of weights that were still learning.
    """
    parts = pixels.tensor_split(math.ceil(len(pixels) / batch))  # of equal length, as each counts the same
    with torch.no_grad():
        update_bn(parts, net)


def make_watch(
    per_epoch: int, epochs: int, progress: Callable[[int, int, str], None] | None, *, validate: bool
) -> Any:
    """Make the fastai callback that reports each batch and stops at a loss that is not finite.

    Args:
        per_epoch: batches in an epoch.
        epochs: in all.
        progress: as `fit` takes it.
        validate: whether epochs end with their validation.

    Returns:
        The callback; afterwards `failure` says what went wrong, or is empty.
    """
    from fastai.callback.core import Callback, CancelFitException, CancelValidException

    class Watch(Callback):
        done = 0
        failure = ""

        def after_batch(self) -> None:
            if not self.training:
                return
            self.done += 1
            loss = self.learn.loss.item()
            epoch = math.ceil(self.done / per_epoch)
            if not math.isfinite(loss):
                # A callback's own exceptions are reworded by fastai; its Cancel… ones end the training
                # quietly.
                self.failure = self.failure or f"the loss is {loss} in epoch {epoch} of {epochs}"
                raise CancelFitException
            if progress is not None:
                progress(self.done, per_epoch * epochs, f"epoch {epoch}/{epochs}  loss {loss:.2f}")

        def before_validate(self) -> None:
            if not validate:
                raise CancelValidException

    return Watch()


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
