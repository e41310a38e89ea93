"""What makes training faster on a CPU: threads that share a batch, memory that is kept, Winograd."""

from __future__ import annotations

import copy
import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from mnist_core.models.convnet import _winograd
from mnist_core.models.convnet.net import ConvNet

SHARE = 64
"""Fewest digits of a batch that a thread takes: each normalises by its own."""


def make_replicas(net: ConvNet, batch_size: int) -> list[ConvNet]:
    """Return a network for each thread: the given one, and copies that share its weights.

    Each has its own statistics of batch normalisation. torch's own threads would wait for each other in every
    operation instead, which takes 1.3 times as long on two idle cores, and many times as long if another
    process uses one of them.
    """
    threads = max(1, min(torch.get_num_threads(), batch_size // SHARE))
    return [net, *(_sharing(net) for _ in range(1, threads))]


def _sharing(net: ConvNet) -> ConvNet:
    copied = copy.deepcopy(net)
    for own, shared in zip(copied.parameters(), net.parameters(), strict=True):
        own.data = shared.data
    return copied


@contextmanager
def kept_memory() -> Iterator[None]:
    """Have glibc keep freed memory for the next step, up to 1 GiB instead of 128 KiB to 64 MiB.

    Handed back to the kernel, it comes again page by page, cleared: some 700 faults a step of preset fast, a
    tenth or more of its time. At the end it is handed back, and later frees keep 64 MiB. Other C libraries
    are left alone.
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


def logits_by_winograd(net: ConvNet, ink: Tensor) -> Tensor:
    """Return the same as `net.logits(ink)` except for rounding, in less time if the pictures are as small."""
    if net.frame.read != (_winograd.READ, _winograd.READ):
        return net.logits(ink)
    first, second, *others, _pool, _flatten, linear = net.layers
    x = _winograd.by_pixel(second(first(ink)))
    for block in others:
        convolution, norm, relu = block.children()
        x = relu(norm(_winograd.convolve(x, convolution.get_parameter("weight"))))
    return linear(x.amax(2)[0].T)
