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
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from defusion_cli.plugins import Degradation, Image, Position, Scene, param, severity_or_draw
from defusion_cli.plugins.kernels import (
    blur,
    fractal_noise,
    linear_to_srgb,
    linear_to_srgb_8bit,
    srgb_8bit_to_linear,
    srgb_to_linear,
)

_EDGE = 0.06
"""Metaball level at which the water ends. Low, so that only drops that touch flow together."""
_SUPPORT = float(1.0 / np.sqrt(1.0 - np.sqrt(_EDGE)))
"""Reach of the kernel over the radius of a drop, which makes a lone drop end at its radius."""
_OCCUPIED = 0.6
"""Share of the cells of a jittered grid that hold a drop: real drops have swallowed their nearest neighbours."""

_SAMPLES = 20_000
"""Pixels of drops computed at a time, few enough to stay in the processor's cache."""

Field = NDArray[np.float32]


class _Water(NamedTuple):
    """Drops on a grid, all H×W: sum of kernels, offset from the centre over the radius, and the radius."""

    level: Field
    u: Field
    v: Field
    radius: Field


@dataclass(frozen=True)
class RaindropParams:
    """Parameters of `Raindrop`."""

    density: float = param(150.0, unit="1/Mpx", low=0.0, high=10000.0, meaning="drops per megapixel")
    radius_px: float = param(14.0, unit="px", low=2.0, high=80.0, meaning="median radius of a drop")
    spread: float = param(0.4, unit="log units", low=0.0, high=1.0, meaning="deviation of the logarithm of the radius")
    stretch: float = param(1.2, low=1.0, high=2.5, meaning="height of the upper half over that of the lower half")
    focus_px: float = param(2.0, unit="px", low=0.0, high=40.0, meaning="blur of the drops, out of focus on the glass")
    shrink: float = param(8.0, low=1.0, high=30.0, meaning="how many times smaller the scene is seen in a drop")
    sky: float = param(0.3, low=0.0, high=1.0, meaning="light gathered from beyond the frame, in the lower half")
    rim: float = param(0.4, low=0.0, high=1.0, meaning="darkening of the rim")
    highlight: float = param(0.5, low=0.0, high=2.0, meaning="strength of the bright spot")
    film: float = param(0.0, low=0.0, high=0.5, meaning="share of light scattered by a film over all the glass")


