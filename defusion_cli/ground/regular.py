"""Regular textures: resolution targets with known geometry, after the charts of camera testing.

Equivalents of what such charts carry (ISO 12233:2017 slanted edges, wedges and sine Siemens stars; zone plates;
line pairs after USAF MIL-STD-150A; dot and checker grids), drawn from formulas. Every element takes
``(rng, height, width)`` and returns H×W×3 float32 in [0, 1].
"""

from __future__ import annotations

import string
from collections.abc import Callable

import cv2
import numpy as np

from defusion_cli.ground.shapes import Plane, bars, centred_grid, contrast_at, draw_colour, edge, rotated, two_tone
from defusion_cli.plugins.contract import Image
from defusion_cli.plugins.kernels import linear_to_srgb

_STAR_CYCLES = (12, 24, 36, 72, 144)
_TEXT = np.array(list(string.ascii_letters + string.digits + "&%?!+="))


def sine_star(height: int, width: int, cycles: int, centre: tuple[float, float] = (0.0, 0.0)) -> Plane:
    """Siemens star 0.5 + 0.5·cos(nφ) with n = `cycles`, H×W in [0, 1], grey outside its disk and at its core."""
    x, y = centred_grid(height, width, centre)
    radius = np.maximum(np.hypot(x, y), 1e-3)
    contrast = contrast_at(cycles / (2 * np.pi * radius)) * edge(_star_radius(height, width) - radius)
    return np.float32(0.5) + np.float32(0.5) * contrast * np.cos(cycles * np.arctan2(y, x))


def binary_star(height: int, width: int, cycles: int, centre: tuple[float, float] = (0.0, 0.0)) -> Plane:
    """Siemens star of `cycles` black and white sectors, antialiased, H×W in [0, 1]."""
    x, y = centred_grid(height, width, centre)
    radius = np.maximum(np.hypot(x, y), 1e-3)
    star = edge(np.sin(cycles * np.arctan2(y, x)) * radius / np.float32(cycles))
    inside = edge(_star_radius(height, width) - radius)
    return np.float32(0.5) + inside * (star - np.float32(0.5))


def _star_radius(height: int, width: int) -> float:
    return min(height, width) / 2 - 3


def _draw_star(rng: np.random.Generator, height: int, width: int) -> Image:
    # Finer stars than this would be grey all over.
    fit = [n for n in _STAR_CYCLES if n / (2 * np.pi * _star_radius(height, width)) < 0.3] or [_STAR_CYCLES[0]]
    star = sine_star if rng.random() < 0.6 else binary_star
    cycles = int(rng.choice(fit))
    pattern = star(height, width, cycles)
    if rng.random() < 0.5:
        _add_corner_marks(pattern)
    return two_tone(rng, pattern)


def _add_corner_marks(pattern: Plane) -> None:
    """The black and white quarter disks by which software finds the corners of a chart; in place."""
    height, width = pattern.shape
    radius = 0.055 * min(height, width)
    for sx in (-1, 1):
        for sy in (-1, 1):
            centre = (sx * (width / 2 - 1.8 * radius), sy * (height / 2 - 1.8 * radius))
            x, y = centred_grid(height, width, centre)
            inside = edge(radius - np.hypot(x, y))
            quarters = edge(np.sign(x * y) * np.minimum(np.abs(x), np.abs(y)))
            pattern += inside * (quarters - pattern)


def _draw_slanted_edges(rng: np.random.Generator, height: int, width: int) -> Image:
    """Squares turned by 5.7° (slope 0.1), contrast 10:1 to 1.5:1 in reflectance, on a mid grey."""
    count = int(rng.integers(1, 3))
    light = 0.18 * np.ones((height, width), np.float32)
    cell_h, cell_w = height / count, width / count
    contrasts = rng.permutation([10.0, 4.0, 2.0, 1.5])
    for index in range(count * count):
        row, column = divmod(index, count)
        centre = ((column + 0.5) * cell_w - width / 2, (row + 0.5) * cell_h - height / 2)
        x, y = rotated(*centred_grid(height, width, centre), 5.71 * (1 if rng.random() < 0.5 else -1))
        inside = edge(0.34 * min(cell_h, cell_w) - np.maximum(np.abs(x), np.abs(y)))
        ratio = float(np.sqrt(contrasts[index])) * float(rng.choice([1.0, 1.6]))
        tone = min(0.18 * ratio, 0.95) if rng.random() < 0.5 else 0.18 / ratio
        light += inside * (np.float32(tone) - light)
    return linear_to_srgb(light)[..., None].repeat(3, axis=2)


def _draw_wedges(rng: np.random.Generator, height: int, width: int) -> Image:
    """Hyperbolic wedges: 2k + 1 lines whose frequency grows linearly along the wedge."""
    across, along = (width, height) if rng.random() < 0.5 else (height, width)
    count = int(rng.integers(1, 4))
    lines = int(rng.choice([5, 7, 9]))
    low = lines / (0.85 * across / count)
    high = float(rng.uniform(0.25, 0.48))
    pattern = np.ones((along, across), np.float32)
    for index in range(count):
        x, y = centred_grid(along, across, ((index + 0.5) * across / count - across / 2, 0.0))
        if index % 2:
            y = -y
        frequency = np.float32(low) + np.float32(max(high - low, 0.0)) * (y / along + np.float32(0.5))
        wave = np.float32(0.5) + np.float32(0.5) * contrast_at(frequency) * -np.cos(2 * np.pi * frequency * x)
        inside = edge(lines / (2 * frequency) - np.abs(x)) * edge(0.47 * along - np.abs(y))
        pattern += inside * (wave - pattern)
    pattern = pattern if (along, across) == (height, width) else np.ascontiguousarray(pattern.T)
    return two_tone(rng, pattern)


