"""A convolutional network for 28 × 28 digits that two CPU cores train in seven to twelve seconds.

    24 × 24  centre of the picture
    12 × 12  5×5 convolution, stride 2        16 channels
     6 × 6   3×3 convolution, 2×2 max pool    24
     6 × 6   3×3 convolution                  48
     6 × 6   3×3 convolution                  64
     1 × 1   maximum over the picture, linear without bias, 10 logits

Each convolution is followed by (its pool,) batch normalisation and ReLU; pooling first halves the work of
both. 42,000 digits take 7 to 12 s on two EPYC cores and give a score of 0.99545 ± 0.00029 on 28,000 others
(n = 20, tests/bench/records). One pass over all digits and eight over the hardest, one cycle of AdamW (Smith,
arXiv 1803.09820), label smoothing, a moving average of the weights, and every training digit drawn through
one random affine map that also crops it. Where the network is unsure of a digit, it looks a second time.
"""

from __future__ import annotations

import copy
import ctypes
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.adamw import adamw

from mnist_core.errors import ModelError
from mnist_core.models import winograd

SIDE = 28
CROP = 24
"""What the network sees: MNIST fits each digit into 20 × 20 and centres its mass in 28 × 28 (LeCun)."""

INK_SCALE = 1 / (255 * 0.3081)
"""From bytes to unit spread: 0.3081 is the standard deviation of MNIST's pixels in [0, 1]. The mean is left
where it is: background stays 0, which is also what convolutions and the affine map pad with."""

MILD, STRONG = (0.17, 0.1, 0.1, 0.1), (0.25, 0.15, 0.15, 0.12)
"""Half-widths of the uniform augmentation: rotation in radians, scale and shear as factors, shift in halves
of the picture's side. The strong one pays where there are epochs enough (tests/bench/LOG.md)."""

MEASURED = 10_000
"""Training digits, drawn at random, over which batch normalisation is measured at the end: as good as all."""

SURE, FADE = 0.8, 0.1
"""Probability of the best class from which one look is enough, and how far below it only the second holds.
Fifteen networks made as many errors on 8,400 digits each as by five crops of all (tests/bench/LOG.md)."""
BESIDE = [(0, -1), (0, 1), (-1, 0), (1, 0)]
"""Where the second look crops: pixels down and right of the centre."""

SHARE = 64
"""Fewest digits of a batch that a thread takes: batch normalisation goes by what each one has."""

REPORT_EVERY = 8
"""Batches between two progress reports; a report waits for the device, so not every batch makes one."""


@dataclass(frozen=True)
class Recipe:
    """How a ConvNet is trained; the numbers come from this project's first measurements."""

    widths: tuple[int, ...]
    epochs: int
    """Passes over digits: the first `full` over all of them, the others over the hardest."""
    ema: float
    """Decay of the moving average of the weights, per batch."""
    batch: int = 128
    peak_lr: float = 1e-2
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.98)
    smoothing: float = 0.05
    warm_up: float = 0.2
    """Part of all batches in which the learning rate rises to its peak; a cosine takes it down from there."""
    final_lr: float = 0.01
    """Where the cosine ends, as a part of the peak."""
    augmentation: tuple[float, float, float, float] = MILD
    full: int = 1
    """Passes over all digits, 1 or more."""
    hard: float = 1.0
    """Part of the digits that a pass after the full ones takes: those with the greatest loss of late."""
    others: float = 0.1
    """Part of such a pass that is drawn from all digits: what was not hard is not forgotten."""
    shifts: bool = True
    """Whether the network that comes out reads five crops of a digit of which it is unsure."""
    upright: bool = False
    """Whether it straightens each digit before it looks at it."""


PRESETS = {
    "fast": Recipe(widths=(16, 24, 48, 64), epochs=9, hard=0.15, ema=0.98),
    "balanced": Recipe(widths=(24, 48, 96, 96), epochs=11, hard=0.3, ema=0.99, augmentation=STRONG),
    "best": Recipe(
        widths=(24, 48, 96, 96), epochs=17, full=2, hard=0.4, others=0.3, ema=0.99, augmentation=STRONG
    ),
}
PRESETS["wide"] = replace(PRESETS["best"], widths=(48, 96, 192, 192))
"""Four times the work for a few errors less: for a GPU, and for ensembles."""


