"""Falling snow: three sizes of flakes, smeared by their fall, over a veil of far snow.

A flake hides what lies behind it by its opacity z [1]::

    I = K·(1 − z) + c·z,         z = 1 − Π(1 − z_i)           over all flakes i (screen)
    K = t·J + (1 − t)·a,         t = exp(−β·d)                [2], d the relative depth

Flakes are of one size, so that small, medium and large ones in the picture are far, middle and near ones: distance
scales radius and fall path alike, and near flakes are out of focus, softer and more transparent. Each has its own
irregular outline, swept along its path. Light is linear, or sRGB values (``space="srgb"``), in which the public
sets were made.

The veil is snow too far away to be seen as flakes. Where flakes are equally dense everywhere, every stretch of depth
hides as much as any other (Koschmieder's law for haze): the veil's optical depth is that of the small flakes times
how much farther the scene reaches than they do, and dense snow over a deep scene is never without it.

Left out: the colour fringes that [1] gives its flakes, crystal shapes, flakes hidden by near objects, and snow
on the ground.

References
----------
.. [1] Y.-F. Liu, D.-W. Jaw, S.-C. Huang, J.-N. Hwang, "DesnowNet: context-aware deep network for snow removal",
   IEEE TIP 2018.
.. [2] W.-T. Chen et al., "JSTASR: joint size and transparency-aware snow removal algorithm based on modified
   partial convolution and veiling effect removal", ECCV 2020.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from defusion_cli.plugins import Degradation, Image, Position, Scene, param, severity_or_draw
from defusion_cli.plugins.kernels import blur, fractal_noise, linear_to_srgb, srgb_to_linear


class _Size(NamedTuple):
    """A size class: radius over that of small flakes (1 / distance), edge softness over radius, relative opacity."""

    scale: float
    blur: float
    opacity: float


_SIZES = (_Size(1.0, 0.6, 1.0), _Size(2.6, 0.5, 1.0), _Size(6.5, 0.9, 0.8))
"""Small (far), medium and large (near, out of focus) flakes."""
_OPACITIES = (0.35, 1.0)
"""Of flakes, over that of the densest."""
_DEEP_SHARE, _REACH = 0.4, (2.0, 8.0)
"""How many scenes reach beyond the small flakes, and how often these scenes hold the stretch that small flakes fill.
The others are as in Snow100K: no veil."""
_ROUND_PX = 1.5
"""Below this radius an outline cannot be seen."""
_SAMPLES = 40_000
"""Pixels of flakes computed at a time, few enough to stay in the processor's cache."""
_TILE = 64
"""Side of the noise tile that roughens the outlines, in its own pixels."""


@dataclass(frozen=True)
class SnowParams:
    """Parameters of `Snow`; medium and large flakes are 2.6 and 6.5 times as near as small ones."""

    small: float = param(6000.0, low=0.0, high=40000.0, unit="1/Mpx", meaning="small (far) flakes per megapixel")
    medium: float = param(700.0, low=0.0, high=6000.0, unit="1/Mpx", meaning="medium flakes per megapixel")
    large: float = param(40.0, low=0.0, high=800.0, unit="1/Mpx", meaning="large (near) flakes per megapixel")
    radius_px: float = param(1.1, low=0.4, high=3.0, unit="px", meaning="mean radius of a small flake")
    motion_px: float = param(2.0, low=0.0, high=15.0, unit="px", meaning="path of a small flake during the exposure")
    wind_deg: float = param(10.0, low=-75.0, high=75.0, unit="deg", meaning="slant from the vertical, to the right")
    jitter_deg: float = param(8.0, low=0.0, high=40.0, unit="deg", meaning="deviation of the slant between flakes")
    opacity: float = param(0.8, low=0.0, high=1.0, unit="fraction", meaning="opacity of the densest flakes as recorded")
    roughness: float = param(0.5, low=0.0, high=1.0, unit="fraction of radius", meaning="irregularity of the outlines")
    light: float = param(0.95, low=0.4, high=1.0, unit="fraction of full scale", meaning="light c of a flake")
    veil: float = param(
        0.0, low=0.0, high=3.0, unit="optical depth", meaning="unresolved far snow, at the farthest point"
    )
    space: str = param("linear", choices=("linear", "srgb"), meaning="light in which flakes cover the picture")


