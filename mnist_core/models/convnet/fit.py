"""The training: read `_train` first, then `_Run`, whose `step` it calls."""

from __future__ import annotations

import copy
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mnist_core.cores import ThreadMap, thread_map
from mnist_core.errors import DivergedError
from mnist_core.models.augment import crop_through, fills_its_frame, lean, random_maps, scaled, straightened
from mnist_core.models.convnet import Recipe, _cpu, _cuda
from mnist_core.models.convnet._adamw import AdamW
from mnist_core.models.convnet.net import ConvNet
from mnist_core.models.network import lengthened, measure_batch_norm, shape_of
from mnist_core.progress import Progress
from mnist_core.spec import DIGIT_RECOGNIZER

MEASURED = 10_000
"""Training digits, drawn at random, over which batch normalisation is measured at the end: as good as all."""

REPORT_EVERY = 8
"""Steps between two progress reports; a report waits for the device, so not every step makes one."""


def fit(
    pixels: np.ndarray,
    labels: np.ndarray,
    recipe: Recipe,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
    teachers: Sequence[ConvNet] = (),
    classes: int = DIGIT_RECOGNIZER.class_count,
) -> ConvNet:
    """Train a ConvNet from scratch.

    After the first passes most digits are learnt, and the others go over the hardest of them: those with the
    greatest loss, as the mean of the last one and those before, each of half the weight (after Jiang et al.,
    arXiv 1910.00762). That halves the training time.

    The network returned carries the moving average of the weights. Its batch normalisation is measured again
    with them, on the training digits as the network will see them (not augmented), because statistics
    gathered under other weights do not belong to an average (Izmailov et al., arXiv 1803.05407).

    Args:
        pixels: uint8 (N, 28, 28), or (N, rows, columns, 3), N > 0. A pass over all leaves out a last batch
            that is not full, each time of other digits; the first pass over the hardest contains what was not
            seen.
        labels: int64 (N,), each 0..9.
        recipe: one of `PRESETS`, or another.
        seed: decides the first weights, the choice and order of the digits and their augmentation; the same
            seed gives the same weights bit for bit on a CPU with the same number of threads. torch's global
            generators stay as they were.
        device: where to train, and where the result lies. A GPU multiplies in TF32, and draws other random
            numbers than a CPU.
        progress: called every few steps with steps done, steps in all, and e.g. "epoch 2/4  loss 0.31",
            "epoch 3/4, hard rows  loss 0.58".
        teachers: trained networks, whose mean probability the new one learns to give for each augmented
            digit, instead of its label (Hinton, Vinyals and Dean, arXiv 1503.02531; the same picture for
            teacher and student: Beyer et al., arXiv 2106.05237). They are not changed.
        classes: number of classes.

    Raises:
        DivergedError: the loss is no longer finite.
    """
    return fit_each(
        pixels, labels, [recipe], [seed], device=device, progress=progress, teachers=teachers, classes=classes
    )[0]


def fit_each(
    pixels: np.ndarray,
    labels: np.ndarray,
    recipes: Sequence[Recipe],
    seeds: Sequence[int],
    *,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
    teachers: Sequence[ConvNet] = (),
    classes: int = DIGIT_RECOGNIZER.class_count,
) -> list[ConvNet]:
    """Train several ConvNets: one after another, but on a GPU side by side.

    Args:
        recipes: of each; they take the same number of steps.
        seeds: of each.
        progress: called with the steps of all; if there are several, the note begins "member 2/5  ".
        pixels, labels, device, teachers, classes: as `fit` takes them.

    Raises:
        DivergedError: the loss of one is no longer finite.
    """
    device = torch.device(device)
    digits, targets = torch.from_numpy(pixels).to(device), torch.from_numpy(labels).to(device)
    own_teachers = [
        copy.deepcopy(teacher).to(device).to(memory_format=torch.channels_last) for teacher in teachers
    ]
    total = _TotalProgress(progress, len(seeds))
    recipes = [lengthened(recipe, len(pixels)) for recipe in recipes]
    whole = teachers[0].sizes.get("whole", False) if teachers else fills_its_frame(digits)
    sizes = {"shape": shape_of(pixels), "classes": classes, "whole": whole}
    trainings = [
        _train(digits, targets, recipe, seed, own_teachers, sizes, partial(total.report, number))
        for number, (recipe, seed) in enumerate(zip(recipes, seeds, strict=True))
    ]
    if device.type == "cuda":
        return _cuda.side_by_side(trainings, device)
    with _cpu.kept_memory():
        return [deque(training, maxlen=1).pop() for training in trainings]


