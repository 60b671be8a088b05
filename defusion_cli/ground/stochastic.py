"""Stochastic textures: dead leaves, power-law noise, fractal noise, Voronoi cells, white noise.

Dead leaves: disks of radius density ∝ r⁻³ that cover one another have the statistics of natural images, scale
invariance above all (Lee, Mumford & Huang, IJCV 2001; as a camera target: Cao, Guichard & Hornung, SPIE 2009).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from defusion_cli.ground.colours import COLORCHECKER
from defusion_cli.ground.shapes import draw_colour
from defusion_cli.plugins.contract import Image
from defusion_cli.plugins.kernels import fractal_noise

_LEAF_MASTERS = 4
_LEAF_SIZE = 448
_SUBPIXEL_BITS = 4


def dead_leaves(
    rng: np.random.Generator, size: int, palette: NDArray[np.float32] | None = None, r_min_px: float = 1.2
) -> NDArray[np.uint8]:
    """Dead leaves model, size×size×3 uint8: disks of p(r) ∝ r⁻³ from `r_min_px` to size/4, painted back to front.

    Parameters
    ----------
    palette
        K×3 sRGB colours in [0, 1] for the leaves; None draws greys in U(0, 1).
    """
    r_max = size / 4
    # Twelve layers on average: a share of e⁻¹² of the background stays bare.
    mean_area = 2 * np.pi * np.log(r_max / r_min_px) / (r_min_px**-2 - r_max**-2)
    count = int(12 * (size + 2 * r_max) ** 2 / mean_area)
    u = rng.random(count)
    radius = (r_min_px**-2 - u * (r_min_px**-2 - r_max**-2)) ** -0.5
    scale = 1 << _SUBPIXEL_BITS
    centre = np.rint(rng.uniform(-r_max, size + r_max, (count, 2)) * scale).astype(int)
    if palette is None:
        tones = rng.random((count, 1)).repeat(3, axis=1)
    else:
        tones = palette[rng.integers(len(palette), size=count)] + rng.normal(0, 0.04, (count, 3))
    tones = np.clip(255 * tones, 0, 255).round()
    # Leaves that miss the picture are most of the padding; they cost nothing if never painted.
    px = centre / scale
    visible = ((px > -radius[:, None]) & (px < size + radius[:, None])).all(axis=1)
    canvas = np.full((size, size, 3), 128, np.uint8)
    radii = np.rint(radius * scale).astype(int)
    leaves = (centre[visible].tolist(), radii[visible].tolist(), tones[visible].tolist())
    for point, r, tone in zip(*leaves, strict=True):
        cv2.circle(canvas, point, r, tone, cv2.FILLED, cv2.LINE_AA, _SUBPIXEL_BITS)
    return canvas


@lru_cache(maxsize=1)
def _leaf_masters() -> tuple[NDArray[np.uint8], ...]:
    """Large dead-leaves pictures from fixed seeds, painted at the first use and cropped ever after."""
    palettes = [None, COLORCHECKER, COLORCHECKER, None]
    masters = []
    for seed in range(_LEAF_MASTERS):
        rng = np.random.default_rng([seed, 0xDEAD])
        palette = palettes[seed]
        if seed == 2:
            palette = rng.uniform(0.2, 0.8, (64, 3)).astype(np.float32)
        masters.append(dead_leaves(rng, _LEAF_SIZE, palette))
    return tuple(masters)


def _draw_dead_leaves(rng: np.random.Generator, height: int, width: int) -> Image:
    masters = _leaf_masters()
    master = masters[int(rng.integers(len(masters)))]
    # A box larger than the picture sees it mirrored: enlarged, the leaves would be out of focus.
    short = max(height, width) - _LEAF_SIZE
    if short > 0:
        master = np.pad(master, ((0, short), (0, short), (0, 0)), mode="symmetric")
    side = len(master)
    zoom = float(np.exp(rng.uniform(0.0, np.log(side / max(height, width)))))
    h, w = min(int(height * zoom), side), min(int(width * zoom), side)
    y, x = int(rng.integers(side - h + 1)), int(rng.integers(side - w + 1))
    leaves = cv2.resize(master[y : y + h, x : x + w], (width, height), interpolation=cv2.INTER_AREA)
    leaves = leaves.astype(np.float32) / np.float32(255)
    if rng.random() < 0.5:
        leaves = leaves[:, ::-1]
    if rng.random() < 0.5:
        leaves = leaves[::-1]
    leaves = leaves[..., rng.permutation(3)]
    contrast = np.float32(rng.choice([1.0, 0.5]))
    return np.float32(0.5) + contrast * (leaves - np.float32(0.5))


def power_law_noise(rng: np.random.Generator, height: int, width: int, exponent: float) -> NDArray[np.float32]:
    """Gaussian field whose *amplitude* spectrum falls as 1/f^exponent; H×W, zero mean, unit deviation."""
    spectrum = np.fft.rfft2(rng.standard_normal((height, width), dtype=np.float32))
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    frequency = np.hypot(fy, fx)
    frequency[0, 0] = 1.0
    spectrum /= frequency**exponent
    spectrum[0, 0] = 0.0
    field = np.fft.irfft2(spectrum, s=(height, width))
    return (field / field.std()).astype(np.float32)


def _coloured(rng: np.random.Generator, luma: NDArray[np.float32], chroma: NDArray[np.float32] | None) -> Image:
    """A zero-mean, unit-deviation field as a picture: contrast and mean drawn; `chroma` (H×W×3) adds colour."""
    contrast = np.float32(rng.uniform(0.1, 0.25))
    mean = draw_colour(rng, 0.3, 0.7) if rng.random() < 0.5 else np.float32(rng.uniform(0.35, 0.65))
    field = luma[..., None] if chroma is None else np.float32(0.7) * (luma[..., None] + chroma)
    return np.broadcast_to(mean + contrast * field, (*luma.shape, 3))


def _draw_power_law(rng: np.random.Generator, height: int, width: int) -> Image:
    exponent = float(rng.choice([0.5, 1.0, 1.5]))
    luma = power_law_noise(rng, height, width, exponent)
    if rng.random() < 0.5:
        return _coloured(rng, luma, None)
    chroma = [power_law_noise(rng, height, width, exponent) for _ in range(3)]
    return _coloured(rng, luma, np.stack(chroma, axis=2))


def _draw_fractal(rng: np.random.Generator, height: int, width: int) -> Image:
    """Fractal Brownian motion between two colours: clouds, marble, bark."""
    coarsest, gain = float(rng.uniform(16, 80)), float(rng.uniform(0.4, 0.75))
    field = fractal_noise((height, width), rng, coarsest, octaves=5, gain=gain)
    style = rng.random()
    if style < 0.3:
        field = np.abs(field) * 2 - 1
    elif style < 0.5:
        field = np.sin(3 * field)
    weight = np.clip(np.float32(0.5) + np.float32(0.3) * field, 0, 1)[..., None]
    first, second = draw_colour(rng), draw_colour(rng)
    return first + weight * (second - first)


def _draw_voronoi(rng: np.random.Generator, height: int, width: int) -> Image:
    """Cells of random seeds, each of one colour; in half of the draws with dark joints, like cobbles."""
    h, w = 2 * height, 2 * width
    count = int(np.exp(rng.uniform(np.log(20), np.log(600))))
    free = np.full((h, w), 255, np.uint8)
    free[rng.integers(h, size=count), rng.integers(w, size=count)] = 0
    distance, labels = cv2.distanceTransformWithLabels(free, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    spread = np.float32(rng.uniform(0.1, 0.45))
    tones = draw_colour(rng, 0.3, 0.7) + spread * rng.standard_normal((count + 1, 1 if rng.random() < 0.3 else 3))
    cells = np.clip(np.broadcast_to(tones, (count + 1, 3)), 0, 1).astype(np.float32)[labels]
    if rng.random() < 0.5:
        typical = np.sqrt(h * w / count)
        cells *= np.clip(np.float32(1.25) - distance / np.float32(typical), 0.1, 1.0)[..., None]
    return cv2.resize(cells, (width, height), interpolation=cv2.INTER_AREA)


def _draw_white(rng: np.random.Generator, height: int, width: int) -> Image:
    """Independent Gaussian or binary pixels."""
    channels = 1 if rng.random() < 0.5 else 3
    if rng.random() < 0.3:
        field = 2 * rng.integers(2, size=(height, width, channels)).astype(np.float32) - 1
    else:
        field = rng.standard_normal((height, width, channels), dtype=np.float32)
    return np.broadcast_to(np.float32(0.5) + np.float32(rng.uniform(0.08, 0.25)) * field, (height, width, 3))


STOCHASTIC: dict[str, tuple[float, Callable[[np.random.Generator, int, int], Image]]] = {
    "dead-leaves": (0.4, _draw_dead_leaves),
    "power-law": (0.2, _draw_power_law),
    "fractal": (0.15, _draw_fractal),
    "voronoi": (0.2, _draw_voronoi),
    "white": (0.05, _draw_white),
}
"""Share of the draws and element, by name."""
