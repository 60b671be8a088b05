"""Rain streaks at many distances, with the veil of heavy rain.

A drop crosses a pixel in a small part τ of the exposure T, so it adds light without hiding what is behind it [1]::

    additive    I = min(1, J + S)
    screen      I = 1 − (1 − J)(1 − S)                        [2]
    occlusion   I = J·exp(−S) + c·(1 − exp(−S))               opaque drops of light c
    heavy rain  I = t·(J ⊕ S) + (1 − t)·c,  t = exp(−β·d)     [3], ⊕ one of the three above

S is the sum of the single streaks. A drop at distance z leaves a streak of length and width ∝ 1/z, the number of
drops in the field of view grows as z² dz: far rain is fine and dense, near rain long, wide and rare. A slow shutter
draws long faint streaks, a fast one short bright ones. A streak thinner than a pixel gets fainter instead of thinner;
a near one is out of focus, wider and softer [4]. Several fall directions can lie over one another, as in the synthetic
set Rain100H. Light is linear, or sRGB values (``space="srgb"``), in which the public sets were made.

Left out: the brightness pattern of an oscillating drop, refraction of the scene inside the drop, splashes, and
drops hidden by near objects.

References
----------
.. [1] K. Garg, S. K. Nayar, "Detection and removal of rain from videos", CVPR 2004.
.. [2] Y. Luo, Y. Xu, H. Ji, "Removing rain from a single image via discriminative sparse coding", ICCV 2015.
.. [3] R. Li, L.-F. Cheong, R. T. Tan, "Heavy rain image restoration", CVPR 2019.
.. [4] S. S. Halder, J.-F. Lalonde, R. de Charette, "Physics-based rendering for improving robustness to rain",
   ICCV 2019.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from defusion_cli.plugins import Degradation, Image, Position, Scene, param, severity_or_draw
from defusion_cli.plugins.kernels import blur, fractal_noise, linear_to_srgb, srgb_to_linear

_BRIEF_SHARE = 0.25
"""Of the draws, those of a shutter so fast (1/500 s and less, as of moving people in daylight) that a drop falls only
three to eleven times its size: short, broad, bright streaks that turbulence turns one by one."""
_CHUNK = 1024
"""Streaks drawn at a time, few enough to stay in the processor's cache."""


@dataclass(frozen=True)
class RainParams:
    """Parameters of `Rain`; sizes are those of a streak at the median distance."""

    density: float = param(3000.0, low=0.0, high=30000.0, unit="1/Mpx", meaning="streaks per megapixel")
    length_px: float = param(30.0, low=2.0, high=200.0, unit="px", meaning="length of a streak")
    width_px: float = param(1.5, low=0.3, high=8.0, unit="px", meaning="width of a streak")
    brightness: float = param(0.3, low=0.0, high=1.0, unit="fraction of full scale", meaning="light added by a streak")
    wind_deg: float = param(8.0, low=-60.0, high=60.0, unit="deg", meaning="slant from the vertical, to the right")
    jitter_deg: float = param(2.0, low=0.0, high=15.0, unit="deg", meaning="deviation of the slant between streaks")
    directions: int = param(1, low=1, high=5, unit="", meaning="fall directions laid over one another")
    spread_deg: float = param(12.0, low=0.0, high=40.0, unit="deg", meaning="how far the other directions may lie away")
    soft_px: float = param(0.0, low=0.0, high=4.0, unit="px", meaning="blur of the streaks (σ), on top of their own")
    depth_range: float = param(3.0, low=1.0, high=8.0, unit="far/near", meaning="farthest distance over the nearest")
    gusts: float = param(0.3, low=0.0, high=1.0, unit="fraction", meaning="unevenness of the rain over the picture")
    veil: float = param(0.0, low=0.0, high=3.0, unit="optical depth", meaning="mist of far rain at the farthest point")
    sky: float = param(
        0.8, low=0.2, high=1.0, unit="fraction of full scale", meaning="light of the veil and of opaque drops"
    )
    blend: str = param("additive", choices=("additive", "screen", "occlusion"), meaning="how streaks meet the picture")
    space: str = param("linear", choices=("linear", "srgb"), meaning="light in which they meet")


