"""What makes the convnet's training faster on a CPU: Winograd, kept memory, no compiler."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from mnist_core.models.convnet import _cpu, _winograd
from mnist_core.models.convnet.net import ConvNet


@pytest.mark.parametrize("count", [1, 16])
def test_training_by_winograd_is_the_same_network(count):
    """Logits and gradients of a batch in training are those of direct convolutions, except for rounding."""
    torch.manual_seed(0)
    net = ConvNet((4, 6, 8, 10, 12)).train()
    ink = torch.rand(count, 1, 24, 24)
    weight = torch.rand(count, 10)

    direct, winograd = net.logits(ink), _cpu.logits_by_winograd(net, ink)

    torch.testing.assert_close(winograd, direct, rtol=1e-4, atol=1e-4)
    for ours, theirs in zip(
        *(
            torch.autograd.grad((logits * weight).sum(), list(net.parameters()))
            for logits in (winograd, direct)
        ),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4 * theirs.abs().max().item())


@pytest.mark.parametrize("count", [1, 7])
def test_winograd_convolves_as_torch_does(count):
    """With a border of zeros and any number of pictures and channels, the sums are those of conv2d."""
    random = torch.Generator().manual_seed(count)
    pictures = torch.randn(count, 3, 6, 6, generator=random)
    kernels = torch.randn(5, 3, 3, 3, generator=random)

    found = _winograd.convolve(_winograd.by_pixel(pictures), kernels)

    wanted = _winograd.by_pixel(torch.nn.functional.conv2d(pictures, kernels, padding=1))
    assert found.shape == (1, 5, 36, count)
    torch.testing.assert_close(found, wanted, rtol=0, atol=2e-4)


def test_the_first_fit_does_not_wait_for_the_compiler():
    """A fit does not import torch's compiler, which would take two seconds in each process that trains."""
    code = """
import sys, numpy as np
from mnist_core import Digits, fit
fit(Digits(np.zeros((200, 28, 28), np.uint8), np.zeros(200, np.int64)), epochs=2, device="cpu")
assert "torch.optim" in sys.modules and "torch._dynamo" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator, and /proc")
def test_a_fit_hands_its_memory_back():
    """The memory kept from step to step, about a fifth of the peak, goes back to the kernel at the end."""
    code = """
import re, numpy as np
from pathlib import Path
from mnist_core import Digits, fit
digits = Digits(np.zeros((2000, 28, 28), np.uint8), np.zeros(2000, np.int64))
fit(digits, preset="wide", epochs=2, device="cpu")
status = Path("/proc/self/status").read_text()
peak, now = (int(re.search(rf"{name}:\\s+(\\d+)", status)[1]) >> 10 for name in ("VmHWM", "VmRSS"))
assert now < peak - 100, (peak, now)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_another_c_library_is_left_alone(monkeypatch):
    """Without glibc's `mallopt`, as on macOS or musl, training continues with the memory as it is."""
    monkeypatch.setattr(_cpu.ctypes, "CDLL", lambda _: SimpleNamespace())

    with _cpu.kept_memory():
        assert torch.zeros(3).sum() == 0
