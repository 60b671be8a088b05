"""Raindrops on the glass: little lenses that show the whole scene upside down.

Model (Qian et al., "Attentive Generative Adversarial Network for Raindrop Removal", CVPR 2018)::

    I = (1 − M) B + R

B is the clean picture, M the drops' coverage, R the light that reaches the sensor through them. Both M and R are
blurred by the same amount, because the glass is out of focus. Drops are metaballs (Blinn, "A Generalization of
Algebraic Surface Drawing", TOG 1982) with the compact kernel w = (1 − ρ²)², egg-shaped, merging on contact; ρ is
the distance from a drop's centre over its radius. Inside, a drop is a strong wide-angle lens: at the offset
u = (x − p)/r from its centre one sees the background at::

    p − k r u / √(1 − 0.6 ρ²)

turned upside down, shrunk k times, more so towards the rim, and out of focus. A drop gathers light from well
beyond the frame, so sky is added below; Fresnel reflection darkens the rim, and the sun leaves one bright spot.
All in linear light. Drops sit on the lens side of everything and do not move with the scene.

Left out: true ray tracing (a drop's height profile and contact angle are folded into k), running drops and
their trails, and dispersion.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from defusion_cli.plugins import Degradation, Image, Position, Scene, param, severity_or_draw
from defusion_cli.plugins.kernels import blur, fractal_noise, linear_to_srgb, srgb_to_linear

_EDGE = 0.06
"""Metaball level at which the water ends. Low, so that only drops that touch flow together."""
_SUPPORT = float(1.0 / np.sqrt(1.0 - np.sqrt(_EDGE)))
"""Reach of the kernel over the radius of a drop, which makes a lone drop end at its radius."""
_OCCUPIED = 0.6
"""Share of the cells of a jittered grid that hold a drop: real drops have swallowed their nearest neighbours."""

Field = NDArray[np.float32]


@dataclass(frozen=True)
class RaindropParams:
    """Parameters of `Raindrop`."""

    density: float = param(150.0, unit="1/Mpx", low=0.0, high=4000.0, meaning="drops per megapixel")
    radius_px: float = param(14.0, unit="px", low=2.0, high=80.0, meaning="median radius of a drop")
    spread: float = param(0.4, unit="log units", low=0.0, high=1.0, meaning="deviation of the logarithm of the radius")
    stretch: float = param(1.2, low=1.0, high=2.5, meaning="height of the upper half over that of the lower half")
    focus_px: float = param(2.0, unit="px", low=0.0, high=40.0, meaning="blur of the drops, out of focus on the glass")
    shrink: float = param(8.0, low=1.0, high=30.0, meaning="how many times smaller the scene is seen in a drop")
    sky: float = param(0.3, low=0.0, high=1.0, meaning="light gathered from beyond the frame, in the lower half")
    rim: float = param(0.4, low=0.0, high=1.0, meaning="darkening of the rim")
    highlight: float = param(0.5, low=0.0, high=2.0, meaning="strength of the bright spot")
    film: float = param(0.0, low=0.0, high=0.5, meaning="share of light scattered by a film of water over all the glass")


class Raindrop(Degradation[RaindropParams]):
    """Drops of water on the lens or on a window in front of it."""

    id = "raindrop"
    summary = "drops of water on the lens, showing the scene upside down"
    position = Position.LENS
    Params = RaindropParams

    def sample(self, rng: np.random.Generator, severity: float | None = None) -> RaindropParams:
        """Drops from a few sharp ones to a glass half covered; severity sets the covered share of the picture."""
        s = severity_or_draw(rng, severity)
        cover = 0.03 + 0.52 * s
        radius = 5.0 * 6.5 ** rng.random()
        spread = rng.uniform(0.2, 0.55)
        area_px = np.pi * radius**2 * np.exp(2 * spread**2)
        focus = radius * (0.04 + 0.66 * rng.random() ** 1.3)
        return RaindropParams(
            density=float(np.clip(-np.log(1.0 - cover) / area_px * 1e6, 0.0, 4000.0)),
            radius_px=float(radius),
            spread=float(spread),
            stretch=float(rng.uniform(1.0, 1.6)),
            focus_px=float(focus),
            shrink=float(rng.uniform(5.0, 18.0)),
            sky=float(rng.uniform(0.1, 0.8)),
            rim=float(rng.uniform(0.2, 0.7)),
            highlight=float(rng.uniform(0.0, 1.0)),
            film=float(s * max(0.0, rng.uniform(-0.12, 0.12))),
        )

    def apply(
        self, image: Image, params: RaindropParams, rng: np.random.Generator, scene: Scene | None = None
    ) -> Image:
        """`image` seen through the wet glass."""
        if params.density <= 0 and params.film <= 0:
            return image.copy()
        h, w = image.shape[:2]
        # Drops are smooth inside; only their outline needs full resolution, and gets it from the smooth field.
        step = 2 if params.radius_px >= 4 and min(h, w) >= 16 else 1
        level, u, v, radius = _metaballs((-(-h // step), -(-w // step)), params, rng, step)
        light = srgb_to_linear(image)
        seen = _refracted(light, (level, u, v, radius), params, rng, step)
        return linear_to_srgb(_through_glass(light, level, seen, params))

    def neutral(self) -> RaindropParams:
        """Dry glass."""
        return RaindropParams(density=0.0)


def _draw_drops(shape: tuple[int, int], params: RaindropParams, rng: np.random.Generator, step: int) -> Field:
    """Drops as rows x, y, r of an N×3 array, in pixels of a grid `step` times coarser than the picture."""
    h, w = shape
    margin = 2.0 * params.radius_px / step
    area_px = (h + 2 * margin) * (w + 2 * margin) * step**2
    count = int(params.density * area_px * 1e-6 + rng.random())
    cell = np.sqrt((h + 2 * margin) * (w + 2 * margin) * _OCCUPIED / max(count, 1))
    columns = int((w + 2 * margin) / cell) + 1
    rows = max(int((h + 2 * margin) / cell) + 1, -(-count // columns))
    row, column = np.divmod(rng.permutation(rows * columns)[:count], columns)
    jitter = rng.random((count, 2))
    drops = np.empty((count, 3), np.float32)
    drops[:, 0] = (column + jitter[:, 0]) / columns * (w + 2 * margin) - margin
    drops[:, 1] = (row + jitter[:, 1]) / rows * (h + 2 * margin) - margin
    scatter = np.clip(rng.standard_normal(count), -2.0, 2.0)
    drops[:, 2] = np.maximum(params.radius_px * np.exp(params.spread * scatter), 1.0) / step
    return drops


def _metaballs(
    shape: tuple[int, int], params: RaindropParams, rng: np.random.Generator, step: int
) -> tuple[Field, Field, Field, Field]:
    """Sum of kernels, and the offsets u, v and radius of the drops, weighted by their kernels (all H×W)."""
    h, w = shape
    drops = _draw_drops(shape, params, rng, step)
    x0, y0, r = drops[:, 0], drops[:, 1], drops[:, 2]
    # All pixels near all drops at once: drop after drop, each with its own bounding box.
    below = np.ceil(r * _SUPPORT).astype(np.int64) + 1
    above = np.ceil(r * _SUPPORT * np.float32(params.stretch)).astype(np.int64) + 1
    width = 2 * below + 1
    area = width * (above + below + 1)
    owner = np.repeat(np.arange(len(drops)), area)
    rows, cols = np.divmod(np.arange(len(owner)) - np.repeat(np.cumsum(area) - area, area), width[owner])
    x = cols + (np.floor(x0).astype(np.int64) - below)[owner]
    y = rows + (np.floor(y0).astype(np.int64) - above)[owner]
    inside = (x >= 0) & (x < w) & (y >= 0) & (y < h)
    owner, x, y = owner[inside], x[inside], y[inside]
    u = (x - x0[owner]) / r[owner]
    v = (y - y0[owner]) / r[owner]
    v = np.where(v < 0, v / np.float32(params.stretch), v)
    weight = np.maximum(1.0 - (u * u + v * v) / np.float32(_SUPPORT**2), 0.0) ** 2

    index = y * w + x
    sums = [
        np.bincount(index, weight * value, minlength=h * w).reshape(h, w).astype(np.float32)
        for value in (1.0, u, v, r[owner])
    ]
    level = sums[0]
    norm = np.maximum(level, 1e-6)
    # Surface tension is never even: an outline that wanders a little.
    wander = fractal_noise(shape, rng, max(1.2 * params.radius_px / step, 2.0), octaves=2)
    return level * (1.0 + 0.25 * wander), sums[1] / norm, sums[2] / norm, sums[3] / norm


def _refracted(
    light: Image, drops: tuple[Field, Field, Field, Field], params: RaindropParams, rng: np.random.Generator, step: int
) -> Image:
    """Light seen through the water, at the drops' resolution."""
    _, u, v, radius = drops
    h, w = light.shape[:2]
    shrunk = 4 if min(h, w) >= 64 else 1
    background = cv2.resize(light, (-(-w // shrunk), -(-h // shrunk)), interpolation=cv2.INTER_AREA)
    background = blur(background, max(0.25 * params.shrink, 1.0) * 4 / shrunk / 2)
    rho2 = np.minimum(u * u + v * v, 1.0)
    reach = (1.0 + np.float32(params.shrink) / np.sqrt(1.0 - 0.6 * rho2)) * radius
    y, x = np.mgrid[0 : u.shape[0], 0 : u.shape[1]].astype(np.float32)
    ratio = np.float32(step / shrunk)
    seen = cv2.remap(
        background, (x - u * reach) * ratio, (y - v * reach) * ratio, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    mean, deviation = background.mean(axis=(0, 1)), background.std(axis=(0, 1))
    sky = np.minimum(mean + 2.5 * deviation, 1.0)
    sky = 0.4 * sky + 0.6 * sky.mean()
    below = np.float32(params.sky) * np.clip(0.35 + 0.65 * v, 0.0, 1.0)
    seen += below[..., None] * (sky - seen)
    seen *= (1.0 - np.float32(params.rim) * rho2**3)[..., None]
    angle = rng.uniform(0.2, 0.8) * np.pi
    spot = (u - np.float32(0.5 * np.cos(angle))) ** 2 + (v - np.float32(0.5 * np.sin(angle))) ** 2
    seen += (np.float32(params.highlight) * np.exp(-spot / 0.02))[..., None]
    return np.clip(seen, 0.0, 1.5)


def _through_glass(light: Image, level: Field, seen: Image, params: RaindropParams) -> Image:
    """(1 − M) B + R, drops and their light blurred alike."""
    h, w = light.shape[:2]
    if params.focus_px < 3:
        level = cv2.resize(level, (w, h), interpolation=cv2.INTER_LINEAR)
        seen = cv2.resize(seen, (w, h), interpolation=cv2.INTER_LINEAR)
    # The level falls by 4 √EDGE (1 − √EDGE) per radius at the edge: an outline one pixel wide.
    per_px = np.float32(4 * np.sqrt(_EDGE) * (1 - np.sqrt(_EDGE)) / params.radius_px * h / level.shape[0])
    mask = np.clip((level - np.float32(_EDGE)) / per_px + np.float32(0.5), 0.0, 1.0)
    drops = cv2.merge([*cv2.split(cv2.multiply(seen, cv2.merge([mask, mask, mask]))), mask])
    drops = _defocused(drops, params.focus_px * level.shape[0] / h)
    if drops.shape[:2] != (h, w):
        drops = cv2.resize(drops, (w, h), interpolation=cv2.INTER_LINEAR)
    red, green, blue, mask = cv2.split(drops)
    if params.film > 0:
        light = light + np.float32(params.film) * (light.mean(axis=(0, 1)) - light)
    clear = 1.0 - mask
    return cv2.add(cv2.multiply(light, cv2.merge([clear, clear, clear])), cv2.merge([red, green, blue]))


def _defocused(drops: Field, sigma_px: float) -> Field:
    """Gaussian blur; a wide one on a coarser grid, where it costs little."""
    h, w = drops.shape[:2]
    coarser = 2 ** max(0, int(np.log2(max(sigma_px, 1.0) / 1.5)))
    if coarser == 1 or min(h, w) < 4 * coarser:
        return blur(drops, sigma_px)
    small = cv2.resize(drops, (w // coarser, h // coarser), interpolation=cv2.INTER_AREA)
    return cv2.resize(blur(small, sigma_px / coarser), (w, h), interpolation=cv2.INTER_LINEAR)


RAINDROP = Raindrop()
