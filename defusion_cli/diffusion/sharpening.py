"""What the whole photograph says of its blur, undone by one filter.

A point spread function K that is the same all over the photograph multiplies its spectrum, and so adds ½·log|K|² to the
logarithm of the amplitudes, where the cepstrum of many parts of the photograph shows it (`defusion_cli.cepstrum`). What
was added is taken away again: homomorphic filtering (Oppenheim, Schafer and Stockham, Proc. IEEE 1968; for blurred
pictures Stockham, Cannon and Ingebretsen, "Blind deconvolution through digital signal processing", Proc. IEEE 1975).
Which lags tell of blur and which of the picture, how much noise forbids, and when nothing of this is wanted, is learnt.
The phase of K is not in the spectrum's amplitudes: that of a path which is not symmetric remains, for the U-Net.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from defusion_cli.cepstrum import CEPSTRUM_FEATURES, REACH_PX, lag_scale
from defusion_cli.grain import GRAIN_FEATURES

_GRID = 64
"""Frequencies of the response, along each axis."""
_REACH, _TAPER = 24, 8
"""The filter reaches so many pixels, and fades over the last of them."""
_MOST_LOG_GAIN = 2.2
_HIDDEN = 192
_CAUTION, _NEAR = 1 / 8, 0.3
"""What the perceptron says of hundreds of lags adds up: at its full size, the first steps of a training go astray."""


class SharpeningBranch(nn.Module):
    """y₀ of blur as far as a filter of positive gain undoes it: −G∗x_LQ, with one G for a photograph.

    1 + G(f) = exp(Σ_lag w(lag)·(a(lag)·c(lag) + b(lag))·cos(2πf·lag)), no less than 1: c is the cepstrum, a is learnt,
    b is what a perceptron says that sees c, the instruction and the grain. Where G is zero nothing is done.
    """

    def __init__(self, token_dim: int) -> None:
        super().__init__()
        self.lifter = nn.Parameter(torch.zeros(CEPSTRUM_FEATURES))
        self.look = nn.Linear(2 * token_dim + GRAIN_FEATURES, _HIDDEN)
        self.correct = nn.Linear(_HIDDEN, CEPSTRUM_FEATURES)
        nn.init.kaiming_normal_(self.look.weight, nonlinearity="linear")
        for parameter in (self.look.bias, self.correct.weight, self.correct.bias):
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, asked: Tensor, grain: Tensor) -> Tensor:
        """The estimate, N×C×H×W.

        Parameters
        ----------
        x
            x_LQ of parts of V photographs, N/V of each one after the other, N×C×H×W in [−1, 1].
        asked
            What the instructions say, `InstructionSummary.standardised`, V×2·D.
        grain
            `read_grain` of the whole photographs, V×F.
        """
        with torch.autocast(x.device.type, enabled=False):
            kernels = -self._filters(asked, grain)
            if not (torch.compiler.is_compiling() or torch.is_grad_enabled() or kernels.any()):
                return torch.zeros_like(x)
            parts = x.float().unflatten(0, (len(kernels), -1)).flatten(1, 2)  # of a photograph, one filter for all
            convolved = _convolved if torch.compiler.is_compiling() else filtered
            return convolved(parts, kernels).reshape(x.shape).to(x.dtype)

    def _filters(self, asked: Tensor, grain: Tensor) -> Tensor:
        """The kernels of G, V×49×49; each sums to zero, so that nothing changes brightness."""
        kind = self.look.weight.dtype
        asked, grain = asked.to(kind), grain.to(kind)
        correction = _CAUTION * self.correct(F.silu(self.look(torch.cat([asked, grain], dim=1))))
        lags = (
            (self.lifter * grain[:, -CEPSTRUM_FEATURES:] + correction).float()
            * 0.5
            / torch.from_numpy(lag_scale()).to(grain.device)
        )
        lags = lags.unflatten(1, (2 * REACH_PX + 1, REACH_PX + 1))
        to_rows, to_columns, from_rows, from_columns, taper = (
            torch.from_numpy(table).to(lags.device) for table in _tables()
        )
        log_gain = to_rows[0] @ lags @ to_columns[0] - to_rows[1] @ lags @ to_columns[1]
        # Where it has just become nothing, and at the beginning is nothing, a gradient still says what it should be.
        near = log_gain * ((log_gain <= 0) & (log_gain > -_NEAR))
        gain = (log_gain.relu().clamp(max=_MOST_LOG_GAIN) + near - near.detach()).exp() - 1
        kernel = from_rows[0] @ gain @ from_columns[0] - from_rows[1] @ gain @ from_columns[1]
        kernel = kernel * taper
        result: Tensor = kernel - taper * kernel.sum(dim=(1, 2), keepdim=True) / taper.sum()
        return result


def filtered(x: Tensor, kernels: Tensor) -> Tensor:
    """N×C×H×W convolved with N symmetric kernels of odd size, mirrored at the border."""
    padded = _padded(x, kernels)
    size, cut = padded.shape[2:], kernels.shape[-1] - 1
    spectrum = torch.fft.rfft2(padded) * torch.fft.rfft2(kernels, s=size)[:, None]
    return torch.fft.irfft2(spectrum, s=size)[:, :, cut:, cut:]


def _padded(x: Tensor, kernels: Tensor) -> Tensor:
    reach = kernels.shape[-1] // 2
    return F.pad(x, (reach,) * 4, mode="reflect" if min(x.shape[2:]) > reach else "replicate")


def _convolved(x: Tensor, kernels: Tensor) -> Tensor:
    """`filtered` by plain convolutions: slow, but every runtime knows them."""
    planes = _padded(x, kernels).flatten(0, 1)[None]
    weights = kernels[:, None].expand(-1, x.shape[1], -1, -1).flatten(0, 1)[:, None]
    return F.conv2d(planes, weights, groups=len(weights)).unflatten(1, x.shape[:2])[0]


@lru_cache(maxsize=1)
def _tables() -> tuple[NDArray[np.float32], ...]:
    """From lags to gains at 64×33 frequencies and from these to a kernel, each as cos and sin; and the kernel's taper.

    cos(a + b) = cos a · cos b − sin a · sin b makes products of matrices of what is a sum over both axes.
    """
    frequency = 2 * math.pi / _GRID * np.arange(_GRID)
    half = frequency[: _GRID // 2 + 1]
    lags, taps = (np.arange(-reach, reach + 1) for reach in (REACH_PX, _REACH))
    both_ways = np.full((REACH_PX + 1, 1), 2.0)
    both_ways[0] = 1.0  # the column of lag 0 holds lags of both signs already
    weights = np.full((_GRID // 2 + 1, 1), 2.0)
    weights[[0, -1]] = 1.0
    ends = np.clip((_REACH + 1 - np.abs(taps)) / _TAPER, 0, 1)
    window = (0.5 - 0.5 * np.cos(math.pi * ends))[:, None]
    tables: tuple[Any, ...] = (
        _waves(frequency[:, None] * lags),
        both_ways * _waves(lags[REACH_PX:, None] * half),
        _waves(taps[:, None] * frequency),
        weights / _GRID**2 * _waves(half[:, None] * taps),
        window * window.T,
    )
    return tuple(table.astype(np.float32) for table in tables)


def _waves(angle: Any) -> NDArray[np.float64]:
    return np.stack([np.cos(angle), np.sin(angle)])
