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

import torch
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
    window, cosines, sines, weights = (table.to(grey.device) for table in _tables())
    with torch.autocast(grey.device.type, enabled=False):  # logarithms of what nearly cancels
        grey = (grey - grey.mean(dim=(1, 2), keepdim=True)) * window
        half = slice(CROP_PX // 2 + 1)
        # Products with cosines and sines: as fast as a transform of this size, and every runtime knows them.
        real, imaginary = grey @ cosines[:, half], -grey @ sines[:, half]
        power = (cosines @ real + sines @ imaginary).square() + (cosines @ imaginary - sines @ real).square()
        spectrum = (power / window.square().sum() + _FLOOR).log().mean(0) * weights
        lags = torch.arange(-REACH_PX, REACH_PX + 1, device=grey.device)
        down, right = lags % CROP_PX, lags[REACH_PX:]
        cepstrum = cosines[down] @ spectrum @ cosines[half, right] - sines[down] @ spectrum @ sines[half, right]
        level = torch.zeros_like(cepstrum)
        level[REACH_PX, 0] = _USUAL_LEVEL
        return ((cepstrum - level).flatten() * lag_scale().to(grey.device)).clamp(-_MOST, _MOST)


@lru_cache(maxsize=1)
def lag_scale() -> Tensor:
    """What `describe_blur` multiplies the cepstrum by, (F,): the further the lag, the fainter it is."""
    lags = torch.arange(-REACH_PX, REACH_PX + 1, device="cpu")  # modules may be made on "meta"
    scale = _SCALE * (1 + (lags[:, None].square() + lags[REACH_PX:].square()).sqrt())
    scale[REACH_PX, 0] = 1.0
    return scale.flatten()


@lru_cache(maxsize=1)
def _tables() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Hann's window, cos and sin of 2πuk/128, and the weight of each column of half a spectrum in its mean."""
    place = torch.arange(CROP_PX, dtype=torch.float64)
    angle = 2 * math.pi / CROP_PX * (place[:, None] * place % CROP_PX)
    hann = torch.hann_window(CROP_PX, dtype=torch.float64)
    weights = torch.full((CROP_PX // 2 + 1,), 2.0, dtype=torch.float64)
    weights[[0, -1]] = 1.0
    tables = (hann[:, None] * hann, angle.cos(), angle.sin(), weights / CROP_PX**2)
    return tables[0].float(), tables[1].float(), tables[2].float(), tables[3].float()
