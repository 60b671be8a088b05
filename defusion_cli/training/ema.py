"""Exponential moving average of the weights: what is validated and shipped."""

from __future__ import annotations

import torch
from torch import nn

_EVERY_STEP = 100


class Ema:
    """Average of a model's parameters with decay min(decay, (1 + s)/(10 + s)) at step s.

    The rising decay lets the average forget the initial weights (as in TensorFlow's ExponentialMovingAverage). From
    step 100 on, every second step stands for two: reading and writing all weights is half a percent of a step.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.shadow = {name: p.detach().float().clone() for name, p in model.named_parameters()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move the average towards the weights after optimiser step `step`, from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        if step >= _EVERY_STEP:
            if step % 2 == 0:
                return
            decay **= 2
        parameters = [p.detach() for _, p in model.named_parameters()]
        torch._foreach_lerp_(list(self.shadow.values()), [p.float() for p in parameters], 1 - decay)

    @torch.no_grad()
    def copy_to(self, model: nn.Module) -> None:
        """Write the average into `model`."""
        for name, parameter in model.named_parameters():
            parameter.copy_(self.shadow[name])
