"""The forward process of the damage, q(y_t | y₀) = N(α_t y₀, σ_t² I), and its deterministic reversal.

Everything is diffusers' `DDIMScheduler` (Song et al., ICLR 2021, η = 0), set up so that t = T is pure noise
(zero terminal signal-to-noise ratio, Lin et al., WACV 2024) and the network predicts y₀ itself. One step from pure
noise is then the least-squares estimate of the damage; more steps draw one likely damage instead.
"""

from __future__ import annotations

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

TRAIN_TIMESTEPS = 1000


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