class ConvNet(nn.Module):
    """Digits in, logits out.

    Args:
        widths: output channels of each convolution, two or more.
        shifts: whether, when it is not training, it takes a second look at a digit for which no class has
            a probability of `SURE`: the mean logits of five crops, the centre and one pixel off it on each
            side, mixed with those of the centre where the probability is less than `FADE` below. These are 1
            to 4 of 100 digits; fifteen networks made a tenth fewer errors so.
        upright: whether it shears each digit first so that it does not lean. Alone it is as good or a
            little worse; it errs on other digits, which helps an ensemble (tests/bench/LOG.md).
    """

    name = "convnet"

    def __init__(self, widths: tuple[int, ...], shifts: bool = False, upright: bool = False) -> None:
        super().__init__()
        self.sizes: dict[str, Any] = {"widths": list(widths), "shifts": shifts, "upright": upright}
        first, second, *others = widths
        self.layers = nn.Sequential(
            _convolution(1, first, kernel=5, stride=2),
            _convolution(first, second, pool=True),
            *(_convolution(*inputs_outputs) for inputs_outputs in pairwise([second, *others])),
            nn.AdaptiveMaxPool2d(1),
            nn.Flatten(),
            nn.Linear(widths[-1], 10, bias=False),
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """Give the logits, float32 (N, 10), of pixels uint8 (N, 28, 28), 0 background, 255 full ink."""
        ink = pixels[:, None].float() * INK_SCALE
        if self.sizes.get("upright"):  # a pickle of before networks could be has no such size
            whole = torch.eye(2, 3, device=ink.device).expand(ink.shape[0], 2, 3)
            ink = _through(ink, straightened(whole, lean(pixels)), SIDE)
        logits = self.logits(_crop(ink, 0, 0))
        if self.training or not self.sizes["shifts"]:
            return logits
        best = logits.softmax(1).amax(1)
        unsure = (best < SURE).nonzero()[:, 0]
        once, crops = logits[unsure], [_crop(ink[unsure], down, right) for down, right in BESIDE]
        beside = self.logits(torch.cat(crops)).reshape(len(BESIDE), unsure.shape[0], 10)
        twice = (once + beside.sum(0)) / (1 + len(BESIDE))
        doubt = ((SURE - best[unsure]) / FADE).clamp(max=1)[:, None]  # so that rounding tips no scale
        return logits.index_copy(0, unsure, once.lerp(twice, doubt))

    def logits(self, ink: Tensor) -> Tensor:
        """Give the logits, float32 (N, 10), of pictures float32 (N, 1, 24, 24), cropped and scaled."""
        return self.layers(ink).float()

    def logits_by_winograd(self, ink: Tensor) -> Tensor:
        """Give the logits of `logits`, but for rounding; on a CPU in less time."""
        first, second, *others, _pool, _flatten, linear = self.layers
        x = winograd.by_place(second(first(ink)))
        for block in others:
            convolution, norm, relu = block.children()
            x = relu(norm(winograd.convolve(x, convolution.get_parameter("weight"))))
        return linear(x.amax(2)[0].T)


def _crop(ink: Tensor, down: int, right: int) -> Tensor:
    """Cut (N, 1, 24, 24) out of pictures (N, 1, 28, 28), so far from the centre."""
    top, left = (SIDE - CROP) // 2 + down, (SIDE - CROP) // 2 + right
    return ink[:, :, top : top + CROP, left : left + CROP]


def _convolution(
    inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1, pool: bool = False
) -> nn.Sequential:
    """Convolution → (2×2 max pool) → batch normalisation → ReLU."""
    convolution = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
    pools = [nn.MaxPool2d(2)] if pool else []
    return nn.Sequential(convolution, *pools, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def build(sizes: dict[str, Any]) -> ConvNet:
    """Make an untrained ConvNet of the `sizes` that another one carries."""
    return ConvNet(tuple(sizes["widths"]), sizes["shifts"], sizes.get("upright", False))


def fit(
    pixels: np.ndarray,
    labels: np.ndarray,
    recipe: Recipe,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int, str], None] | None = None,
    teachers: Sequence[ConvNet] = (),
) -> ConvNet:
    """Train a ConvNet from scratch.

    On a CPU each step's batch is dealt to a few threads, at least `SHARE` digits to each, whose gradients are
    added up: torch's own threads wait for each other in every operation instead, which takes 1.3 times as
    long on two quiet cores, and many times as long where another process has a part of one
    (tests/bench/LOG.md). Each thread normalises by its own digits.

    On a GPU a step is recorded once and replayed as one CUDA graph: its hundred small operations would
    otherwise wait for Python to ask for each of them.

    After the first passes most digits are learnt, and the others go over the hardest of them: those with the
    greatest loss, as the mean of the last one and those before, each of half the weight (after Jiang et al.,
    arXiv 1910.00762). Half the time is enough so (tests/bench/LOG.md).

    The network that comes back carries the moving average of the weights. Its batch normalisation is measured
    anew with them, on the training digits as the network will see them (not augmented), because statistics
    gathered under other weights do not belong to an average (Izmailov et al., arXiv 1803.05407).

    Args:
        pixels: uint8 (N, 28, 28), N > 0. A pass over all leaves out a last batch that is not full, each time
            of other digits; the first pass over the hardest holds what was not seen.
        labels: int64 (N,), each 0..9.
        recipe: one of `PRESETS`, or another.
        seed: decides the first weights, the choice and order of the digits and their augmentation; the same
            seed gives the same weights bit for bit on a CPU with the same number of threads. torch's global
            generators stay as they were.
        device: where to train, and where the result lies. A GPU multiplies in TF32, and draws other random
            numbers than a CPU.
        progress: called every few batches with batches done, batches in all, and e.g. "epoch 2/4  loss 0.31",
            "epoch 3/4, the hardest  loss 0.58".
        teachers: trained networks, whose mean probability the new one learns to give for each augmented
            digit, instead of its label (Hinton, Vinyals and Dean, arXiv 1503.02531; the same picture for
            teacher and pupil: Beyer et al., arXiv 2106.05237). They are not changed.

    Raises:
        ModelError: the loss is no longer finite.
    """
    return fit_each(pixels, labels, [recipe], [seed], device=device, progress=progress, teachers=teachers)[0]


