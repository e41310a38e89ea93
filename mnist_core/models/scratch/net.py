"""A digit recogniser in plain tensors, every step of its training written out: read it from top to bottom.

torch multiplies the matrices and finds the gradients (`backward`). Everything else is here: the first
weights, the model, the loss, the mini-batches, the step of gradient descent, the epochs that train and those
that validate. The ideas are those of chapter 4 of fastbook (Howard and Gugger, "Deep Learning for Coders with
fastai and PyTorch"); the code is our own.

    step 1   linear model   784 → 10                 preset linear
    step 2   net            784 → … → ReLU → … → 10  the other presets

No `nn.Module` and no optimizer of torch takes part in the training. `Scratch` comes after it: a thin module
that carries the trained tensors, so that they are exported, loaded and used like any other model.

A fastai `Learner` that trains over plain lists cannot export or predict; mnist_core/README.md explains why
under "The three mysteries".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mnist_core.cores import torch_threads
from mnist_core.errors import DivergedError
from mnist_core.models.network import Network, lengthened, picture_of, shape_of, sizes_of
from mnist_core.models.scratch import Recipe
from mnist_core.progress import Progress
from mnist_core.spec import DIGIT_RECOGNIZER

Layer = tuple[Tensor, Tensor]
"""Weights float32 (inputs, outputs) and bias float32 (outputs,)."""


# Step 1: a linear model. Ten weighted sums of the pixels, one for each digit; the largest wins.


def to_inputs(pixels: Tensor) -> Tensor:
    """Turn pixels uint8 (N, 28, 28) into inputs float32 (N, 784), 0 background, 1 full ink."""
    return pixels.flatten(1).float() / 255


def init_layer(inputs: int, outputs: int, random: torch.Generator) -> Layer:
    """Draw first weights, small and different; the bias starts at 0.

    With this spread the outputs of a layer and its ReLU are about as large as its inputs, so that a signal
    neither fades nor grows from layer to layer (He et al., arXiv 1502.01852).
    """
    weights = torch.randn(inputs, outputs, generator=random) * math.sqrt(2 / inputs)
    return weights, torch.zeros(outputs)


def linear(inputs: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
    """Return the weighted sums (N, outputs) of inputs (N, inputs): one matrix product for all N."""
    return inputs @ weights + bias


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean of -log of the probability of the true class: how surprised the model is by the labels.

    Args:
        logits: (N, 10), any numbers. Softmax makes them probabilities: e^logit, divided by the row's sum.
        labels: int64 (N,).
    """
    logits = logits - logits.detach().amax(1, keepdim=True)  # changes no probability; e^100 would overflow
    log_probabilities = logits - logits.exp().sum(1, keepdim=True).log()
    return -log_probabilities.gather(1, labels[:, None]).mean()


def step(params: Sequence[Tensor], velocity: Sequence[Tensor], lr: float, momentum: float) -> None:
    """Move each parameter against its gradient, and clear it: a step of stochastic gradient descent.

    A mini-batch's gradient is a noisy hint. With momentum a step follows the velocity, the sum of all
    gradients so far, each counting `momentum` times as much as the next: noise cancels out, a lasting
    direction adds up.
    """
    with torch.no_grad():
        for param, v in zip(params, velocity, strict=True):
            assert param.grad is not None
            v *= momentum
            v += param.grad
            param -= lr * v
            param.grad = None


