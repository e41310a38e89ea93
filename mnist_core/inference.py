"""A network and digits → probabilities."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from mnist_core.errors import DataError


def predict(
    net: nn.Module,
    pixels: np.ndarray,
    *,
    batch_size: int = 500,
    device: str | torch.device = "cpu",
    progress: Callable[[int, int, str], None] | None = None,
) -> np.ndarray:
    """Give the probabilities of the ten classes; the label of a digit is their argmax.

    Args:
        net: turns pixels into logits; it is used in evaluation mode, and not changed.
        pixels: uint8 (N, 28, 28), 0 background, 255 full ink; N may be 0.
        batch_size: digits at a time. On two AVX2 cores 250 to 1,000 are about as fast as each other; 2,000
            took twice as long.
        device: where to compute.
        progress: called after every batch with digits done, digits in all, and "predict".

    Returns:
        float32 (N, 10), each row summing to 1.

    Raises:
        DataError: the pixels have another type or shape.
    """
    if pixels.dtype != np.uint8 or pixels.shape[1:] != (28, 28):
        raise DataError(f"pixels are {pixels.dtype} {pixels.shape}; a network takes uint8 (N, 28, 28)")
    device = torch.device(device)
    # The copy keeps the caller's network where and as it is.
    net = copy.deepcopy(net).to(device).to(memory_format=torch.channels_last).eval()
    probabilities = np.empty((len(pixels), 10), np.float32)
    with torch.inference_mode():
        for start in range(0, len(pixels), batch_size):
            part = torch.from_numpy(np.array(pixels[start : start + batch_size])).to(device)
            probabilities[start : start + len(part)] = net(part).softmax(1).cpu().numpy()
            if progress is not None:
                progress(start + len(part), len(pixels), "predict")
    return probabilities