def fit_each(
    pixels: np.ndarray,
    labels: np.ndarray,
    recipes: Sequence[Recipe],
    seeds: Sequence[int],
    *,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int, str], None] | None = None,
    teachers: Sequence[ConvNet] = (),
) -> list[ConvNet]:
    """Train several ConvNets: one after another, but on a GPU side by side.

    A step of one network leaves most of a GPU idle, so each has a stream of its own there.

    Args:
        recipes: of each; they take the same number of batches.
        seeds: of each.
        progress: called with the batches of all; of several, the note begins "member 2/5  ".
        pixels, labels, device, teachers: as `fit` takes them.

    Raises:
        ModelError: the loss of one is no longer finite.
    """
    device = torch.device(device)
    data, targets = torch.from_numpy(pixels).to(device), torch.from_numpy(labels).to(device)
    staff = [copy.deepcopy(teacher).to(device).to(memory_format=torch.channels_last) for teacher in teachers]
    done = [0] * len(seeds)

    def advance(number: int, batches: int, total: int, note: str) -> None:
        done[number] = batches
        if progress is not None:
            member = f"member {number + 1}/{len(seeds)}  " if len(seeds) > 1 else ""
            progress(sum(done), total * len(seeds), member + note)

    trainings = [
        _training(data, targets, recipe, seed, staff, partial(advance, number))
        for number, (recipe, seed) in enumerate(zip(recipes, seeds, strict=True))
    ]
    if device.type == "cpu":
        with _kept_memory():
            return [deque(training, maxlen=1).pop() for training in trainings]
    together = zip(*(_on_a_stream(training, device) for training in trainings), strict=True)
    try:
        return list(deque(together, maxlen=1).pop())
    finally:  # whatever ends it: nothing is freed that another stream still reads
        torch.cuda.synchronize(device)


def _on_a_stream(training: Iterator[Any], device: torch.device) -> Iterator[Any]:
    """Let each step of a training run on one stream of a GPU, which is not the others'."""
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    while True:
        with torch.cuda.stream(stream):
            try:
                step = next(training)
            except StopIteration:
                return
        yield step


