"""Sensor noise: white Gaussian noise, and what a camera makes of photon and read noise.

``gaussian`` is the benchmark's additive white Gaussian noise, I = J + n with n ~ N(0, σ²) in the picture's own
(sRGB) values. Papers give either σ or the variance σ² on the 0–255 scale, so `NoiseParams.unit` says which.

``camera`` follows Brooks et al., "Unprocessing images for learned raw denoising" (CVPR 2019). The picture is taken
back to what the sensor saw: inverse tone curve y = ½ − sin(asin(1 − 2x) / 3), inverse gamma y^2.2, inverse colour
matrix M and inverse white balance G. Photons arrive as a Poisson process and reading adds a constant, which is
close to a normal distribution of variance (their equation 2, after Foi et al., IEEE TIP 17(10), 2008)::

    n ~ N(0, λ_s · x + λ_r)    with x in [0, 1] at each site of an RGGB mosaic

Then forward again: bilinear demosaicing, G, M, gamma and tone curve. All of that up to the gamma is linear, so
only the noise is demosaiced and added to the unprocessed picture: the residual is pure noise, without the blur and
fringes of demosaicing. Cameras also smooth the finished picture, colour more than brightness; `grain_px` and
`chroma_grain_px` are the widths of those two Gaussian smoothings of the noise. Twenty camera files of the PolyU set
(Xu et al. 2018) measure 2–5.5 grey levels in luma, neighbours correlated by 0.3–0.7 in luma and 0.9 in chroma. The
ranges here contain the strengths; demosaicing alone correlates luma by 0.5, so sharpened files are grainier.

Left out: fixed-pattern and row noise, hot pixels, edge-aware denoising, clipping of the raw value at saturation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from defusion_cli.plugins import Degradation, Image, Position, Scene, param, severity_or_draw
from defusion_cli.plugins.kernels import look_up, smooth_noise, unit_normals

Array = NDArray[np.float32]

_LEVELS = 65536
# Rows and columns of the red, green and blue sites in each 2×2 cell of the sensor.
_SITES = (((0, 0),), ((0, 1), (1, 0)), ((1, 1),))
# Colour matrices from XYZ to the sensors of four cameras, and from linear sRGB to XYZ (Brooks et al. 2019).
_XYZ_TO_CAMERA = np.array(
    [
        [[1.0234, -0.2969, -0.2266], [-0.5625, 1.6328, -0.0469], [-0.0703, 0.2188, 0.6406]],
        [[0.4913, -0.0541, -0.0202], [-0.6130, 1.3513, 0.2906], [-0.1564, 0.2151, 0.7183]],
        [[0.8380, -0.2630, -0.0639], [-0.2887, 1.0725, 0.2496], [-0.0627, 0.1427, 0.5438]],
        [[0.6596, -0.2079, -0.0562], [-0.4782, 1.3016, 0.1933], [-0.0970, 0.1581, 0.5181]],
    ]
)
_RGB_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


@dataclass(frozen=True)
class NoiseParams:
    """Parameters of `Noise`; `sigma` and `unit` belong to ``gaussian``, the rest to ``camera``."""

    kind: str = param("gaussian", choices=("gaussian", "camera"), meaning="white Gaussian noise, or a camera's")
    sigma: float = param(25.0, unit="0–255 scale", low=0.0, high=10000.0, meaning="strength of the Gaussian noise")
    unit: str = param("sigma", choices=("sigma", "variance"), meaning="whether sigma is the standard deviation σ or σ²")
    shot: float = param(0.005, unit="fraction of full scale", low=0.0, high=0.1, meaning="photon noise λ_s")
    read: float = param(3e-5, unit="fraction of full scale squared", low=0.0, high=0.01, meaning="read noise λ_r")
    grain_px: float = param(0.5, unit="px", low=0.0, high=3.0, meaning="smoothing of the noise in brightness")
    chroma_grain_px: float = param(1.5, unit="px", low=0.0, high=6.0, meaning="smoothing of the noise in colour")


@lru_cache(maxsize=2)
def _tone_table(forward: bool) -> Array:
    x = np.linspace(0.0, 1.0, _LEVELS)
    if forward:
        y = x ** (1 / 2.2)
        y = 3 * y**2 - 2 * y**3
    else:
        y = (0.5 - np.sin(np.arcsin(1 - 2 * x) / 3)) ** 2.2
    return np.asarray(y, np.float32)


def _draw_camera(rng: np.random.Generator) -> NDArray[np.float64]:
    """3×3 matrix from linear sRGB to raw sensor values: a random mix of cameras and white balances."""
    weights = rng.dirichlet(np.ones(len(_XYZ_TO_CAMERA)))
    matrix = np.tensordot(weights, _XYZ_TO_CAMERA, 1) @ _RGB_TO_XYZ
    matrix /= matrix.sum(axis=1, keepdims=True)
    red, blue = rng.uniform(1.9, 2.4), rng.uniform(1.5, 1.9)
    exposure = np.clip(rng.normal(0.8, 0.1), 0.5, 1.1)
    return np.asarray(matrix * exposure / np.array([[red], [1.0], [blue]]))


def _demosaic(mosaic: Array, out: Array) -> None:
    """H×W values at the sites of an RGGB sensor to H×W×3 in `out`, by bilinear interpolation."""
    tent = np.array([0.5, 1.0, 0.5], np.float32)
    cross = np.array([[0, 0.25, 0], [0.25, 1, 0.25], [0, 0.25, 0]], np.float32)
    planes = np.zeros((3, *mosaic.shape), np.float32)
    for channel, plane in enumerate(planes):
        for y, x in _SITES[channel]:
            plane[y::2, x::2] = mosaic[y::2, x::2]
        if channel == 1:
            cv2.filter2D(plane, -1, cross, dst=plane, borderType=cv2.BORDER_REFLECT_101)
        else:
            cv2.sepFilter2D(plane, -1, tent, tent, dst=plane, borderType=cv2.BORDER_REFLECT_101)
    cv2.merge(list(planes), dst=out)


def _camera_noise(image: Image, params: NoiseParams, rng: np.random.Generator) -> Array:
    # In place wherever possible: fresh memory costs more than these sums.
    to_raw = _draw_camera(rng)
    light = look_up(image, _tone_table(False))
    raw = cv2.transform(light, to_raw.astype(np.float32))
    noise = np.empty(image.shape[:2], np.float32)
    for channel, sites in enumerate(_SITES):
        for y, x in sites:
            noise[y::2, x::2] = raw[y::2, x::2, channel]
    np.maximum(noise, 0, out=noise)
    noise *= np.float32(params.shot)
    noise += np.float32(params.read)
    np.sqrt(noise, out=noise)
    noise *= unit_normals(rng, noise.shape)
    _demosaic(noise, raw)
    light += cv2.transform(raw, np.linalg.inv(to_raw).astype(np.float32), dst=raw)
    residual = look_up(light, _tone_table(True), in_place=True)
    residual -= image
    smooth_noise(residual, params.grain_px, params.chroma_grain_px)
    return residual


class Noise(Degradation[NoiseParams]):
    """White Gaussian noise, or Poisson–Gaussian noise through a camera's processing."""

    id = "noise"
    version = "2"
    summary = "Gaussian noise of given sigma or variance, or photon and read noise through a camera pipeline"
    position = Position.SENSOR
    Params = NoiseParams

    def sample(self, rng: np.random.Generator, severity: float | None = None) -> NoiseParams:
        """Half Gaussian with σ from 2 to 60, half camera noise with λ_s from 10⁻⁴ to 0.02.

        The read noise follows Brooks et al.: log λ_r = 2.18 log λ_s + 1.20 + N(0, 0.26²). Most camera noise has
        its colours smoothed, as in files finished by the camera; one draw in seven is what a raw converter shows.
        """
        severity = severity_or_draw(rng, severity)
        camera, finished, grain, chroma = (float(u) for u in rng.random(4))
        scatter = float(rng.normal(0.0, 0.26))
        if camera < 0.5:
            return NoiseParams(sigma=2.0 + 58.0 * severity**1.25)
        shot = 1e-4 * 200.0**severity
        read = float(np.exp(2.18 * np.log(shot) + 1.20 + scatter))
        if finished < 0.85:
            return NoiseParams("camera", shot=shot, read=read, grain_px=0.7 * grain, chroma_grain_px=1 + 2.5 * chroma)
        return NoiseParams("camera", shot=shot, read=read, grain_px=0.2 * grain, chroma_grain_px=0.5 * chroma)

    def apply(self, image: Image, params: NoiseParams, rng: np.random.Generator, scene: Scene | None = None) -> Image:
        """The picture with noise, clipped to [0, 1]."""
        if params.kind == "camera":
            noisy = _camera_noise(image, params, rng)
        else:
            sigma = params.sigma if params.unit == "sigma" else params.sigma**0.5
            noisy = unit_normals(rng, image.shape)
            noisy *= np.float32(sigma / 255)
        noisy += image
        return np.clip(noisy, 0.0, 1.0, out=noisy)

    def neutral(self) -> NoiseParams:
        """Gaussian noise of strength zero."""
        return NoiseParams(sigma=0.0)


NOISE = Noise()
