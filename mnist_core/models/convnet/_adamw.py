"""AdamW without torch's optimizer class, whose first step imports torch's compiler: two seconds a process."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim.adamw import adamw


class AdamW:
    """AdamW (Loshchilov and Hutter, arXiv 1711.05101), fused. Vectors (batch normalisation) do not decay."""

    def __init__(self, weights: Sequence[Tensor], weight_decay: float, betas: tuple[float, float]) -> None:
        self.weights, self.betas = list(weights), betas
        self.means, self.squares = ([torch.zeros_like(weight) for weight in weights] for _ in range(2))
        self.counts = [torch.zeros((), device=weight.device) for weight in weights]
        matrices = [number for number, weight in enumerate(weights) if weight.ndim > 1]
        vectors = [number for number, weight in enumerate(weights) if weight.ndim <= 1]
        self.groups = [(matrices, weight_decay), (vectors, 0.0)]

    def step(self, gradients: Sequence[Tensor], lr: float | Tensor) -> None:
        """Update the weights by their gradients."""
        # The fused kernel walks through a weight and its gradient as they lie in memory.
        gradients = [
            gradient if gradient.stride() == weight.stride() else torch.empty_like(weight).copy_(gradient)
            for weight, gradient in zip(self.weights, gradients, strict=True)
        ]
        for numbers, weight_decay in self.groups:
            adamw(
                [self.weights[number] for number in numbers],
                [gradients[number] for number in numbers],
                [self.means[number] for number in numbers],
                [self.squares[number] for number in numbers],
                max_exp_avg_sqs=[],
                state_steps=[self.counts[number] for number in numbers],
                fused=True,
                amsgrad=False,
                beta1=self.betas[0],
                beta2=self.betas[1],
                lr=lr,
                weight_decay=weight_decay,
                eps=1e-8,
                maximize=False,
            )