def _training(
    data: Tensor,
    targets: Tensor,
    recipe: Recipe,
    seed: int,
    staff: Sequence[ConvNet],
    progress: Callable[[int, int, str], None],
) -> Iterator[Any]:
    """Train as `fit` says, where the data lies; yield after each step, and in the end the network."""
    device = data.device
    random = torch.Generator(device).manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPUs' too
        net = ConvNet(recipe.widths, recipe.shifts, recipe.upright)
    net = net.to(device).to(memory_format=torch.channels_last).train()

    batch = min(recipe.batch, len(data))
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    replicas = [net] + [_sharing(net) for _ in range(1, max(1, min(threads, batch // SHARE)))]

    weights = list(net.parameters())
    average = [weight.detach().clone() for weight in weights]
    update = _adamw(weights, recipe.weight_decay, recipe.betas)

    lengths = _batches(len(data) // batch, recipe)
    total = sum(lengths)
    rates = [recipe.peak_lr * _rate((n + 1) / total, recipe.warm_up, recipe.final_lr) for n in range(total)]
    # A young average would mostly hold the first, untrained weights: its memory grows with age.
    fresh = [1 - min(recipe.ema, (1 + n) / (10 + n)) for n in range(total)]
    loss_sum, done, reported = torch.zeros((), device=device), 0, 0
    hardness = torch.full((len(data),), torch.inf, device=device)  # of digits not seen yet
    read = ConvNet.logits_by_winograd if device.type == "cpu" else ConvNet.logits
    views = {recipe.upright, *(teacher.sizes.get("upright", False) for teacher in staff)}
    leans = {view: lean(data) if view else torch.zeros(len(data), device=device) for view in views}
    maps = {view: torch.empty(len(data), 2, 3, device=device) for view in views}

    def gradients(replica: ConvNet, rows: Tensor) -> tuple[Tensor, ...]:
        seen = data[rows]
        ink = {view: augment(seen, maps[view][rows]) for view in views}
        logits = read(replica, ink[recipe.upright])
        with torch.no_grad():
            taught = [read(teacher, ink[teacher.sizes.get("upright", False)]).softmax(1) for teacher in staff]
            wanted = torch.stack(taught).mean(0) if taught else targets[rows]
            now, before = F.cross_entropy(logits, wanted, reduction="none"), hardness[rows]
            if taught:
                now += torch.xlogy(wanted, wanted).sum(1)  # a teacher's own doubt is not hard to learn
            hardness[rows] = torch.where(before.isinf(), now, (before + now) / 2)
        loss = F.cross_entropy(logits, wanted, label_smoothing=0 if taught else recipe.smoothing)
        loss = loss * (len(rows) / batch)
        return loss.detach(), *torch.autograd.grad(loss, list(replica.parameters()))

    def step(rows: Tensor, rate: Any, new: Any) -> None:
        parts = each(gradients, replicas, rows.tensor_split(len(replicas)))
        loss, *sums = (sum(shares[1:], shares[0]) for shares in zip(*parts, strict=True))
        with torch.no_grad():
            update(sums, rate)
            for mean_weight, weight in zip(average, weights, strict=True):
                mean_weight.lerp_(weight, new)
        loss_sum.add_(loss)

    schedule: Any = list(zip(rates, fresh, strict=True))
    if device.type == "cuda":
        step, schedule = _recorded(step), torch.tensor(schedule, device=device)

    with _side_by_side(len(replicas), threads) as each:
        for epoch, length in enumerate(lengths, 1):
            order = torch.randperm(len(data), generator=random, device=device)
            if epoch > recipe.full:
                drawn = torch.rand(len(data), generator=random, device=device) < recipe.hard * recipe.others
                hardest = torch.where(drawn, torch.inf, hardness)[order].topk(length * batch).indices
                order = order[hardest.sort().values]  # which is at random still
            drawn_maps = random_maps(len(data), random, recipe.augmentation)
            for view in views:
                maps[view].copy_(straightened(drawn_maps, leans[view]))
            end, which = done + length, ", the hardest" if epoch > recipe.full else ""
            for rows in order[: length * batch].split(batch):
                step(rows, *schedule[done])
                done += 1
                if done - reported == REPORT_EVERY or done == end:
                    mean = loss_sum.item() / (done - reported)
                    if not math.isfinite(mean):
                        raise ModelError(
                            f"convnet: the loss is {mean} in epoch {epoch} of {recipe.epochs}; try another "
                            f"seed, or a lower peak_lr than {recipe.peak_lr:g} (models/convnet.py)"
                        )
                    progress(done, total, f"epoch {epoch}/{recipe.epochs}{which}  loss {mean:.2f}")
                    loss_sum.zero_()
                    reported = done
                yield None

    with torch.no_grad():
        for weight, mean_weight in zip(weights, average, strict=True):
            weight.copy_(mean_weight)
        some = torch.randperm(len(data), generator=random, device=device)[:MEASURED]
        measure_batch_norm(net, data[some])
    yield net.eval()


def _adamw(
    weights: Sequence[Tensor], weight_decay: float, betas: tuple[float, float]
) -> Callable[[Sequence[Tensor], Any], None]:
    """Make a step of AdamW (Loshchilov and Hutter, arXiv 1711.05101): gradients and a learning rate in.

    It is torch's own, called as a function: the class imports torch's compiler at its first step, which takes
    two seconds. Batch normalisation does not decay.
    """
    means, squares = ([torch.zeros_like(weight) for weight in weights] for _ in range(2))
    counts = [torch.zeros((), device=weight.device) for weight in weights]

    def step(gradients: Sequence[Tensor], rate: Any) -> None:
        # The fused kernel walks through a weight and its gradient as they lie in memory.
        gradients = [
            gradient if gradient.stride() == weight.stride() else torch.empty_like(weight).copy_(gradient)
            for weight, gradient in zip(weights, gradients, strict=True)
        ]
        for matrices in (True, False):
            some = [number for number, weight in enumerate(weights) if (weight.ndim > 1) is matrices]
            adamw(
                [weights[number] for number in some],
                [gradients[number] for number in some],
                [means[number] for number in some],
                [squares[number] for number in some],
                [],
                [counts[number] for number in some],
                fused=True,
                amsgrad=False,
                beta1=betas[0],
                beta2=betas[1],
                lr=rate,
                weight_decay=weight_decay if matrices else 0.0,
                eps=1e-8,
                maximize=False,
            )

    return step


def _recorded(step: Callable[..., None]) -> Callable[..., None]:
    """Give a step that the GPU does at one word: what `step` asks of it is recorded, then replayed.

    Its arguments are tensors, of the same shapes each time. The first steps run as they are, in which
    libraries choose and load what they need.
    """
    warm_up, graph = 3, torch.cuda.CUDAGraph()
    inputs: list[Tensor] = []

    def replayed(*arguments: Tensor) -> None:
        nonlocal warm_up
        if warm_up > 0:
            warm_up -= 1
            step(*arguments)
            return
        if not inputs:
            inputs.extend(argument.clone() for argument in arguments)
            with torch.cuda.graph(graph, stream=torch.cuda.current_stream()):
                step(*inputs)
        for recorded, new in zip(inputs, arguments, strict=True):
            recorded.copy_(new)
        graph.replay()

    return replayed


def _batches(all_digits: int, recipe: Recipe) -> list[int]:
    """Give the batches of each pass, where one over all digits has `all_digits`."""
    hardest = max(1, int(all_digits * recipe.hard))
    return [all_digits if epoch < recipe.full else hardest for epoch in range(recipe.epochs)]


@contextmanager
def _kept_memory() -> Iterator[None]:
    """Have glibc keep for the next step what one has freed, up to 1 GiB instead of 128 KiB to 64 MiB.

    Handed back to the kernel, it comes again page by page, cleared: some 700 faults a step of preset fast, a
    tenth or more of its time (tests/bench/LOG.md). In the end it is handed back, and later frees keep 64 MiB.
    Other C libraries keep to their own ways.
    """
    libc, trim_threshold, mmap_threshold = ctypes.CDLL(None), -1, -3  # malloc.h
    if not hasattr(libc, "mallopt"):
        yield
        return
    libc.mallopt(trim_threshold, 1 << 30)
    libc.mallopt(mmap_threshold, 1 << 25)
    try:
        yield
    finally:
        libc.mallopt(trim_threshold, 1 << 26)
        libc.malloc_trim(0)


def _sharing(net: ConvNet) -> ConvNet:
    """Copy a network but for its weights, which stay one and the same; its statistics are its own."""
    copied = copy.deepcopy(net)
    for own, shared in zip(copied.parameters(), net.parameters(), strict=True):
        own.data = shared.data
    return copied


@contextmanager
def _side_by_side(count: int, threads: int) -> Iterator[Callable[..., Iterable[tuple[Tensor, ...]]]]:
    """Yield `map`, or one that runs on `count` threads at a time, which share torch's `threads`."""
    if count == 1:
        yield map
        return
    few = partial(torch.set_num_threads, threads // count)
    few()  # the caller's own helpers would spin, waiting for its next operation, on cores that are needed
    try:
        with ThreadPoolExecutor(count, initializer=few) as pool:
            yield pool.map
    finally:
        torch.set_num_threads(threads)


def _rate(at: float, warm_up: float, final: float) -> float:
    """Give the learning rate as a part of its peak; `at` goes from 0 to 1: a line up, then half a cosine."""
    if at < warm_up:
        return at / warm_up
    return final + (1 - final) * (1 + math.cos(math.pi * (at - warm_up) / (1 - warm_up))) / 2


def random_maps(
    count: int, random: torch.Generator, augmentation: tuple[float, float, float, float] = MILD
) -> Tensor:
    """Draw affine maps, float32 (count, 2, 3), from the crop's coordinates to the picture's, both in [-1, 1].

    They lie where the generator does. Each turns, scales, shears and shifts by uniform amounts, of
    half-widths `augmentation`, about the centre.
    """
    most_turn, most_scale, most_shear, most_shift = augmentation
    drawn = torch.rand(5, count, generator=random, device=random.device) * 2 - 1
    turn, scale, shear, right, down = drawn.unbind()
    turn, scale, shear = turn * most_turn, 1 + scale * most_scale, shear * most_shear
    right, down = right * most_shift, down * most_shift
    crop = CROP / SIDE  # an unturned, unscaled, unshifted map is the centre crop, pixel for pixel
    cos, sin = crop * scale * turn.cos(), crop * scale * turn.sin()
    return torch.stack([cos, shear * cos - sin, right, sin, shear * sin + cos, down], dim=1).view(count, 2, 3)


def lean(pixels: Tensor) -> Tensor:
    """Give how far digits uint8 (N, 28, 28) lean: columns to the right for each row down, (N,) in -1..1.

    It is the slope of the line that fits the ink's columns to its rows; 0 of an empty picture.
    """
    ink = pixels.float()
    place = torch.arange(SIDE, device=pixels.device) - (SIDE - 1) / 2
    rows, columns = ink.sum(2), ink.sum(1)
    mass = rows.sum(1).clamp(min=1)
    down, right = rows @ place / mass, columns @ place / mass
    covariance = ink @ place @ place / mass - down * right
    variance = rows @ place**2 / mass - down**2
    return (covariance / variance.clamp(min=1)).clamp(-1, 1)


def straightened(maps: Tensor, leans: Tensor) -> Tensor:
    """Give affine maps (N, 2, 3) that draw digits which lean so far as `maps` would draw them upright."""
    right, down = maps.unbind(1)
    return torch.stack([right + leans[:, None] * down, down], 1)


def augment(pixels: Tensor, maps: Tensor) -> Tensor:
    """Crop digits uint8 (N, 28, 28) through affine maps (N, 2, 3) to ink float32 (N, 1, 24, 24), bilinear."""
    return _through(pixels[:, None].float() * INK_SCALE, maps, CROP)


def _through(ink: Tensor, maps: Tensor, side: int) -> Tensor:
    """Draw pictures (N, 1, 28, 28) through affine maps (N, 2, 3): (N, 1, side, side), bilinear, 0 outside."""
    grid = F.affine_grid(maps, [ink.shape[0], 1, side, side], align_corners=False)
    return F.grid_sample(ink, grid, align_corners=False)


def measure_batch_norm(net: ConvNet, pixels: Tensor, batch: int = 1000) -> None:
    """Set the statistics of all batch normalisations to their means over batches of pixels uint8 (N, 28, 28).

    The network is in training mode, in which it normalises by the batch at hand.
    """
    norms = [layer for layer in net.modules() if isinstance(layer, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean instead of a moving one
    parts = math.ceil(len(pixels) / batch)
    for part in pixels.tensor_split(parts):  # of equal length, as each counts the same
        net(part)
    for norm in norms:
        norm.momentum = 0.1  # torch's default