class Snow(Degradation[SnowParams]):
    """Three sizes of irregular flakes, and veil."""

    id = "snow"
    version = "3"
    summary = "Falling snow in three flake sizes, with motion and the veil of far snow."
    position = Position.PRECIPITATION
    sparse = True
    Params = SnowParams
    uses_depth = True

    def sample(self, rng: np.random.Generator, severity: float | None = None) -> SnowParams:
        """Style at random, covered area by `severity`: from about 1 % to 30 % of the picture."""
        s = severity_or_draw(rng, severity)
        radius = rng.uniform(0.7, 1.5)
        motion = rng.uniform(0.0, 4.5)
        opacity = (0.45 + 0.4 * s) * rng.uniform(0.8, 1.15)
        cover = 0.01 * 32.0**s * rng.uniform(0.85, 1.15)
        # As in Snow100K: small flakes only, small and medium, or all three.
        shares = np.array([1.0, rng.uniform(0.2, 1.2), rng.uniform(0.1, 0.8)])
        shares[1 + int(rng.choice(3, p=(0.15, 0.3, 0.55))) :] = 0.0
        scales = np.array([size.scale for size in _SIZES])
        areas = scales**2 * (np.pi * radius**2 + 2 * radius * motion)
        counts = np.minimum(cover * shares / shares.sum() / areas * 1e6, (40000.0, 6000.0, 800.0))
        reach = rng.uniform(*_REACH) if rng.random() < _DEEP_SHARE else 0.0
        veil = reach * np.mean(_OPACITIES) * opacity * counts[0] * areas[0] * 1e-6
        return SnowParams(
            small=float(counts[0]),
            medium=float(counts[1]),
            large=float(counts[2]),
            radius_px=float(radius),
            motion_px=float(motion),
            wind_deg=float(np.clip(rng.normal(0.0, 20.0), -60.0, 60.0)),
            jitter_deg=float(rng.uniform(3.0, 15.0)),
            opacity=float(min(opacity, 1.0)),
            roughness=float(rng.uniform(0.3, 0.8)),
            light=float(rng.uniform(0.85, 1.0)),
            veil=float(veil),
            space="srgb" if rng.random() < 0.7 else "linear",
        )

    def needs_depth(self, params: SnowParams) -> bool:
        """Only the veil does."""
        return params.veil > 0

    def apply(self, image: Image, params: SnowParams, rng: np.random.Generator, scene: Scene | None = None) -> Image:
        """Snow over `image`; the veil follows ``scene.depth``, or rises towards the top of the picture."""
        opacity = flake_layer((image.shape[0], image.shape[1]), params, rng)[..., None]
        out = image if params.space == "srgb" else srgb_to_linear(image)
        light = np.float32(params.light)
        if params.veil > 0:
            transmission = np.exp(-np.float32(params.veil) * _depth(image, rng, scene))[..., None]
            out = light + (out - light) * transmission
        out = out + (light - out) * opacity
        out = np.clip(out, 0.0, 1.0, out=out)
        return out if params.space == "srgb" else linear_to_srgb(out)

    def neutral(self) -> SnowParams:
        """No flakes."""
        return SnowParams(small=0.0, medium=0.0, large=0.0, space="srgb")


def _depth(image: Image, rng: np.random.Generator, scene: Scene | None) -> NDArray[np.float32]:
    """H×W relative depth: the known one, or a ground plane under a cloudy sky."""
    if scene is not None and scene.depth is not None:
        return scene.depth
    h, w = image.shape[:2]
    ramp = np.linspace(1.0, 0.25, h, dtype=np.float32)[:, None]
    return np.clip(ramp + 0.1 * fractal_noise((h, w), rng, max(h, w) / 2, octaves=2), 0.0, 1.0)