class _TotalProgress:
    """The progress of several trainings as one."""

    def __init__(self, progress: Progress | None, count: int) -> None:
        self.progress, self.count, self.done = progress, count, [0] * count

    def report(self, number: int, steps: int, total: int, note: str) -> None:
        """Report that a training has done a number of its steps."""
        self.done[number] = steps
        if self.progress is not None:
            member = f"member {number + 1}/{self.count}  " if self.count > 1 else ""
            self.progress(sum(self.done), total * self.count, member + note)


def _train(
    pixels: Tensor,
    labels: Tensor,
    recipe: Recipe,
    seed: int,
    teachers: Sequence[ConvNet],
    sizes: Mapping[str, Any],
    progress: Progress,
) -> Iterator[ConvNet]:
    """Train a network where the digits lie; yield it after each step, and at the end once more, finished."""
    run = _Run(pixels, labels, recipe, seed, teachers, sizes)
    epoch_steps = steps_per_epoch(len(pixels) // run.batch_size, recipe)
    total = sum(epoch_steps)
    # For each step the learning rate, and how far the average moves towards the new weights. A young average
    # would mostly hold the first, untrained weights, so its memory grows with age.
    schedule: Any = [
        (recipe.lr * _lr_at((step + 1) / total, recipe), 1 - min(recipe.ema_decay, (1 + step) / (10 + step)))
        for step in range(total)
    ]

    done = 0
    with thread_map(len(run.replicas)) as run_each:
        take_step: Callable[..., None] = partial(run.step, run_each)
        if run.device.type == "cuda":
            take_step, schedule = _cuda.RecordedStep(take_step), torch.tensor(schedule, device=run.device)
        for epoch, steps in enumerate(epoch_steps, 1):
            hardest = epoch > recipe.full_epochs
            order = run.choose_hardest(steps) if hardest else run.shuffle(steps)
            run.draw_maps()
            for step, rows in enumerate(order.split(run.batch_size), 1):
                take_step(rows, *schedule[done])
                done += 1
                if step % REPORT_EVERY == 0 or step == steps:
                    loss = run.take_loss() / ((step - 1) % REPORT_EVERY + 1)
                    if not math.isfinite(loss):
                        raise DivergedError(
                            f"convnet: the loss is {loss} in epoch {epoch} of {recipe.epochs}",
                            f"try another seed, or a recipe with a lower lr than {recipe.lr:g}",
                        )
                    note = f"epoch {epoch}/{recipe.epochs}{', hard rows' if hardest else ''}"
                    progress(done, total, f"{note}  loss {loss:.2f}")
                yield run.net
    yield run.finish()


class _Run:
    """A training under way: the network, the average of its weights, and the loss of each digit so far.

    A step on a GPU is recorded once, so what changes from step to step lies in tensors that stay in place.
    """

    def __init__(
        self,
        pixels: Tensor,
        labels: Tensor,
        recipe: Recipe,
        seed: int,
        teachers: Sequence[ConvNet],
        sizes: Mapping[str, Any],
    ) -> None:
        self.pixels, self.labels, self.recipe, self.teachers = pixels, labels, recipe, teachers
        self.device = pixels.device
        self.random = torch.Generator(self.device).manual_seed(seed)
        self.batch_size = min(recipe.batch_size, len(pixels))

        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPUs' too
            net = ConvNet(recipe.channels, recipe.shifts, recipe.upright, **sizes)
        self.net = net.to(self.device).to(memory_format=torch.channels_last).train()
        self.weights = list(self.net.parameters())
        self.average = [weight.detach().clone() for weight in self.weights]
        self.optimizer = AdamW(self.weights, recipe.weight_decay, recipe.betas)
        self.loss_sum = torch.zeros((), device=self.device)
        self.digit_losses = torch.full((len(pixels),), torch.inf, device=self.device)  # inf: not seen yet

        on_cpu = self.device.type == "cpu"
        self.replicas = _cpu.make_replicas(self.net, self.batch_size) if on_cpu else [self.net]
        self.logits_of = _cpu.logits_by_winograd if on_cpu else ConvNet.logits

        # The same random map for all networks, but for those that see digits upright one that straightens.
        uprights = {self.net.upright, *(teacher.upright for teacher in teachers)}
        no_lean = torch.zeros(len(pixels), device=self.device)
        self.leans = {upright: lean(pixels) if upright else no_lean for upright in uprights}
        self.maps = {upright: torch.empty(len(pixels), 2, 3, device=self.device) for upright in uprights}

    def shuffle(self, steps: int) -> Tensor:
        """Return as many rows as `steps` batches hold, in random order."""
        order = torch.randperm(len(self.pixels), generator=self.random, device=self.device)
        return order[: steps * self.batch_size]

    def choose_hardest(self, steps: int) -> Tensor:
        """Return the rows with the greatest loss, and some of all others, in random order."""
        count, recipe = len(self.pixels), self.recipe
        order = torch.randperm(count, generator=self.random, device=self.device)
        drawn = torch.rand(count, generator=self.random, device=self.device) < recipe.hard * recipe.others
        losses = torch.where(drawn, torch.inf, self.digit_losses)[order]
        return order[losses.topk(steps * self.batch_size).indices.sort().values]

    def draw_maps(self) -> None:
        """Draw a new random map for each digit."""
        drawn = random_maps(
            len(self.pixels),
            self.random,
            scaled(self.recipe.augmentation, self.recipe.amount),
            self.net.frame,
            mirror=self.recipe.mirror,
        )
        for upright, maps in self.maps.items():
            maps.copy_(straightened(drawn, self.leans[upright]))

    def step(self, run_each: ThreadMap, rows: Tensor, lr: float | Tensor, ema_weight: float | Tensor) -> None:
        """Update the weights by a batch, a share on each thread, and move their average towards them."""
        parts = run_each(self._gradients, self.replicas, rows.tensor_split(len(self.replicas)))
        loss, *gradients = (sum(shares[1:], shares[0]) for shares in zip(*parts, strict=True))
        with torch.no_grad():
            self.optimizer.step(gradients, lr)
            for mean, weight in zip(self.average, self.weights, strict=True):
                mean.lerp_(weight, ema_weight)
        self.loss_sum.add_(loss)

    def _gradients(self, net: ConvNet, rows: Tensor) -> tuple[Tensor, ...]:
        """Return what some rows of a batch add to its mean loss, and to the gradient of each weight."""
        pixels = self.pixels[rows]
        ink = {
            upright: crop_through(pixels, maps[rows], self.net.frame) for upright, maps in self.maps.items()
        }
        logits = self.logits_of(net, ink[net.upright])
        with torch.no_grad():
            targets = self._targets(rows, ink)
            self._remember_losses(rows, logits, targets)
        smoothing = 0 if self.teachers else self.recipe.label_smoothing
        loss = F.cross_entropy(logits, targets, label_smoothing=smoothing) * (len(rows) / self.batch_size)
        return loss.detach(), *torch.autograd.grad(loss, list(net.parameters()))

    def _targets(self, rows: Tensor, ink: dict[bool, Tensor]) -> Tensor:
        """Return the labels (M,), or the mean probabilities of the teachers (M, 10)."""
        if not self.teachers:
            return self.labels[rows]
        probabilities = [
            self.logits_of(teacher, ink[teacher.upright]).softmax(1) for teacher in self.teachers
        ]
        return torch.stack(probabilities).mean(0)

    def _remember_losses(self, rows: Tensor, logits: Tensor, targets: Tensor) -> None:
        losses, before = F.cross_entropy(logits, targets, reduction="none"), self.digit_losses[rows]
        if self.teachers:
            losses += torch.xlogy(targets, targets).sum(1)  # a digit is not hard because its teacher doubts
        self.digit_losses[rows] = torch.where(before.isinf(), losses, (before + losses) / 2)

    def take_loss(self) -> float:
        """Return the sum of the losses since the last call."""
        loss = self.loss_sum.item()
        self.loss_sum.zero_()
        return loss

    @torch.no_grad()
    def finish(self) -> ConvNet:
        """Return the network with the average of its weights, and statistics that belong to them."""
        for weight, mean in zip(self.weights, self.average, strict=True):
            weight.copy_(mean)
        order = torch.randperm(len(self.pixels), generator=self.random, device=self.device)
        measured = self.pixels[order[:MEASURED]]
        measure_batch_norm(self.net, measured, batch_size=1000, threads=len(self.replicas))
        return self.net.eval()


def steps_per_epoch(full_steps: int, recipe: Recipe) -> list[int]:
    """Return the steps of each epoch, if an epoch over all digits has `full_steps`."""
    hardest_steps = max(1, int(full_steps * recipe.hard))
    return [full_steps if epoch < recipe.full_epochs else hardest_steps for epoch in range(recipe.epochs)]


def _lr_at(progress: float, recipe: Recipe) -> float:
    """Return the learning rate as a part of its peak: a line up, then half a cosine; progress goes to 1."""
    if progress < recipe.warm_up:
        return progress / recipe.warm_up
    angle = math.pi * (progress - recipe.warm_up) / (1 - recipe.warm_up)
    return recipe.final_lr + (1 - recipe.final_lr) * (1 + math.cos(angle)) / 2
