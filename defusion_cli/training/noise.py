"""The noise ε and the time steps t of crops, which depend on seed, step and the number of a view only."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from defusion_cli.diffusion.schedule import LAST_TIMESTEP, TRAIN_TIMESTEPS, restoring_steps
from defusion_cli.training.diffusion_config import DiffusionConfig


def draw_noise(
    config: DiffusionConfig, step: int, numbers: Sequence[int], shape: torch.Size
) -> tuple[Tensor, list[Sequence[int]]]:
    """ε, N×3×H×W, and t of the crops of some views, each view by its own generator.

    Before t there are the time steps on the way to it from T, if y_t is to be the network's own.
    """
    noise = []
    paths: list[Sequence[int]] = []
    pure_noise_share = 0.0 if config.learns == "late" else config.pure_noise_share
    for number in numbers:
        generator = torch.Generator().manual_seed(_mix(config.seed, step, number))
        k = config.synthesis.crops_per_view
        noise.append(torch.randn((k, *shape[1:]), generator=generator))
        t = torch.randint(TRAIN_TIMESTEPS, (k,), generator=generator)
        pure = torch.rand(k, generator=generator) < pure_noise_share
        own = torch.rand(k, generator=generator) < config.own_share
        for crop in range(k):
            if pure[crop]:
                paths.append([LAST_TIMESTEP])
            elif not own[crop]:
                paths.append([int(t[crop])])
            elif config.own_steps == 1:
                paths.append([LAST_TIMESTEP, int(t[crop])])
            else:
                steps = int(torch.randint(2, config.own_steps + 2, (), generator=generator))
                taken = int(torch.randint(1, steps, (), generator=generator))
                paths.append(restoring_steps(steps)[: taken + 1])
    return torch.cat(noise), paths


def _mix(seed: int, step: int, number: int) -> int:
    """A 63-bit seed of three counters (the odd multipliers of SplitMix64 and Murmur3)."""
    value = seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + number * 0x94D049BB133111EB
    value ^= value >> 31
    return (value * 0xFF51AFD7ED558CCD >> 7) % 2**63