def flake_layer(shape: tuple[int, int], params: SnowParams, rng: np.random.Generator) -> NDArray[np.float32]:
    """The H×W opacity z of all flakes together."""
    h, w = shape
    tile = _noise_tile(rng, params.roughness)
    # Optical depth −log(1 − z) adds up where flakes overlap: the screen of their opacities.
    border = int(3.0 * _SIZES[-1].scale * (2.0 * params.radius_px + params.motion_px)) + 4
    depth = np.zeros((h + 2 * border, w + 2 * border), np.float32)
    for density, size in zip((params.small, params.medium, params.large), _SIZES, strict=True):
        radius, path = params.radius_px * size.scale, params.motion_px * size.scale
        margin = 2.0 * radius + path
        count = round(density * (h + 2 * margin) * (w + 2 * margin) * 1e-6)
        opacity = params.opacity * size.opacity * rng.uniform(*_OPACITIES, count)
        flakes = np.stack(
            [
                rng.uniform(-margin, w + margin, count),
                rng.uniform(-margin, h + margin, count),
                radius * np.sort(rng.uniform(0.6, 1.4, count)),  # sorted, so that boxes fit their flakes
                path / 2 * rng.uniform(0.7, 1.3, count),
                np.deg2rad(params.wind_deg + params.jitter_deg * rng.standard_normal(count)),
                -np.log1p(-np.minimum(opacity, 0.99)),
                rng.uniform(0, _TILE, count),
            ]
        ).astype(np.float32)
        chunk = max(int(_SAMPLES / (3.0 * radius + path + 3.0) ** 2), 1)
        flakes[:2] += border
        for start in range(0, count, chunk):
            _draw(depth, flakes[:, start : start + chunk], tile, size.blur)
    return np.asarray(1.0 - np.exp(-depth[border : border + h, border : border + w]), np.float32)


def _noise_tile(rng: np.random.Generator, roughness: float) -> NDArray[np.float32]:
    """Smooth noise without a seam, in fractions of a flake's radius."""
    noise = np.tile(rng.standard_normal((_TILE, _TILE), dtype=np.float32), (2, 2))
    tile = blur(noise, 4.0)[_TILE // 2 : -_TILE // 2, _TILE // 2 : -_TILE // 2]
    tile *= np.float32(0.6 * roughness / tile.std())
    return np.clip(tile, -0.4, 0.6)


def _draw(depth: NDArray[np.float32], flakes: NDArray[np.float32], tile: NDArray[np.float32], blurred: float) -> None:
    """Add flakes (rows x, y, radius, half path, slant in rad, optical depth, place in `tile`) to `depth`."""
    x, y, radius, half, slant, value, place = (row[:, None, None] for row in flakes)
    sin, cos = np.sin(slant), np.cos(slant)
    soft = np.maximum(np.float32(1.0), np.float32(blurred) * radius)
    reach = (1.4 if radius.max() > _ROUND_PX else 1.0) * radius + soft / 2
    extent_x = int(np.ceil((reach + half * np.abs(sin)).max() - 0.5))
    extent_y = int(np.ceil((reach + half * np.abs(cos)).max() - 0.5))
    columns, rows = np.arange(-extent_x, extent_x + 1), np.arange(-extent_y, extent_y + 1)[:, None]
    column, row = np.rint(x), np.rint(y)
    dx, dy = (columns + (column - x)).astype(np.float32), (rows + (row - y)).astype(np.float32)
    along, across = dx * sin + dy * cos, dx * cos - dy * sin
    # A pixel near an end of the path sees the flake for less of the exposure, all the more so on long paths.
    short = np.minimum(half, radius)
    fade = np.clip((np.abs(along) + (short - half)) / (short + 1.3 * radius), 0.0, 1.0) * (short / radius)
    along -= np.clip(along, -half, half)  # the flake is swept along its path: measure from the nearest point of it
    distance = cv2.magnitude(along.reshape(-1, 1), across.reshape(-1, 1)).reshape(along.shape)
    if radius.max() > _ROUND_PX:
        # Every outline is read from a place of its own in the tile, twelve tile pixels to a radius.
        along *= 12.0 / radius
        across *= 12.0 / radius
        u, v = (along + place).astype(np.int32), (across + 7.0 * place).astype(np.int32)
        u &= _TILE - 1
        v &= _TILE - 1
        v *= _TILE
        distance += radius * tile.reshape(-1)[u + v]
    cover = np.clip((radius + soft / 2 - distance) / soft, 0.0, 1.0)
    cover *= cover * (3.0 - 2.0 * cover) * (1.0 - fade) * value
    index = row.astype(np.int64) * depth.shape[1] + column.astype(np.int64) + (rows * depth.shape[1] + columns)
    np.add.at(depth.reshape(-1), index.reshape(-1), cover.reshape(-1))


SNOW = Snow()