def mini_batches(count: int, size: int, random: torch.Generator) -> tuple[Tensor, ...]:
    """Split the rows 0 to count - 1 into random mini-batches; the rest, which fills none, is left out."""
    return torch.randperm(count, generator=random)[: count // size * size].split(size)


# Step 2: a net. Linear layers with a ReLU between them: without it they would be one linear layer again.


def relu(inputs: Tensor) -> Tensor:
    """Replace negative numbers by 0."""
    return inputs.clamp_min(0)


def network(pixels: Tensor, layers: Sequence[Layer]) -> Tensor:
    """Return the outputs (N, …) of pixels uint8 (N, 28, 28); with one layer it is the linear model."""
    *hidden, last = layers
    inputs = to_inputs(pixels)
    for weights, bias in hidden:
        inputs = relu(linear(inputs, weights, bias))
    return linear(inputs, *last)


def init_layers(inputs: int, hidden: Sequence[int], outputs: int, random: torch.Generator) -> list[Layer]:
    """Draw the first weights of all layers: 784 → hidden → … → outputs."""
    return [init_layer(i, o, random) for i, o in pairwise([inputs, *hidden, outputs])]


def move(pixels: Tensor, most: int, random: torch.Generator) -> Tensor:
    """Move a mini-batch of digits by up to `most` pixels each way, all alike: a moved 3 is a 3 to learn too.

    What leaves the picture comes in at the other side; it is background, as digits keep away from the edge.
    """
    down, right = torch.randint(-most, most + 1, (2,), generator=random).tolist()
    return pixels.roll((down, right), dims=(1, 2))


def mirrored(pixels: Tensor, random: torch.Generator) -> Tensor:
    """Mirror a mini-batch of pictures, left for right, or not, as a coin says."""
    return pixels.flip(2) if torch.randint(2, (), generator=random) else pixels


def scaled_shift(recipe: Recipe, pixels: Tensor) -> int:
    """Return the pixels by which pictures may be moved, as far as digits are for their size."""
    return round(recipe.shift * recipe.amount * min(pixels.shape[1:3]) / min(DIGIT_RECOGNIZER.sides))


# Training, the same for both steps.


def train_epoch(
    layers: Sequence[Layer],
    velocity: Sequence[Tensor],
    pixels: Tensor,
    targets: Tensor,
    recipe: Recipe,
    lr: float,
    random: torch.Generator,
    loss_of: Callable[[Tensor, Tensor], Tensor] = cross_entropy,
) -> float:
    """Train on the digits once, a step for each mini-batch, and return the mean loss.

    Args:
        layers: with gradients; they are changed.
        velocity: a tensor for each of theirs; it is changed.
        pixels: uint8 (N, 28, 28).
        targets: (N,), what `loss_of` compares the outputs with.
    """
    params = [tensor for layer in layers for tensor in layer]
    batches = mini_batches(len(pixels), min(recipe.batch_size, len(pixels)), random)
    total, shift = torch.zeros((), device=pixels.device), scaled_shift(recipe, pixels)
    for rows in batches:
        batch = move(pixels[rows], shift, random)
        outputs = network(mirrored(batch, random) if recipe.mirror else batch, layers)
        loss = loss_of(outputs, targets[rows])
        loss.backward()  # leaves in each parameter's .grad how the loss changes with it
        step(params, velocity, lr, recipe.momentum)
        total += loss.detach()
    return total.item() / len(batches)


def most_likely(logits: Tensor) -> Tensor:
    """Return the labels int64 (N,) of logits (N, 10)."""
    return logits.argmax(1)


def validate_epoch(
    layers: Sequence[Layer],
    pixels: Tensor,
    labels: Tensor,
    labels_of: Callable[[Tensor], Tensor] = most_likely,
    batch_size: int = 1000,
) -> float:
    """Return the share of digits that is recognised; nothing is changed.

    Args:
        pixels: uint8 (N, 28, 28).
        labels: int64 (N,).
    """
    correct = 0
    with torch.no_grad():
        for x, y in zip(pixels.split(batch_size), labels.split(batch_size), strict=True):
            correct += int((labels_of(network(x, layers)) == y).sum())
    return correct / len(labels)


@dataclass(frozen=True)
class Objective:
    """What a net is to learn: how many outputs it has, what training minimises, which labels they mean."""

    outputs: int
    loss_of: Callable[[Tensor, Tensor], Tensor]
    """Of outputs and labels."""
    labels_of: Callable[[Tensor], Tensor]
    """Of outputs."""


def train(
    pixels: np.ndarray,
    labels: np.ndarray,
    recipe: Recipe,
    *,
    seed: int,
    device: torch.device | str,
    progress: Progress | None,
    valid: tuple[np.ndarray, np.ndarray] | None,
    objective: Objective,
) -> list[Layer]:
    """Draw the first weights and train them for the epochs of a recipe; the arguments are those of `fit`.

    Raises:
        DivergedError: the loss is no longer finite.
    """
    recipe = lengthened(recipe, len(pixels))
    random = torch.Generator().manual_seed(seed)
    layers = [
        (weights.to(device).requires_grad_(), bias.to(device).requires_grad_())
        for weights, bias in init_layers(pixels[0].size, recipe.hidden, objective.outputs, random)
    ]
    velocity = [torch.zeros_like(tensor) for layer in layers for tensor in layer]
    x, y = _tensors(pixels, labels, device)
    per_epoch = len(x) // min(recipe.batch_size, len(x))
    for epoch in range(1, recipe.epochs + 1):
        # Large steps first, to get far; small ones last, to settle.
        lr = recipe.lr * ((recipe.epochs - epoch + 1) / recipe.epochs if recipe.falling else 1)
        with torch_threads(1):  # its products are so small that two mostly wait for each other
            loss = train_epoch(layers, velocity, x, y, recipe, lr, random, objective.loss_of)
        if not math.isfinite(loss):
            raise DivergedError(
                f"scratch: the loss is {loss} in epoch {epoch} of {recipe.epochs}",
                f"try another seed, or a recipe with a lower lr than {recipe.lr:g}",
            )
        note = f"epoch {epoch}/{recipe.epochs}  loss {loss:.2f}"
        if valid is not None:
            valid_x, valid_y = _tensors(*valid, device)
            note += f"  valid {validate_epoch(layers, valid_x, valid_y, objective.labels_of):.4f}"
        if progress is not None:
            progress(epoch * per_epoch, recipe.epochs * per_epoch, note)
    return layers


def _tensors(pixels: np.ndarray, labels: np.ndarray, device: torch.device | str) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(pixels).to(device), torch.from_numpy(labels).to(device)


# After the training: the tensors as a model like any other.


class Scratch(Network):
    """Digits in, logits out: the trained tensors, and `network` as before.

    Args:
        layers: from the first to the last; they are copied.
        shape: rows, columns and channels of the pictures.
        classes: number of classes.
    """

    name = "scratch"

    def __init__(
        self,
        layers: Sequence[Layer],
        shape: tuple[int, int, int] = DIGIT_RECOGNIZER.shape,
        classes: int = DIGIT_RECOGNIZER.class_count,
    ) -> None:
        super().__init__()
        self.sizes = {"hidden": [len(bias) for _, bias in layers[:-1]]} | sizes_of(shape, classes)
        self.weights = nn.ParameterList(weights.detach().clone() for weights, _ in layers)
        self.biases = nn.ParameterList(bias.detach().clone() for _, bias in layers)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the logits, float32 (N, 10), of pixels uint8 (N, 28, 28), 0 background, 255 full ink."""
        return network(pixels, self.layers())

    def layers(self) -> list[Layer]:
        """Return the tensors as `network` takes them."""
        return list(zip(self.weights, self.biases, strict=True))


def build(sizes: Mapping[str, Any]) -> Scratch:
    """Make an untrained Scratch of the `sizes` that another one carries."""
    shape, classes = picture_of(sizes)
    return Scratch(init_layers(math.prod(shape), sizes["hidden"], classes, torch.Generator()), shape, classes)


def fit(
    pixels: np.ndarray,
    labels: np.ndarray,
    recipe: Recipe,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
    valid: tuple[np.ndarray, np.ndarray] | None = None,
    classes: int = DIGIT_RECOGNIZER.class_count,
) -> Scratch:
    """Train a linear model or a net from scratch.

    Args:
        pixels: uint8 (N, 28, 28), N > 0; all are trained on. A last mini-batch that is not full is left out;
            which digits it holds changes with each epoch.
        labels: int64 (N,), each 0..9.
        recipe: one of `PRESETS`, or another.
        seed: decides the first weights, the order of the digits and where they are moved; the same seed gives
            the same weights bit for bit on the same CPU. torch's global generators stay as they were.
        device: where to train, and where the result lies.
        progress: called after every epoch with mini-batches done, mini-batches in all, and e.g. "epoch 2/12
            loss 0.13", with "  valid 0.9712" after it if there are digits to validate on.
        valid: pixels and labels to validate on after every epoch. They change nothing.
        classes: number of classes.

    Raises:
        DivergedError: the loss is no longer finite.
    """
    layers = train(
        pixels, labels, recipe, seed=seed, device=device, progress=progress, valid=valid,
        objective=Objective(classes, cross_entropy, most_likely),
    )  # fmt: skip
    return Scratch(layers, shape_of(pixels), classes)
