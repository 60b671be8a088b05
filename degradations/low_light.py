"""Low light: a photograph exposed for less light than there was, and the noise that the missing light leaves.

Two ways to darken. ``exposure`` is what a shutter does, in linear light, EV stops short; ``curve`` is how many
training sets are made, with the brightness L = max over R, G, B so that hues stay (OneRestore, Guo et al., ECCV 2024:
γ from 2 to 3)::

    exposure:  x = 2^(−EV) · J_lin · h · w          curve:  x = lin(J · L^(γ − 1)) · w

J_lin is the clean picture in linear light; h restores what the clean picture clipped (lamps, the sky at a window
were brighter than white and stay bright in a dark picture); w is the colour of the light that is left, warm for lamps
and blue for dusk, which automatic white balance only partly takes away. The sensor then counts photons, a Poisson
process, and adds the noise of reading (Foi et al., IEEE TIP 17(10), 2008); white balance amplifies its red
and blue values by gains g, and their noise with them::

    n_c ~ N(0, λ_s g_c x_c + λ_r g_c²)

With the signal the noise shrinks only as its square root, and in the dark a camera raises its ISO, which raises λ_s:
`LowLight.sample` couples the two. The noise is smoothed as cameras do (colour more than brightness), and the file
has 8 bits, of which a dark picture uses the lowest few: detail between them is gone.

Left out: fixed-pattern noise and banding, the loss of contrast to stray light, motion blur of the longer exposure
(combine with ``motion-blur``), and tone curves that lift shadows.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from defusion_cli.plugins import Degradation, Image, Position, Scene, param, severity_or_draw
from defusion_cli.plugins.kernels import linear_to_srgb, smooth_noise, srgb_to_linear, to_light, unit_normals

_CURVE_SHARE = 0.3
# White balance of daylight: how much more a sensor's red and blue values are amplified than its green ones; the
# middles of the ranges of Brooks et al., CVPR 2019.
_GAINS = (2.1, 1.0, 1.7)


@dataclass(frozen=True)
class LowLightParams:
    """Parameters of `LowLight`; `ev` and `highlights` belong to ``exposure``, `gamma` to ``curve``."""

    kind: str = param("exposure", choices=("exposure", "curve"), meaning="shorter exposure, or a darkening curve")
    ev: float = param(2.5, unit="stops", low=0.0, high=8.0, meaning="light that is missing: each stop halves it")
    gamma: float = param(2.0, unit="exponent", low=1.0, high=5.0, meaning="exponent γ of the darkening curve")
    highlights: float = param(
        1.0, unit="multiple of white", low=0.0, high=16.0, meaning="how much brighter than white the clipped parts were"
    )
    warmth: float = param(
        0.0, unit="stops", low=-1.0, high=1.0, meaning="colour of the light: red over blue above 0, blue over red below"
    )
    shot: float = param(2e-4, unit="fraction of full scale", low=0.0, high=0.1, meaning="photon noise λ_s")
    read: float = param(1e-7, unit="fraction of full scale squared", low=0.0, high=0.01, meaning="read noise λ_r")
    grain_px: float = param(0.5, unit="px", low=0.0, high=3.0, meaning="smoothing of the noise in brightness")
    chroma_grain_px: float = param(1.5, unit="px", low=0.0, high=6.0, meaning="smoothing of the noise in colour")
    bits: int = param(8, unit="bits", low=0, high=16, meaning="depth of the file; 0 does not round")


class LowLight(Degradation[LowLightParams]):
    """Underexposure with the photon and read noise of what light is left."""

    id = "low-light"
    version = "2"
    summary = "a photograph taken with too little light: dark, noisy, off in colour"
    position = Position.EXPOSURE
    odds_when_named = 7.0
    Params = LowLightParams

    def sample(self, rng: np.random.Generator, severity: float | None = None) -> LowLightParams:
        """From 0.6 to 4 stops (γ from 1.3 to 3), λ_s from 3·10⁻⁵ to 10⁻³ (ISO rises as the light falls).

        Read noise follows Brooks et al. (CVPR 2019): log λ_r = 2.18 log λ_s + 1.20 + N(0, 0.26²).
        """
        s = severity_or_draw(rng, severity)
        kind = "curve" if rng.random() < _CURVE_SHARE else "exposure"
        ev, gamma = 0.6 + 3.4 * s + rng.uniform(-0.2, 0.2), 1.3 + 1.7 * s + rng.uniform(-0.1, 0.1)
        shot = 3e-5 * 33.0**s * np.exp(rng.normal(0.0, 0.5))
        read = np.exp(2.18 * np.log(shot) + 1.20 + rng.normal(0.0, 0.26))
        grain, chroma = rng.random(2)
        return LowLightParams(
            kind=kind,
            ev=float(ev),
            gamma=float(gamma),
            highlights=float(rng.uniform(0.0, 3.0)),
            # Lamps are warm more often than dusk is blue.
            warmth=float(np.clip(rng.normal(0.06, 0.12), -0.3, 0.4)),
            shot=float(shot),
            read=float(read),
            grain_px=float(0.8 * grain),
            chroma_grain_px=float(0.5 + 2.5 * chroma),
        )

    def apply(
        self, image: Image, params: LowLightParams, rng: np.random.Generator, scene: Scene | None = None
    ) -> Image:
        """`image` as the camera would have taken it in less light."""
        normals = unit_normals(rng, image.shape)
        light = remaining_light(image, params)
        dark = linear_to_srgb(light)
        if params.shot > 0 or params.read > 0:
            light += sensor_noise(light, params, normals)
            residual = linear_to_srgb(light)
            residual -= dark
            smooth_noise(residual, params.grain_px, params.chroma_grain_px)
            dark += residual
            np.clip(dark, 0.0, 1.0, out=dark)
        if params.bits:
            steps = np.float32(2**params.bits - 1)
            dark *= steps
            np.rint(dark, out=dark)
            dark /= steps
        return dark

    def neutral(self) -> LowLightParams:
        """All the light there was, no noise, nothing rounded."""
        return LowLightParams(ev=0.0, highlights=0.0, shot=0.0, read=0.0, bits=0)


def remaining_light(image: Image, params: LowLightParams) -> NDArray[np.float32]:
    """Linear light that reaches the sensor, H×W×3, at least 0; above 1 where it is still clipped."""
    if params.kind == "curve":
        brightest = cv2.reduce(image.reshape(-1, 3), 1, cv2.REDUCE_MAX).reshape(image.shape[:2])
        factor = cv2.pow(brightest, params.gamma - 1.0)
        light = srgb_to_linear(cv2.multiply(image, cv2.merge([factor, factor, factor])))
        exposure = 1.0
    else:
        light = to_light(image, "linear", params.highlights)
        exposure = 2.0**-params.ev
    colour = exposure * np.exp2(np.array([0.5, 0.0, -0.5]) * params.warmth)
    result: NDArray[np.float32] = cv2.multiply(light, (*colour.tolist(), 1.0))
    return result


def sensor_noise(
    light: NDArray[np.float32], params: LowLightParams, normals: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Noise in linear light, H×W×3, from unit `normals` of the same shape, which it overwrites."""
    variance = cv2.multiply(light, (*(params.shot * gain for gain in _GAINS), 1.0))
    cv2.add(variance, (*(params.read * gain**2 for gain in _GAINS), 0.0), variance)
    cv2.sqrt(variance, variance)
    normals *= variance
    return normals


LOW_LIGHT = LowLight()
