"""What makes the convnet's training faster on a GPU: recorded steps, and networks that take turns."""

from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from mnist_core.inference import predict
from mnist_core.models.convnet import PRESETS, _cuda
from mnist_core.models.convnet import fit as training
from mnist_core.training import fit
from tests.core.models.patterns import same, ten_kinds


def test_a_step_is_recorded_once_and_replayed_with_what_it_is_given(monkeypatch):
    """Three steps run as they are, the fourth is recorded, and it and all others are replayed.

    A replay reads and writes the tensors that were recorded, as a CUDA graph does.
    """
    calls, total, recording = [], torch.zeros(()), []

    class Graph:
        def replay(self):
            calls.append("replay")
            for tensor in recording:
                total.add_(tensor)

    @contextmanager
    def record(graph, stream):
        calls.append("record")
        yield

    def step(value):
        if calls:
            recording.append(value)
        else:
            total.add_(value)

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", record)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: None)
    recorded = _cuda.RecordedStep(step)

    for value in range(1, 7):
        recorded(torch.tensor(float(value)))
        assert total.item() == value * (value + 1) / 2

    assert calls == ["record", "replay", "replay", "replay"]


def test_trainings_that_take_turns_do_not_disturb_each_other():
    """Steps of two networks in turn, as on a GPU, give the weights that each has when it trains alone."""
    digits = ten_kinds(600)
    recipe = replace(PRESETS["fast"], epochs=3)
    data, labels = torch.from_numpy(digits.pixels), torch.from_numpy(digits.labels)

    sizes = {"shape": training.shape_of(data), "classes": 10, "whole": training.fills_its_frame(data)}
    trainings = [training._train(data, labels, recipe, seed, [], sizes, lambda *_: None) for seed in (1, 2)]
    *_, nets = zip(*trainings, strict=True)

    for seed, net in zip((1, 2), nets, strict=True):
        assert same(net, training.fit(digits.pixels, digits.labels, recipe, seed=seed))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("model", ["convnet", "ensemble"])
def test_a_gpu_trains_the_same_kind_of_network(model):
    """A network trained on a CUDA device, members side by side, tells the patterns apart on a CPU."""
    net = fit(ten_kinds(1280), model, epochs=4, device="cuda")

    test = ten_kinds(500, seed=1)
    assert (predict(net, test.pixels).argmax(1) == test.labels).mean() > 0.98
