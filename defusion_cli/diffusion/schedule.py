"""The forward process of the damage, q(y_t | y₀) = N(α_t y₀, σ_t² I), and its deterministic reversal.

Everything is diffusers' `DDIMScheduler` (Song et al., ICLR 2021, η = 0), set up so that t = T is pure noise
(zero terminal signal-to-noise ratio, Lin et al., WACV 2024) and the network predicts y₀ itself. One step from pure
noise is then the least-squares estimate of the damage; more steps draw one likely damage instead.
"""

from __future__ import annotations

from functools import cache

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

TRAIN_TIMESTEPS = 1000
LAST_TIMESTEP = TRAIN_TIMESTEPS - 1
"""T, at which y_t is pure noise."""


def make_scheduler() -> DDIMScheduler:
    """The noise schedule of our models: cosine, zero terminal SNR, y₀-prediction, trailing time steps."""
    return DDIMScheduler(
        num_train_timesteps=TRAIN_TIMESTEPS,
        beta_schedule="squaredcos_cap_v2",
        rescale_betas_zero_snr=True,
        prediction_type="sample",
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
    )


def diffuse(scheduler: DDIMScheduler, y0: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
    """y_t = α_t y₀ + σ_t ε for N time steps; all N×C×H×W.

    Unlike ``DDIMScheduler.add_noise`` this stays in float32 whatever the type of the inputs.
    """
    alpha_bar = scheduler.alphas_cumprod.to(y0.device, torch.float32)[timestep][:, None, None, None]
    return alpha_bar.sqrt() * y0 + (1 - alpha_bar).clamp(min=0).sqrt() * noise


@cache
def restoring_steps(steps: int) -> tuple[int, ...]:
    """The time steps at which the network is asked when it restores in so many steps, from T downwards."""
    scheduler = make_scheduler()
    scheduler.set_timesteps(steps)
    return tuple(int(t) for t in scheduler.timesteps)


def reverse(scheduler: DDIMScheduler, y_t: Tensor, y0: Tensor, now: Tensor, then: Tensor) -> Tensor:
    """From y_t at `now` to that at the earlier `then` by DDIM (η = 0), for N crops, each with its own time steps.

    ``DDIMScheduler.step`` does the same for all of them alike.
    """
    alpha_bar = scheduler.alphas_cumprod.to(y_t.device, torch.float32)[now][:, None, None, None]
    noise = (y_t - alpha_bar.sqrt() * y0) / (1 - alpha_bar).sqrt()
    return diffuse(scheduler, y0, noise, then)


def precondition(scheduler: DDIMScheduler, y_t: Tensor, timestep: Tensor) -> Tensor:
    """α_t y_t, what the network is shown of y_t (N×C×H×W, N time steps).

    It is the linear least-squares estimate of a unit-variance y₀ from y_t (α² + σ² = 1), the c_in of Karras et al.
    (NeurIPS 2022) for this process. At t = T, where y_T is pure noise that knows nothing of y₀, it is exactly zero:
    fed as it is, that noise drowns the faint traces of noise, JPEG or blur in x_LQ, and the network spends its
    first thousand steps on learning to ignore it.
    """
    alpha_bar = scheduler.alphas_cumprod.to(y_t.device, torch.float32)[timestep][:, None, None, None]
    return alpha_bar.sqrt() * y_t
