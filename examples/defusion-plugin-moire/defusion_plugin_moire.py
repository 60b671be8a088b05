"""Moiré: the beat between the pixel grid of a photographed screen and that of the sensor.

    I_c = J_c · [1 − a·(1 − cos(2π·φ/p + c·2π/3·k)) / 2],   φ(x, y) = x·cos θ + y·sin θ + b·(x² + y²)/p

J is the clean picture in [0, 1], a the depth of the pattern, p the period of the beat in pixels, θ its direction,
b how strongly lens distortion and a tilted screen bend it, c = 0, 1, 2 the colour channel and k how far the red,
green and blue stripes of the screen are apart: k = 0 gives grey bands, k = 1 coloured ones. The beat of two gratings
is that of their difference frequency (Amidror, The Theory of the Moiré Phenomenon, 2009, chapter 2). Left out: the
second grating at right angles, and the harmonics of square pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from defusion_cli.plugins import Degradation, Image, Position, Scene, param, severity_or_draw


@dataclass(frozen=True)
class MoireParams:
    """How deep, how wide, and lying how."""

    depth: float = param(0.3, meaning="darkening at the dark bands", unit="fraction of the light", low=0, high=0.8)
    period_px: float = param(18.0, meaning="distance of two bands", unit="px", low=3, high=200)
    angle_deg: float = param(20.0, meaning="direction across the bands", unit="deg", low=0, high=180)
    bend: float = param(0.01, meaning="curvature of the bands", low=0, high=0.1)
    colour: float = param(0.6, meaning="shift between colours: grey … rainbow", low=0, high=1)


class Moire(Degradation[MoireParams]):
    """Coloured bands of a photographed screen."""

    id = "moire"
    version = "1"
    summary = "Coloured bands, as on a photographed screen."
    position = Position.SENSOR
    Params = MoireParams

    def sample(self, rng: np.random.Generator, severity: float | None = None) -> MoireParams:
        s = severity_or_draw(rng, severity)
        return MoireParams(
            depth=0.04 + 0.6 * s,
            period_px=float(np.exp(rng.uniform(np.log(5), np.log(60)))),  # every octave is as likely
            angle_deg=float(rng.uniform(0, 180)),
            bend=float(rng.uniform(0, 0.03)),
            colour=float(rng.uniform(0, 1)),
        )

    def apply(self, image: Image, params: MoireParams, rng: np.random.Generator, scene: Scene | None = None) -> Image:
        height, width = image.shape[:2]
        start, centre_y, centre_x = rng.random(3)  # always three draws: a seed is one pattern, whatever the picture
        y, x = np.mgrid[:height, :width].astype(np.float32) - np.float32([[[centre_y * height]], [[centre_x * width]]])
        theta = np.deg2rad(params.angle_deg)
        across = x * np.cos(theta) + y * np.sin(theta) + params.bend * (x**2 + y**2) / params.period_px
        phase = 2 * np.pi * (across[..., None] / params.period_px + start)
        phase = phase + np.arange(3) * (2 * np.pi / 3 * params.colour)
        return (image * (1 - params.depth * (1 - np.cos(phase)) / 2)).astype(np.float32)

    def neutral(self) -> MoireParams:
        return MoireParams(depth=0)


MOIRE = Moire()
