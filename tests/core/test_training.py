"""fit: the rows that it sees, the device that it uses, and what it refuses."""

import numpy as np
import pytest
import torch

from mnist_core.errors import ModelError
from mnist_core.models.convnet.net import ConvNet
from mnist_core.models.resnet.net import ResNet18
from mnist_core.training import fit, pick_device
from tests.core.models.patterns import same, ten_kinds


def test_rows_are_indices_or_a_mask():
    """A mask selects the same digits as their indices in order."""
    digits = ten_kinds(60)
    mask = np.random.default_rng(5).random(60) < 0.5

    assert same(fit(digits, rows=mask, epochs=1), fit(digits, rows=np.flatnonzero(mask), epochs=1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"model": "resnet81"},
            r"no model 'resnet81'; did you mean resnet18\? choose one of convnet, ens",
        ),
        ({"model": "ensemble", "member": 0, "teacher": ResNet18()}, r"convnet cannot learn from resnet18"),
        ({"preset": "slow"}, r"no preset 'slow'; choose one of fast, balanced, best"),
        ({"device": "tpu"}, r"no device 'tpu'; choose one of auto, cpu, cuda"),
        ({"epochs": 0}, r"epochs is 0"),
        ({"model": "ensemble", "member": -1}, r"member is -1; they are numbered from 0"),
        ({"teacher": ResNet18()}, r"convnet cannot learn from resnet18"),
        ({"teacher": ConvNet((2, 2)), "model": "resnet18"}, r"resnet18 cannot learn from convnet"),
        ({"rows": np.array([0, 20])}, r"rows do not fit the 20 digits"),
        ({"rows": np.ones(19, bool)}, r"rows do not fit the 20 digits"),
        ({"rows": np.array([0.0, 1.0])}, r"rows is float64 \(2,\)"),
        ({"rows": np.zeros(20, bool)}, r"rows selects none"),
    ],
)
def test_what_cannot_be_trained_is_refused(arguments, message):
    """An unknown name or value is an error that says what there is."""
    with pytest.raises(ModelError, match=message):
        fit(ten_kinds(20), **arguments)


def test_digits_without_labels_are_refused(synthetic):
    """Nothing can be learnt from test.csv."""
    with pytest.raises(ModelError, match="no labels"):
        fit(synthetic(5, labelled=False))


def test_cuda_that_is_not_there_is_refused(monkeypatch):
    """Asking for CUDA on a machine without it is an error with a remedy; auto takes the CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    assert pick_device("auto") == pick_device("cpu") == torch.device("cpu")
    with pytest.raises(ModelError, match=r"device cuda: .* use device cpu or auto"):
        pick_device("cuda")


def test_cuda_is_used_if_it_is_there(monkeypatch):
    """auto and cuda mean CUDA if torch finds it, and cpu still means the CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)

    assert pick_device("auto") == pick_device("cuda") == torch.device("cuda")
    assert pick_device("cpu") == torch.device("cpu")