def _draw_zone_plate(rng: np.random.Generator, height: int, width: int) -> Image:
    """cos(πkr²): the frequency kr grows linearly from the centre to the Nyquist limit in a corner or at the edge."""
    centre = (float(rng.uniform(-0.5, 0.5)) * width, float(rng.uniform(-0.5, 0.5)) * height)
    if rng.random() < 0.5:
        centre = (0.0, 0.0)
    x, y = centred_grid(height, width, centre)
    radius = np.hypot(x, y)
    slope = np.float32(rng.uniform(0.3, 0.5) / float(radius.max()))
    wave = np.cos(np.float32(np.pi) * slope * radius * radius + np.float32(rng.uniform(0, 2 * np.pi)))
    return two_tone(rng, np.float32(0.5) + np.float32(0.5) * contrast_at(slope * radius) * wave)


def _draw_checker(rng: np.random.Generator, height: int, width: int) -> Image:
    pitch = float(np.exp(rng.uniform(np.log(3.0), np.log(24.0))))
    angle = 0.0 if rng.random() < 0.4 else float(rng.uniform(0, 90))
    x, y = rotated(*centred_grid(height, width), angle)
    columns, rows = 2 * bars(x, 2 * pitch) - 1, 2 * bars(y, 2 * pitch) - 1
    return two_tone(rng, np.float32(0.5) + np.float32(0.5) * columns * rows)


def _draw_line_pairs(rng: np.random.Generator, height: int, width: int) -> Image:
    """Groups of three and a half line pairs, upright and lying, pitches in a geometric row from 2.2 px up."""
    count = int(rng.integers(2, 5))
    pattern = np.ones((height, width), np.float32)
    coarsest = max(min(height, width) / count / 4.2, 3.0)
    for index, pitch in enumerate(np.geomspace(2.2, coarsest, count * count)):
        row, column = divmod(index, count)
        centre = ((column + 0.5) * width / count - width / 2, (row + 0.5) * height / count - height / 2)
        x, y = centred_grid(height, width, centre)
        if (row + column) % 2:
            x, y = y, x
        half = 0.42 * min(height, width) / count
        inside = edge(np.minimum(np.minimum(half, 1.75 * pitch) - np.abs(x), half - np.abs(y)))
        pattern += inside * (bars(x + np.float32(pitch / 4), float(pitch)) - pattern)
    return two_tone(rng, pattern)


def _draw_text(rng: np.random.Generator, height: int, width: int) -> Image:
    """Lines of letters and digits from large to small, as on a reading chart."""
    page = np.full((height, width), 255, np.uint8)
    font = int(rng.choice([cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_TRIPLEX]))
    cap = float(rng.uniform(0.08, 0.3)) * height
    shrink = float(rng.uniform(0.72, 1.0))
    y = 0.06 * height
    while y + cap < height:
        line = "".join(rng.choice(_TEXT, int(width / (0.7 * cap)) + 2))
        x = -int(rng.integers(0, max(int(cap), 1)))
        thickness = max(1, round(cap / 11))
        cv2.putText(page, line, (x, int(y + cap)), font, cap / 22.0, 0, thickness, cv2.LINE_AA)
        y += 1.45 * cap
        cap = max(cap * shrink, 5.0)
    return two_tone(rng, page.astype(np.float32) / np.float32(255), colour_share=0.35)


def _draw_rings(rng: np.random.Generator, height: int, width: int) -> Image:
    x, y = centred_grid(height, width, (float(rng.uniform(-10, 10)), float(rng.uniform(-10, 10))))
    pitch = float(np.exp(rng.uniform(np.log(4.0), np.log(24.0))))
    return two_tone(rng, bars(np.hypot(x, y), pitch))


def _draw_dots(rng: np.random.Generator, height: int, width: int) -> Image:
    """A square lattice of disks, as in distortion targets."""
    pitch = float(rng.uniform(6.0, 24.0))
    x, y = rotated(*centred_grid(height, width), float(rng.uniform(0, 45)))
    to_next_x, to_next_y = x - pitch * np.round(x / pitch), y - pitch * np.round(y / pitch)
    radius = float(rng.uniform(0.15, 0.42)) * pitch
    return two_tone(rng, edge(radius - np.hypot(to_next_x, to_next_y)))


def _draw_plaid(rng: np.random.Generator, height: int, width: int) -> Image:
    """Two crossed families of coloured stripes: woven cloth."""
    x, y = rotated(*centred_grid(height, width), float(rng.choice([0.0, 45.0, rng.uniform(0, 90)])))
    base = np.full((height, width, 3), draw_colour(rng), np.float32)
    for axis in (x, y, x, y):
        weave = bars(axis + np.float32(rng.uniform(0, 30)), float(np.exp(rng.uniform(np.log(4.0), np.log(40.0)))))
        base += np.float32(0.45) * weave[..., None] * (draw_colour(rng) - base)
    return base


REGULAR: dict[str, Callable[[np.random.Generator, int, int], Image]] = {
    "star": _draw_star,
    "slanted-edges": _draw_slanted_edges,
    "wedges": _draw_wedges,
    "zone-plate": _draw_zone_plate,
    "checker": _draw_checker,
    "line-pairs": _draw_line_pairs,
    "text": _draw_text,
    "rings": _draw_rings,
    "dots": _draw_dots,
    "plaid": _draw_plaid,
}
"""Elements by name."""
