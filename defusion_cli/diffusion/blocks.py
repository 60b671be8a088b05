"""Residual blocks whose features, and at the finer levels kernels, depend on the condition, and a U of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Condition(NamedTuple):
    """The FiLM condition of N samples: D×E, and how many samples, one after the other, each of the D is for.

    Crops of one view and tiles of one photograph have one, so that what follows from it is made once for them.
    """

    values: Tensor
    runs: list[int]

    def of_each(self, told: Tensor) -> Tensor:
        """What was made for each of the D conditions, D×…, for each of the N samples."""
        if len(self.runs) == sum(self.runs):
            return told
        return told.repeat_interleave(torch.tensor(self.runs, device=told.device), dim=0)


class ConditionedConv(nn.Conv2d):
    """A 3×3 convolution whose kernel depends on the condition c (D×E): W + Σ_m g_m(c)·W_m / √M, with g linear.

    As many multiplications a pixel as with one kernel (Yang et al., "CondConv: Conditionally parameterized convolutions
    for efficient inference", NeurIPS 2019). One kernel for ten kinds of damage is a compromise: 700 steps of noise
    alone, all of the network learning, gained 0.43 dB on noise that thousands of steps of everything had not found.
    The W_m start at zero: a finished network can be given them and goes on from what it is.
    """

    def __init__(self, channels: int, condition: int, experts: int) -> None:
        super().__init__(channels, channels, 3, padding=1)
        self.gate = nn.Linear(condition, experts)
        self.experts = nn.ParameterList(torch.zeros(self.weight.shape) for _ in range(experts))
        # A condition is about one long, and those of different damage are as far apart.
        nn.init.normal_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)

    def kernels(self, condition: Tensor) -> Tensor:
        """The kernels for D conditions, D×O×I×3×3.

        W counts as one more expert, whose share is 1: all in one product, and each as channels_last wants it. With W
        added afterwards it takes two to three times as long.
        """
        gated = self.gate(condition) * len(self.experts) ** -0.5
        shares = torch.cat([torch.ones_like(gated[:, :1]), gated], dim=1)
        known = [kernel.movedim(1, -1) for kernel in (self.weight, *self.experts)]
        flat = shares @ torch.stack([kernel.flatten() for kernel in known])
        kernels: Tensor = flat.unflatten(1, known[0].shape).movedim(-1, 2)
        return kernels


class ResidualBlock(nn.Module):
    """x + conv(silu(FiLM(conv(x), c))): N×C×H×W with the `Condition` c."""

    def __init__(self, channels: int, condition: int, experts: int = 0) -> None:
        super().__init__()
        self.conv1, self.conv2 = (
            ConditionedConv(channels, condition, experts) if experts else nn.Conv2d(channels, channels, 3, padding=1)
            for _ in range(2)
        )
        self.film = nn.Linear(condition, 2 * channels)
        nn.init.kaiming_normal_(self.conv1.weight, nonlinearity="relu")
        nn.init.kaiming_normal_(self.conv2.weight, nonlinearity="relu")
        # Small residual branches: without normalisation a deep sum of full-sized ones does not start to learn.
        self.conv2.weight.data.mul_(0.2)
        for parameter in (self.conv1.bias, self.conv2.bias, self.film.weight, self.film.bias):
            nn.init.zeros_(parameter)  # type: ignore[arg-type]

    def forward(self, x: Tensor, condition: Condition) -> Tensor:
        scale, shift = condition.of_each(self.film(condition.values))[:, :, None, None].chunk(2, dim=1)
        features: Tensor = self.conv2(_silu(torch.addcmul(shift, self.conv1(x), 1 + scale)))
        return features.add_(x)


class ConditionedBlock(ResidualBlock):
    """A `ResidualBlock` whose convolutions have kernels of their own for each condition (`ConditionedConv`).

    Samples that share a condition go through it by themselves, and FiLM becomes a part of their kernel. With modulated
    features, sums over all pixels for the gradient of that, and samples joined after each convolution, these blocks
    took 6 to 20 % longer in training.
    """

    def kernels(self, condition: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """For each of D conditions, D×E: kernel and bias of the first convolution, kernel of the second."""
        conv1, conv2 = cast(ConditionedConv, self.conv1), cast(ConditionedConv, self.conv2)
        scale, shift = self.film(condition).chunk(2, dim=1)
        biases = torch.addcmul(shift, cast(Tensor, conv1.bias), 1 + scale)
        kernels = conv1.kernels(condition)
        each = (kernels * (1 + scale.to(kernels.dtype))[:, :, None, None, None], biases, conv2.kernels(condition))
        return list(zip(*(made.unbind() for made in each), strict=True))

    def convolved(self, x: Tensor, kernel1: Tensor, bias1: Tensor, kernel2: Tensor) -> Tensor:
        """The block on samples that share a condition."""
        features = F.conv2d(x, kernel1, bias1, padding=1)
        return F.conv2d(_silu(features), kernel2, self.conv2.bias, padding=1).add_(x)

    def forward(self, x: Tensor, condition: Condition) -> Tensor:
        return _run_by_condition([self], x, condition)


def _silu(features: Tensor) -> Tensor:
    """In place where autograd allows it: on a CPU fresh memory for each result costs 3 % at 512 px, 9 % at 1024 px."""
    return F.silu(features, inplace=not torch.is_grad_enabled())


def _run_by_condition(blocks: Sequence[ConditionedBlock], x: Tensor, condition: Condition) -> Tensor:
    """Blocks one after the other, on the samples of each condition by themselves."""
    kernels = [block.kernels(condition.values) for block in blocks]
    parts = list(x.split(condition.runs))  # `split`, for the gradient of a slice is as large as all of x
    for n, part in enumerate(parts):
        for block, made in zip(blocks, kernels, strict=True):
            part = block.convolved(part, *made[n])
        parts[n] = part
    return parts[0] if len(parts) == 1 else torch.cat(parts)


class Stack(nn.ModuleList):
    """Residual blocks one after the other, under the same condition."""

    def forward(self, x: Tensor, condition: Condition) -> Tensor:
        for block in self:
            x = block(x, condition)
        return x


class ConditionedStack(Stack):
    """The same of `ConditionedBlock`: samples that share a condition go through all of them by themselves."""

    def forward(self, x: Tensor, condition: Condition) -> Tensor:
        return _run_by_condition([cast(ConditionedBlock, block) for block in self], x, condition)


def make_stack(channels: int, condition: int, count: int, experts: int) -> Stack:
    """`count` blocks, with kernels of their own for each condition if there are `experts`."""
    if experts:
        return ConditionedStack(ConditionedBlock(channels, condition, experts) for _ in range(count))
    return Stack(ResidualBlock(channels, condition) for _ in range(count))


def down_and_up(net: Any, x: Tensor, condition: Condition, turn: Callable[[Tensor], Tensor]) -> Tensor:
    """Through the ``down``, ``shrink``, ``grow`` and ``up`` of a U-shaped net, with `turn` at the bottom."""
    skips = []
    for level, blocks in enumerate(net.down):
        x = blocks(x, condition)
        if level < len(net.shrink):
            skips.append(x)
            x = net.shrink[level](x)
    x = turn(x)
    for level in reversed(range(len(net.up))):
        x = F.pixel_shuffle(net.grow[level](x), 2) + skips[level]
        x = net.up[level](x, condition)
    return x
