"""What the spectrum of a whole photograph says of how it is blurred, in a few hundred numbers.

A crop of 64 pixels does not show along which path the camera moved; all of the photograph does, for every edge in it
was drawn along the same one. Blurring multiplies spectra, so it adds to their logarithm, to which the picture itself
contributes something smooth when it is averaged over many parts of the photograph (Cannon, "Blind deconvolution of
spatially invariant image blurs with phase", IEEE TASSP 1976). Transformed back it is the cepstrum (Bogert et al., 1963;
for pictures Rom, "On the cepstrum of two-dimensional functions", IEEE TIT 1975): a blur is seen at the lags that its
point spread function spans.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from defusion_cli.canvas import CROP_PX

REACH_PX = 16
"""Lags are this long at most, along each axis."""
_FLOOR = (1 / 255) ** 2 / 12
"""Variance of what rounding to 8 bits adds."""
_SCALE, _USUAL_LEVEL, _MOST = 3.0, -8.0, 4.0

CEPSTRUM_FEATURES = (2 * REACH_PX + 1) * (REACH_PX + 1)
"""Length of the vector."""


def describe_blur(crops: Tensor) -> Tensor:
    """The cepstrum (F,) of a photograph's brightness at lags of up to 16 pixels, each roughly standardised.

    Parameters
    ----------
    crops
        Parts of it in its own resolution, K×3×128×128 in [0, 1].
    """
    grey = crops.float().mean(1)
    window, cosines, sines, weights = (torch.from_numpy(table).to(grey.device) for table in _tables())
    with torch.autocast(grey.device.type, enabled=False):  # logarithms of what nearly cancels
        grey = (grey - grey.mean(dim=(1, 2), keepdim=True)) * window
        power = (
            _by_products(grey, cosines, sines)
            if torch.compiler.is_compiling()
            else torch.fft.rfft2(grey).abs().square()
        )
        spectrum = (power / window.square().sum() + _FLOOR).log().mean(0) * weights
        lags = torch.arange(-REACH_PX, REACH_PX + 1, device=grey.device)
        down, right, half = lags % CROP_PX, lags[REACH_PX:], slice(CROP_PX // 2 + 1)
        cepstrum = cosines[down] @ spectrum @ cosines[half, right] - sines[down] @ spectrum @ sines[half, right]
        level = torch.zeros_like(cepstrum)
        level[REACH_PX, 0] = _USUAL_LEVEL
        scale = torch.from_numpy(lag_scale()).to(grey.device)
        return ((cepstrum - level).flatten() * scale).clamp(-_MOST, _MOST)


def _by_products(pictures: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """|rfft2|² of K×128×128, K×128×65, for runtimes that know products and no transforms."""
    half = slice(CROP_PX // 2 + 1)
    flat = pictures.flatten(0, 1)
    real, imaginary = (
        (flat @ table[:, half]).unflatten(0, (-1, CROP_PX)).mT.flatten(0, 1) for table in (cosines, -sines)
    )
    power = (real @ cosines + imaginary @ sines).square() + (imaginary @ cosines - real @ sines).square()
    return power.unflatten(0, (-1, CROP_PX // 2 + 1)).mT


@lru_cache(maxsize=1)
def lag_scale() -> NDArray[np.float32]:
    """What `describe_blur` multiplies the cepstrum by, (F,): the further the lag, the fainter it is."""
    lags = np.arange(-REACH_PX, REACH_PX + 1)
    scale = _SCALE * (1 + np.hypot(lags[:, None], lags[REACH_PX:]))
    scale[REACH_PX, 0] = 1.0
    return scale.astype(np.float32).reshape(-1)


@lru_cache(maxsize=1)
def _tables() -> tuple[NDArray[np.float32], ...]:
    """Hann's window, cos and sin of 2πuk/128, and the weight of each column of half a spectrum in its mean.

    Arrays, not tensors: those would remember whether they were first made for inference, or for an export.
    """
    place = np.arange(CROP_PX)
    angle = 2 * math.pi / CROP_PX * (place[:, None] * place % CROP_PX)
    hann = 0.5 - 0.5 * np.cos(2 * math.pi / CROP_PX * place)
    weights = np.full(CROP_PX // 2 + 1, 2.0)
    weights[[0, -1]] = 1.0
    tables = (hann[:, None] * hann, np.cos(angle), np.sin(angle), weights / CROP_PX**2)
    return tuple(table.astype(np.float32) for table in tables)
