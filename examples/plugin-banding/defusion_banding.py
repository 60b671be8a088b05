"""Banding: a picture stored with too few levels a channel.

    I = min(⌊J·K⌋, K − 1) / (K − 1)

J is the clean picture in [0, 1] and K the number of levels, without dither. The model leaves out the tone curve of
the device that quantised; levels are equally spaced in sRGB values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from defusion_cli.plugins import Degradation, Image, Position, Scene, param, severity_or_draw

_FINEST, _COARSEST = 64, 6


@dataclass(frozen=True)
class BandingParams:
    """How coarse the steps are."""

    levels: int = param(16, meaning="levels a channel", unit="levels", low=4, high=4096)


class Banding(Degradation[BandingParams]):
    """Too few levels a channel."""

    id = "banding"
    version = "1"
    summary = "Bands of equal colour from coarse quantisation."
    position = Position.FILE
    Params = BandingParams

    def sample(self, rng: np.random.Generator, severity: float | None = None) -> BandingParams:
        s = severity_or_draw(rng, severity)
        # Equal steps of severity are equal ratios of the step height.
        return BandingParams(levels=round(_FINEST * (_COARSEST / _FINEST) ** s))

    def apply(self, image: Image, params: BandingParams, rng: np.random.Generator, scene: Scene | None = None) -> Image:
        k = np.float32(params.levels)
        return np.minimum(np.floor(image * k), k - 1) / (k - 1)

    def neutral(self) -> BandingParams:
        return BandingParams(levels=4096)


BANDING = Banding()
