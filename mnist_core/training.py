"""Train a model on the rows that it may see."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from mnist_core.cores import limit_torch
from mnist_core.digits import Digits
from mnist_core.errors import ModelError
from mnist_core.models.base import Adapted, ModelKind, Recipe, find, kinds
from mnist_core.models.network import Network
from mnist_core.progress import Progress
from mnist_core.recipes import Values, apply
from mnist_core.spec import DIGIT_RECOGNIZER, CompetitionSpec


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
    teacher: Network | None = None,
    member: int | None = None,
    values: Values | None = None,
    progress: Progress | None = None,
) -> Network:
    """Train a network of a model by a preset. An exception of `progress`, or ^C, ends it between two batches.

    Args:
        digits: with labels.
        model: a name in `models.base.kinds()`.
        preset: a name in its presets: `fast`, `balanced`, `best`; of a convnet also `wide`, of scratch also
            `linear`.
        rows: the digits it may see, as indices int (M,) or a mask bool (N,) (default: all).
        seed: decides everything that is drawn. On one CPU with the same number of threads, the same seed
            gives the same weights bit for bit.
        device: `auto` (a CUDA device if there is one), `cpu` or `cuda`.
        epochs: passes, instead of the preset's; a convnet's first one or two are over all rows, the others
            over the hardest.
        pretrained: start from pretrained weights and fine-tune them; only resnet18 has any, ImageNet's.
        teacher: a trained convnet, or ensemble of them: a convnet learns its probabilities instead of the
            labels. What it saw in training, the new network has seen too.
        member: of an ensemble, train this network alone, with `seed` as it is; they are numbered from 0,
            without end.
        values: fields of the recipe that differ from the preset's, within the bounds of the model's space.
        progress: called with batches done, batches in all, and a note such as "epoch 2/4  loss 0.31".

    Returns:
        The network, pixels uint8 (N, 28, 28) to logits float32 (N, 10), for use: on the CPU, in evaluation
        mode, float32, without gradients.

    Raises:
        ModelError: the model, preset, device or member does not exist; a value is not within its bounds;
            there are no labels, no rows, or not these rows; pretrained weights do not exist, or cannot be
            fetched or opened; the teacher cannot teach this model; training diverged.
    """
    limit_torch()
    kind, recipe = recipe_of(model, preset, epochs=epochs, member=member, values=values, spec=digits.spec)
    if pretrained:
        recipe = _pretrained(kind, recipe)
    teachers = [] if teacher is None else _teachers(teacher, kind)
    pixels, labels = _visible(digits, rows)
    net = kind.fit(
        pixels, labels, recipe, seed=seed, device=pick_device(device), progress=progress, teachers=teachers,
        classes=digits.spec.class_count,
    )  # fmt: skip
    net = net.to("cpu", torch.float32).to(memory_format=torch.contiguous_format)
    return net.eval().requires_grad_(False)


def recipe_of(
    model: str,
    preset: str = "fast",
    *,
    epochs: int | None = None,
    member: int | None = None,
    values: Values | None = None,
    spec: CompetitionSpec = DIGIT_RECOGNIZER,
) -> tuple[ModelKind, Recipe]:
    """Return the model and the recipe of the network that `fit` trains; the arguments are those of `fit`.

    Values count more than what the competition says of mirroring and the strength of augmentation.
    """
    kind = find(model)
    kind, recipe = kind.network(kind.recipe(preset, epochs), member)
    recipe = _adapted(recipe, spec, chosen=epochs is not None)
    return kind, apply(recipe, values or {}, kind.space_of(recipe), f"recipe of {kind.name} {preset}")


def _adapted(recipe: Recipe, spec: CompetitionSpec, *, chosen: bool) -> Recipe:
    """Return the recipe as the competition wants it; epochs that were `chosen` stay as they are."""
    if not isinstance(recipe, Adapted):
        return recipe
    least_rows = 0 if chosen else spec.least_rows
    return replace(recipe, mirror=spec.mirror, amount=spec.amount, least_rows=least_rows)


def _pretrained(kind: ModelKind, recipe: Recipe) -> Recipe:
    """Return the same recipe from pretrained weights."""
    if not kind.pretrained:
        able = ", ".join(other.name for other in kinds().values() if other.pretrained)
        raise ModelError(f"{kind.name} has no pretrained weights, only {able}", "train it from scratch")
    return replace(recipe, pretrained=True)


def _teachers(teacher: Network, kind: ModelKind) -> list[Network]:
    """Return the networks whose mean the new one is to learn: the teacher, or its members."""
    teachers: list[Network] = list(getattr(teacher, "members", [teacher]))
    if not kind.teachable or any(other.name != kind.name for other in teachers):
        able = ", ".join(other.name for other in kinds().values() if other.teachable)
        raise ModelError(
            f"{kind.name} cannot learn from {getattr(teacher, 'name', type(teacher).__name__)}",
            f"{able} can, from a network of its own kind or an ensemble of them",
        )
    return teachers


def _visible(digits: Digits, rows: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels and labels of the rows that may be seen, as arrays of their own."""
    if digits.labels is None:
        raise ModelError("these digits have no labels, so nothing can be learnt from them", "read train.csv")
    count = len(digits.pixels)
    rows = np.arange(count) if rows is None else np.asarray(rows)
    if rows.ndim != 1 or rows.dtype.kind not in "biu":
        raise ModelError(f"rows is {rows.dtype} {rows.shape}", "pass indices (M,) or a mask bool (N,)")
    try:
        pixels, labels = digits.pixels[rows], digits.labels[rows]
    except IndexError as error:
        raise ModelError(f"rows do not fit the {count} digits: {error}") from error
    if len(pixels) == 0:
        raise ModelError(f"rows selects none of the {count} digits", "a network needs some to train on")
    return pixels, labels


def pick_device(device: str) -> torch.device:
    """Return the device that `auto`, `cpu` or `cuda` means here; `auto` is CUDA if torch finds a device.

    Raises:
        ModelError: it is none of the three, or CUDA is asked for and not there.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ModelError(f"there is no device {device!r}", "choose one of auto, cpu, cuda")
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        built = torch.version.cuda is not None
        reason = "torch finds no CUDA device" if built else "this torch is built without CUDA"
        raise ModelError(f"device cuda: {reason} (torch {torch.__version__})", "use device cpu or auto")
    return torch.device("cuda" if device != "cpu" and available else "cpu")
