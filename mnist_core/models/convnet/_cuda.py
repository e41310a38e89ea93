"""What makes training faster on a GPU: steps recorded as CUDA graphs, networks side by side on streams."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class RecordedStep:
    """A training step that runs as one CUDA graph: what `step` asks of the GPU is recorded, then replayed.

    A step's hundred small operations would otherwise wait for Python to ask for each of them. The arguments
    are tensors, of the same shapes each time. The first steps run as they are: in them libraries choose and
    load what they need.
    """

    def __init__(self, step: Callable[..., None], warm_up: int = 3) -> None:
        self.step, self.warm_up = step, warm_up
        self.graph, self.inputs = torch.cuda.CUDAGraph(), list[Tensor]()

    def __call__(self, *arguments: Tensor) -> None:
        """Run the step."""
        if self.warm_up > 0:
            self.warm_up -= 1
            self.step(*arguments)
            return
        if not self.inputs:
            self.inputs.extend(argument.clone() for argument in arguments)
            with torch.cuda.graph(self.graph, stream=torch.cuda.current_stream()):
                self.step(*self.inputs)
        for recorded, new in zip(self.inputs, arguments, strict=True):
            recorded.copy_(new)
        self.graph.replay()


def side_by_side(trainings: Sequence[Iterator[T]], device: torch.device) -> list[T]:
    """Run trainings of the same number of steps in turns, each on its own stream; return the last of each.

    A step of one network leaves most of a GPU idle.
    """
    together = zip(*(_on_a_stream(training, device) for training in trainings), strict=True)
    try:
        return list(deque(together, maxlen=1).pop())
    finally:  # also after an error: nothing may be freed that another stream still reads
        torch.cuda.synchronize(device)


def _on_a_stream(training: Iterator[T], device: torch.device) -> Iterator[T]:
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    while True:
        with torch.cuda.stream(stream):
            try:
                step = next(training)
            except StopIteration:
                return
        yield step
