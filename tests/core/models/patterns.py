"""Digits that can be told apart, and other helpers of the models' tests."""

import random

import numpy as np
import torch

from mnist_core.digits import Digits


def ten_kinds(n, seed=0):
    """Make labelled digits that can be told apart: ten fixed patterns of 7 × 7 blocks under noise."""
    patterns = np.random.default_rng(99).random((10, 7, 7)) < 0.4
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, n)
    ink = np.kron(patterns[labels], np.ones((1, 4, 4))) * 190
    return Digits((ink + rng.integers(0, 60, (n, 28, 28))).astype(np.uint8), labels)


def noise(n, seed=0):
    """Make pixels, uint8 (n, 28, 28)."""
    return np.random.default_rng(seed).integers(0, 256, (n, 28, 28), np.uint8)


def same(a, b):
    """Return whether two networks have the same weights and statistics, bit for bit."""
    return all(
        torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


def random_states():
    """Return the states of torch's, numpy's and Python's global generators."""
    return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()