class Raindrop(Degradation[RaindropParams]):
    """Drops of water on the lens or on a window in front of it."""

    id = "raindrop"
    version = "2"
    summary = "drops of water on the lens, showing the scene upside down"
    position = Position.LENS
    sparse = True
    faintest = (6.0, 20.0)  # bright and soft things look like drops, which are seldom faint
    odds_when_named = 300.0
    Params = RaindropParams

    def sample(self, rng: np.random.Generator, severity: float | None = None) -> RaindropParams:
        """Drops from a few sharp ones to a glass half covered; severity sets the covered share of the picture."""
        s = severity_or_draw(rng, severity)
        cover = 0.02 + 0.45 * s
        radius = 5.0 * 6.5 ** rng.random()
        spread = rng.uniform(0.2, 0.55)
        area_px = np.pi * radius**2 * np.exp(2 * spread**2)
        focus = radius * (0.04 + 0.8 * rng.random() ** 1.3)
        return RaindropParams(
            density=float(np.clip(-np.log(1.0 - cover) / area_px * 1e6, 0.0, 10000.0)),
            radius_px=float(radius),
            spread=float(spread),
            stretch=float(rng.uniform(1.0, 1.6)),
            focus_px=float(focus),
            shrink=float(rng.uniform(5.0, 18.0)),
            sky=float(rng.uniform(0.1, 0.9)),
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
        return linear_to_srgb(self._wet(srgb_to_linear(image), params, rng))

    def apply_8bit(
        self, picture: NDArray[np.uint8], params: RaindropParams, rng: np.random.Generator, scene: Scene | None = None
    ) -> NDArray[np.uint8]:
        """`picture` seen through the wet glass."""
        if params.density <= 0 and params.film <= 0:
            return picture.copy()
        return linear_to_srgb_8bit(self._wet(srgb_8bit_to_linear(picture), params, rng))

    def neutral(self) -> RaindropParams:
        """Dry glass."""
        return RaindropParams(density=0.0)

    def _wet(self, light: Image, params: RaindropParams, rng: np.random.Generator) -> Image:
        """Linear light of the picture to that behind the glass."""
        h, w = light.shape[:2]
        step = _grid_step(params.radius_px, min(h, w))
        water = _metaballs((-(-h // step), -(-w // step)), params, rng, step)
        shrunk = 4 if min(h, w) >= 64 else 1
        background = cv2.resize(light, (-(-w // shrunk), -(-h // shrunk)), interpolation=cv2.INTER_AREA)
        background = blur(background, max(0.25 * params.shrink, 1.0) * 2 / shrunk)
        sky = _sky_light(background, rng)
        seen = _refracted(background, step / shrunk, water, params, sky)
        seen = cv2.add(seen, _thrice(_sun(water, params, rng)), seen)
        film = _film(water.level.shape, params, rng)
        glow, cover = _drop_layer((h, w), water.level, seen, (film, sky), params)
        cv2.accumulateProduct(light, _thrice(1.0 - cover), glow)
        return glow


def _grid_step(radius_px: float, shorter_side: int) -> int:
    """Pixels of the picture to one of the drops' grid: drops are smooth inside, and so is the field that ends them."""
    if shorter_side < 16 or radius_px < 4:
        return 1
    return 2 if radius_px < 12 else 4


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


def _metaballs(shape: tuple[int, int], params: RaindropParams, rng: np.random.Generator, step: int) -> _Water:
    """All drops on one grid; where several overlap, offsets and radii are averaged by their kernels."""
    drops = _draw_drops(shape, params, rng, step)
    drops = drops[np.argsort(drops[:, 2])]  # by size, so that boxes fit their drops
    sums = np.zeros((4, *shape), np.float32)
    start = 0
    while start < len(drops):
        box = (2.0 * _SUPPORT * drops[start, 2] + 3.0) ** 2
        end = start + min(max(int(_SAMPLES / box), 1), 1 + len(drops) // 4)
        _add_kernels(sums, drops[start:end], params.stretch)
        start = end
    # Surface tension is never even: an outline that wanders a little.
    wander = fractal_noise(shape, rng, max(1.2 * params.radius_px / step, 2.0), octaves=2)
    wander *= np.float32(0.25)
    wander += 1
    u, v, radius = sums[1:] / np.maximum(sums[0], np.float32(1e-6))
    return _Water(np.multiply(sums[0], wander, out=wander), u, v, radius)


def _add_kernels(sums: Field, drops: Field, stretch: float) -> None:
    """Add w, w u, w v and w r of `drops` (N×3, about one size) to `sums`, 4×H×W."""
    h, w = sums.shape[1:]
    x0, y0, r = (column[:, None, None] for column in drops.T)
    largest = float(r.max()) * _SUPPORT
    below, above = int(largest) + 1, int(largest * stretch) + 1
    columns, rows = np.rint(x0) + np.arange(-below, below + 1), np.rint(y0) + np.arange(-above, below + 1)[:, None]
    u, v = ((columns - x0) / r).astype(np.float32), ((rows - y0) / r).astype(np.float32)
    v[v < 0] /= np.float32(stretch)
    weight = u * u + v * v
    weight *= np.float32(-1 / _SUPPORT**2)
    weight += 1
    # What lies outside the picture is put on its edge with no weight.
    weight *= ((columns >= 0) & (columns < w)) & ((rows >= 0) & (rows < h))
    np.maximum(weight, 0, out=weight)
    weight *= weight
    index = (np.clip(rows, 0, h - 1) * w + np.clip(columns, 0, w - 1)).astype(np.intp).reshape(-1)
    for total, value in zip(sums, (weight, weight * u, weight * v, weight * r), strict=True):
        np.add.at(total.reshape(-1), index, value.reshape(-1))


def _thrice(field: Field) -> Image:
    # OpenCV multiplies pictures of three channels several times faster than numpy broadcasts one.
    return cv2.merge([field, field, field])


def _refracted(background: Image, scale: float, water: _Water, params: RaindropParams, sky: Field) -> Image:
    """Light seen through the water; `scale` is the size of `background` over that of the drops' grid."""
    _, u, v, radius = water
    rho2 = np.minimum(u * u + v * v, 1.0)
    reach = np.float32(-scale * params.shrink) / np.sqrt(1.0 - np.float32(0.6) * rho2) - np.float32(scale)
    reach *= radius
    x, y = u * reach, v * reach
    x += np.arange(0, u.shape[1], dtype=np.float32) * np.float32(scale)
    y += np.arange(0, u.shape[0], dtype=np.float32)[:, None] * np.float32(scale)
    seen = cv2.remap(background, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    rim = 1.0 - np.float32(params.rim) * rho2 * rho2 * rho2
    beyond = np.clip(np.float32(0.45) + np.float32(0.55) * v, 0.0, 1.0)
    beyond *= np.float32(params.sky) * rim
    cv2.multiply(seen, _thrice(rim - beyond), seen)
    return cv2.add(seen, cv2.merge([beyond * value for value in sky]), seen)


def _sky_light(background: Image, rng: np.random.Generator) -> Field:
    """What a drop sees beyond the frame: about the brightest large thing within it, paler, often bluer."""
    mean, deviation = (values.ravel() for values in cv2.meanStdDev(background))
    bright = np.minimum(mean + 2.5 * deviation, 1.0)
    blue = rng.uniform(-0.03, 0.12)
    tinted = (0.4 * bright + 0.6 * bright.mean()) * np.array([1.0 - blue, 1.0, 1.0 + blue])
    return np.clip(tinted, 0.0, 1.0).astype(np.float32)


def _sun(water: _Water, params: RaindropParams, rng: np.random.Generator) -> Field:
    """One bright spot in the lower half of every drop, on the same side of all."""
    angle = rng.uniform(0.2, 0.8) * np.pi
    spot = (water.u - np.float32(0.5 * np.cos(angle))) ** 2 + (water.v - np.float32(0.5 * np.sin(angle))) ** 2
    return np.float32(params.highlight) * cv2.exp(spot / np.float32(-0.02))


def _film(shape: tuple[int, int], params: RaindropParams, rng: np.random.Generator) -> Field:
    """Share of light that a patchy film of water scatters, H×W."""
    h, w = shape
    if params.film == 0:
        return np.zeros(shape, np.float32)
    noise = fractal_noise((-(-h // 8), -(-w // 8)), rng, max(max(h, w) / 16, 2.0), octaves=3)
    return cv2.resize(np.float32(params.film) * np.clip(1.0 + 0.8 * noise, 0.0, 2.0), (w, h))


def _drop_layer(
    shape: tuple[int, int], level: Field, seen: Image, film: tuple[Field, Field], params: RaindropParams
) -> tuple[Image, Field]:
    """R (H×W×3) and M (H×W), film of water included, out of focus."""
    h, w = shape
    share, sky = film
    # Out of focus, an outline needs less resolution: one and a half steps of its grid to a sigma.
    fine = 1 if params.focus_px < 3 else 2 if params.focus_px < 6 else 4
    size = max(level.shape[::-1], (-(-w // fine), -(-h // fine)))
    np.minimum(seen, 1.5, out=seen)
    if size != level.shape[::-1]:
        seen = cv2.resize(seen, size)
        level = cv2.resize(level, size, interpolation=cv2.INTER_CUBIC)
    # The level falls by 4 √EDGE (1 − √EDGE) per radius at the edge: an outline one pixel wide.
    per_px = 4 * np.sqrt(_EDGE) * (1 - np.sqrt(_EDGE)) / params.radius_px * h / level.shape[0]
    mask = level * np.float32(1 / per_px)
    mask += np.float32(0.5 - _EDGE / per_px)
    np.clip(mask, 0.0, 1.0, out=mask)
    glow = cv2.multiply(seen, _thrice(mask), seen)
    if params.film > 0:
        share = cv2.resize(share, size) * (1.0 - mask)
        mask += share
        glow = cv2.add(glow, cv2.merge([share * value for value in sky]), glow)
    glow, cover = (_defocused(field, params.focus_px * level.shape[0] / h) for field in (glow, mask))
    return (glow, cover) if cover.shape == (h, w) else (cv2.resize(glow, (w, h)), cv2.resize(cover, (w, h)))


def _defocused(drops: Field, sigma_px: float) -> Field:
    """Gaussian blur; a wide one on a coarser grid, where it costs little."""
    h, w = drops.shape[:2]
    coarser = 2 ** max(0, int(np.log2(max(sigma_px, 1.0) / 1.5)))
    if sigma_px <= 0:
        return drops
    if coarser == 1 or min(h, w) < 4 * coarser:
        taps = 2 * int(np.ceil(3 * sigma_px)) + 1  # beyond 3 σ nothing is left to see
        return cv2.GaussianBlur(drops, (taps, taps), sigma_px, borderType=cv2.BORDER_REFLECT_101)
    small = cv2.resize(drops, (w // coarser, h // coarser), interpolation=cv2.INTER_AREA)
    return cv2.resize(blur(small, sigma_px / coarser), (w, h), interpolation=cv2.INTER_LINEAR)


RAINDROP = Raindrop()