class Rain(Degradation[RainParams]):
    """Rain streaks by distance, one or several directions, and veil."""

    id = "rain"
    version = "3"
    summary = "Rain streaks at several depths, with the mist of heavy rain."
    position = Position.PRECIPITATION
    sparse = True
    faintest = (3.0, 12.0)  # fine bright lines look like streaks
    named_draws = (0, 2)  # of a fast shutter, and of a slow one
    Params = RainParams
    uses_depth = True

    def sample(self, rng: np.random.Generator, severity: float | None = None) -> RainParams:
        """Style at random, amount by `severity`: mean added light from about 0.005 to 0.3."""
        s = severity_or_draw(rng, severity)
        srgb = bool(rng.random() < 0.75)
        light = 0.005 * 65.0**s * rng.uniform(0.85, 1.15) * (1.0 if srgb else 0.5)
        width = rng.uniform(0.7 + 0.3 * s, 1.5 + 1.0 * s)
        length = width * 11.0 * 6.0 ** rng.beta(1.3 + 1.5 * s, 2.0)  # v·T of a falling drop, in diameters
        brightness = (0.12 + 0.1 * s) * rng.uniform(0.8, 1.8) * (1.0 if srgb else 0.6)
        brightness = max(brightness, light / 1.2)  # brighter, not ever more, streaks
        depth_range = rng.uniform(1.0, 4.0 - s)
        directions = 1 if rng.random() > 0.2 + 0.4 * s else int(rng.integers(2, 6))
        veil = rng.uniform(0.0, 0.03 + 0.8 * s**2) if rng.random() < 0.3 else 0.0
        wind, jitter = rng.normal(0.0, 14.0), rng.uniform(0.3, 5.0)
        spread, gusts, sky = rng.uniform(5.0, 30.0), rng.uniform(0.0, 0.6 - 0.3 * s), rng.uniform(0.55, 0.95)
        blend = ("additive", "screen", "occlusion")[int(rng.choice(3, p=(0.65, 0.25, 0.1)))]
        soft = 0.0
        if rng.random() < _BRIEF_SHARE:
            width *= rng.uniform(1.0, 1.8)
            length = width * 2.5 * 4.4 ** rng.random()
            soft = rng.uniform(0.0, 0.5) * width
            brightness = min(brightness * rng.uniform(1.2, 3.0), 0.9)
            depth_range = rng.uniform(2.0, 4.0)
            wind, jitter, directions = 1.5 * wind, 2.0 * jitter, 1
        return RainParams(
            density=float(min(light / (length * width * brightness * 1e-6), 30000.0)),
            length_px=float(length),
            width_px=float(width),
            brightness=float(brightness),
            wind_deg=float(np.clip(wind, -45.0, 45.0)),
            jitter_deg=float(jitter),
            directions=directions,
            spread_deg=float(spread),
            soft_px=float(soft),
            depth_range=float(depth_range),
            gusts=float(gusts),
            veil=float(veil),
            sky=float(sky),
            blend=blend,
            space="srgb" if srgb else "linear",
        )

    def needs_depth(self, params: RainParams) -> bool:
        """Only the veil does."""
        return params.veil > 0

    def apply(self, image: Image, params: RainParams, rng: np.random.Generator, scene: Scene | None = None) -> Image:
        """Rain over `image`; the veil follows ``scene.depth``, or rises towards the top of the picture."""
        streaks = blur(streak_layer((image.shape[0], image.shape[1]), params, rng), params.soft_px)[..., None]
        base = image if params.space == "srgb" else srgb_to_linear(image)
        if params.blend == "additive":
            out = base + streaks
        elif params.blend == "screen":
            out = 1.0 - (1.0 - base) * (1.0 - np.minimum(streaks, 1.0))
        else:
            clear = np.exp(-streaks)
            out = base * clear + np.float32(params.sky) * (1.0 - clear)
        if params.veil > 0:
            transmission = np.exp(-np.float32(params.veil) * _depth(image, rng, scene))[..., None]
            out = transmission * out + (1.0 - transmission) * np.float32(params.sky)
        out = np.clip(out, 0.0, 1.0, out=out)
        return out if params.space == "srgb" else linear_to_srgb(out)

    def neutral(self) -> RainParams:
        """No drops."""
        return RainParams(density=0.0, space="srgb")


def _depth(image: Image, rng: np.random.Generator, scene: Scene | None) -> NDArray[np.float32]:
    """H×W relative depth: the known one, or a ground plane under clouds of rain."""
    if scene is not None and scene.depth is not None:
        return scene.depth
    h, w = image.shape[:2]
    ramp = np.linspace(1.0, 0.25, h, dtype=np.float32)[:, None]
    return np.clip(ramp + 0.1 * fractal_noise((h, w), rng, max(h, w) / 2, octaves=2), 0.0, 1.0)


