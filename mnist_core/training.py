"""Train a model on the rows that it may see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from mnist_core import models
from mnist_core.digits import Digits
from mnist_core.errors import ModelError
from mnist_core.models import convnet, ensemble


def fit(
    digits: Digits,
    model: str = "convnet",
    preset: str = "fast",
    *,
    rows: np.ndarray | None = None,
    seed: int = 0,
    device: str = "auto",
    epochs: int | None = None,
    pretrained: bool = False,
    teacher: nn.Module | None = None,
    member: int | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> nn.Module:
    """Train a model for a preset. A batch is never stopped half way: an exception of `progress`, or ^C, ends
    it.

    Args:
        digits: with labels.
        model: a name in `models.MODELS`.
        preset: a name in its `PRESETS`: `fast`, `balanced`, `best`; of a convnet also `wide`.
        rows: the digits it may see, as indices int (M,) or a mask bool (N,); all without it.
        seed: decides everything that is drawn. On one CPU with the same number of threads, the same seed
            gives the same weights bit for bit.
        device: `auto` (a CUDA device where there is one), `cpu` or `cuda`.
        epochs: passes, instead of the preset's; a convnet's first one or two are over all rows, the others
            over the hardest.
        pretrained: start from torchvision's ImageNet weights and fine-tune them; resnet18 alone has any.
        teacher: a trained convnet, or ensemble of them: a convnet learns what it says instead of the labels
            (`convnet.fit`). What it saw in training, the new network has seen too.
        member: of an ensemble, train this one alone, a convnet, with `seed` as it is; they are numbered from
            0, without end.
        progress: called with batches done, batches in all, and a note such as "epoch 2/4  loss 0.31".

    Returns:
        The network, pixels uint8 (N, 28, 28) to logits float32 (N, 10), for use: on the CPU, in evaluation
        mode, float32, without gradients. `models.build` makes another of its kind from `net.name` and
        `net.sizes`.

    Raises:
        ModelError: the model, preset, device or member does not exist; there are no labels, no rows, or no
            such rows; pretrained weights do not exist, or can not be fetched or opened; the teacher is none,
            or the model takes none; training diverged.
    """
    module = models.find(model)
    if preset not in module.PRESETS:
        raise ModelError(f"{model} has no preset {preset!r}, only {', '.join(module.PRESETS)}")
    if epochs is not None and epochs < 1:
        raise ModelError(f"epochs is {epochs}; a network trains for 1 or more")
    recipe = module.PRESETS[preset] if epochs is None else replace(module.PRESETS[preset], epochs=epochs)
    if member is not None:
        if module is not ensemble:
            raise ModelError(f"member is {member}, but {model} has no members, only an ensemble")
        if member < 0:
            raise ModelError(f"member is {member}; they are numbered from 0")
        model, module, recipe = "convnet", convnet, ensemble.member(recipe, member)
    if pretrained:
        recipe = _pretrained(recipe, model)
    taught = {} if teacher is None else {"teachers": _teachers(teacher, model)}
    pixels, labels = _visible(digits, rows)
    net: nn.Module = module.fit(
        pixels, labels, recipe, seed=seed, device=pick_device(device), progress=progress, **taught
    )
    net = net.to("cpu", torch.float32).to(memory_format=torch.contiguous_format)
    return net.eval().requires_grad_(False)


def _pretrained(recipe: Any, model: str) -> Any:
    """Give the same recipe from pretrained weights."""
    if not hasattr(recipe, "pretrained"):
        able = [
            name for name, module in models.MODELS.items() if hasattr(module.PRESETS["fast"], "pretrained")
        ]
        raise ModelError(f"{model} has no pretrained weights, only {', '.join(able)}; train it from scratch")
    return replace(recipe, pretrained=True)


def _teachers(teacher: nn.Module, model: str) -> list[convnet.ConvNet]:
    """Give the networks whose mean a convnet is to learn."""
    members = teacher.members if isinstance(teacher, ensemble.Ensemble) else [teacher]
    convnets = [member for member in members if isinstance(member, convnet.ConvNet)]
    if model != "convnet" or len(convnets) < len(members):
        raise ModelError(
            f"a convnet can learn from a convnet or an ensemble of them, not {model} from "
            f"{getattr(teacher, 'name', type(teacher).__name__)}"
        )
    return convnets


def _visible(digits: Digits, rows: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Give the pixels and labels of the rows that may be seen, as arrays of their own."""
    if digits.labels is None:
        raise ModelError("these digits have no labels, so nothing can be learnt from them; read train.csv")
    rows = np.arange(len(digits.pixels)) if rows is None else np.asarray(rows)
    if rows.ndim != 1 or rows.dtype.kind not in "biu":
        raise ModelError(f"rows is {rows.dtype} {rows.shape}; it must be indices (M,) or a mask bool (N,)")
    try:
        pixels, labels = digits.pixels[rows], digits.labels[rows]
    except IndexError as error:
        raise ModelError(f"rows do not fit the {len(digits.pixels)} digits: {error}") from error
    if len(pixels) == 0:
        raise ModelError(f"no rows to train on, of {len(digits.pixels)} digits")
    return pixels, labels


def pick_device(device: str) -> torch.device:
    """Turn `auto`, `cpu` or `cuda` into the device to use; `auto` is CUDA where torch finds one.

    Raises:
        ModelError: it is none of the three, or CUDA is asked for and not there.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ModelError(f"there is no device {device!r}, only auto, cpu, cuda")
    there = torch.cuda.is_available()
    if device == "cuda" and not there:
        why = (
            "this torch is built without CUDA" if torch.version.cuda is None else "torch finds no CUDA device"
        )
        raise ModelError(f"device cuda: {why} (torch {torch.__version__}); use device cpu or auto")
    return torch.device("cuda" if device != "cpu" and there else "cpu")