def streak_layer(shape: tuple[int, int], params: RainParams, rng: np.random.Generator) -> NDArray[np.float32]:
    """S, the H×W light that the streaks add (unclipped sum), in units of full scale."""
    h, w = shape
    # Distances whose cube is uniform fill the field of view evenly; the median distance is 1.
    far = np.cbrt(2.0 / (1.0 + params.depth_range**-3))
    near = far / params.depth_range
    # A streak that starts outside may still reach in: seeds fall in a frame wider by the longest half streak.
    reach = 0.7 * params.length_px / near
    aside = reach * np.sin(np.deg2rad(min(abs(params.wind_deg) + params.spread_deg, 75.0))) + 4.0
    count = round(params.density * (h + 2 * reach) * (w + 2 * aside) * 1e-6)
    offsets = rng.uniform(-params.spread_deg, params.spread_deg, params.directions)
    offsets[0] = 0.0
    gusts = np.maximum(1.0 + params.gusts * fractal_noise((16, 16), rng, 8.0, octaves=2), 0.0)
    x, y = rng.uniform(-aside, w + aside, count), rng.uniform(-reach, h + reach, count)
    z = np.cbrt(np.sort(rng.uniform(near**3, far**3, count)))  # sorted, so that streaks drawn together are as wide
    slant = params.wind_deg + offsets[rng.integers(0, params.directions, count)]
    slant += params.jitter_deg * rng.standard_normal(count)
    slant = np.deg2rad(np.clip(slant, -75.0, 75.0))
    length = params.length_px / z * rng.uniform(0.6, 1.4, count)
    light = params.brightness * rng.uniform(0.5, 1.5, count)
    light *= gusts[np.clip(y * 16 / h, 0, 15).astype(int), np.clip(x * 16 / w, 0, 15).astype(int)]
    width = params.width_px / z
    seen = np.hypot(np.maximum(width, 1.0), np.maximum(1.0 / z - 1.0, 0.0))
    light *= width / seen
    streaks = np.stack([x, y, slant, length, seen, light]).astype(np.float32)
    border = 2 + int(np.ceil(((seen + 1.0) / np.cos(slant)).max(initial=0.0)))
    padded = np.zeros((h, w + 2 * border), np.float32)
    for start in range(0, count, _CHUNK):
        _draw(padded, border, streaks[:, start : start + _CHUNK])
    return padded[:, border:-border]


def _draw(layer: NDArray[np.float32], border: int, streaks: NDArray[np.float32]) -> None:
    """Add antialiased streaks to `layer`, whose outer `border` columns lie beside the picture.

    The rows of `streaks` are x and y of the middle, slant in rad, length, width, light.
    """
    h, w = layer.shape[0], layer.shape[1] - 2 * border
    x, y, slant, length, width, light = streaks
    cos = np.cos(slant)
    half = length * cos / 2
    first = np.clip(np.ceil(y - half), 0, h).astype(np.int64)
    rows = np.maximum(np.clip(np.floor(y + half) + 1, 0, h).astype(np.int64) - first, 0)
    # One entry for each picture row a streak crosses, then as many columns as the widest streak needs.
    owner = np.repeat(np.arange(rows.size), rows)
    row = np.arange(owner.size) - np.repeat(np.cumsum(rows) - rows - first, rows)
    below = row.astype(np.float32) - y[owner]
    centre = x[owner] + np.tan(slant)[owner] * below
    ends = np.minimum(3.0 * (1.0 - np.abs(below) / (half + np.float32(0.5))[owner]), 1.0)
    peak = light[owner] * ends
    reach = (width / 2 + np.float32(0.5)) / cos
    steps = int(np.ceil(2 * reach.max()))
    # Streaks beside the picture are drawn, at coverage 0, in the border that is cut off.
    left = np.clip(np.ceil(centre - reach[owner]), -border, w)
    flat, index = layer.reshape(-1), row * layer.shape[1] + left.astype(np.int64) + border
    across = left - centre
    cos_row, edge = cos[owner], (width / 2 + np.float32(0.5))[owner]
    for _ in range(steps):
        cover = np.clip(edge - np.abs(across) * cos_row, 0.0, 1.0)
        np.add.at(flat, index, cover * peak)
        across += 1.0
        index += 1


RAIN = Rain()
