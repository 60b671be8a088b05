"""Standard colours: the 24 patches of the ColorChecker, grey steps, hue wheels, skin tones, flat fields."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from defusion_cli.ground.shapes import centred_grid, edge
from defusion_cli.plugins.contract import Image

_COLORCHECKER_HEX = (
    "735244 c29682 627a9d 576c43 8580b1 67bdaa d67e2c 505ba6 c15a63 5e3c6c 9dbc40 e0a32e "
    "383d96 469449 af363c e7c71f bb5695 0885a1 f3f3f2 c8c8c8 a0a0a0 7a7a79 555555 343434"
)


def _from_hex(text: str) -> NDArray[np.float32]:
    codes = np.array([[int(word[i : i + 2], 16) for i in (0, 2, 4)] for word in text.split()], np.float32)
    codes /= 255
    codes.flags.writeable = False
    return codes


COLORCHECKER = _from_hex(_COLORCHECKER_HEX)
"""24×3 sRGB values in [0, 1] of the classic chart (formulation before November 2014), four rows of six."""

GREY_STEPS = _from_hex(
    "f0f0f0 e2e2e2 d2d2d2 c4c4c4 b6b6b6 a8a8a8 9a9a9a 8c8c8c 7f7f7f 727272 "
    "666666 595959 4d4d4d 414141 363636 2a2a2a 1f1f1f 151515 0b0b0b 030303"
)
"""20×3 sRGB greys in [0, 1] from light to dark, nearly evenly spaced as camera charts have them around their centre."""


def patch_grid(colours: Image, height: int, width: int, gap: float, surround: float) -> Image:
    """R×C×3 `colours` as a grid of patches, H×W×3; `gap` in [0, 1) of a patch between them in grey `surround`."""
    rows, columns = colours.shape[:2]
    canvas = np.full((height, width, 3), surround, np.float32)
    for row in range(rows):
        top, bottom = _inner(row, rows, height, gap)
        for column in range(columns):
            left, right = _inner(column, columns, width, gap)
            canvas[top:bottom, left:right] = colours[row, column]
    return canvas


def _inner(index: int, count: int, length: int, gap: float) -> tuple[int, int]:
    start, stop = round(index * length / count), round((index + 1) * length / count)
    margin = round(gap * length / count / 2)
    return start + margin, stop - margin


def _draw_colorchecker(rng: np.random.Generator, height: int, width: int) -> Image:
    """The whole chart, or an enlarged part of it."""
    chart = COLORCHECKER.reshape(4, 6, 3)
    if rng.random() < 0.3:
        row, column = int(rng.integers(0, 3)), int(rng.integers(0, 4))
        chart = chart[row : row + 2, column : column + 3]
    if height > width:
        chart = chart.transpose(1, 0, 2)
    return patch_grid(chart, height, width, gap=0.16, surround=float(rng.choice([0.11, 0.11, 0.46])))


def _draw_grey_steps(rng: np.random.Generator, height: int, width: int) -> Image:
    """The 20 steps as a 4×5 field that runs to and fro, or as bars; or a continuous ramp."""
    style = rng.random()
    if style < 0.3:
        along = height > width
        line = np.linspace(0, 1, height if along else width, dtype=np.float32)
        ramp = line[:, None] if along else line[None]
        steps = np.round(ramp * 9) / np.float32(9)
        half = np.broadcast_to(ramp, (height, width)).copy()
        if along:
            half[:, width // 2 :] = steps
        else:
            half[height // 2 :] = steps
        return (half if rng.random() < 0.5 else 1 - half)[..., None].repeat(3, axis=2)
    grid = GREY_STEPS.reshape(4, 5, 3).copy()
    grid[1::2] = grid[1::2, ::-1]
    if height > width:
        grid = grid.transpose(1, 0, 2)
    return patch_grid(grid, height, width, gap=float(rng.choice([0.0, 0.15])), surround=0.46)


def _draw_hue_wheel(rng: np.random.Generator, height: int, width: int) -> Image:
    """Hue around, saturation outwards; or the same unrolled into a rectangle."""
    x, y = centred_grid(height, width)
    turn = float(rng.uniform(0, 360))
    value = np.float32(rng.uniform(0.6, 1.0))
    if rng.random() < 0.6:
        radius = np.hypot(x, y) / np.float32(min(height, width) / 2 - 2)
        hue, saturation = np.rad2deg(np.arctan2(y, x)), np.minimum(radius, 1)
        inside = edge((1 - radius) * np.float32(min(height, width) / 2))
    else:
        hue, saturation = 360 * x / width, y / height + np.float32(0.5)
        inside = np.ones((height, width), np.float32)
    hsv = np.dstack([(hue + turn) % 360, np.clip(saturation, 0, 1), np.full_like(x, value)]).astype(np.float32)
    wheel = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    grey = np.float32(rng.uniform(0.2, 0.8))
    return grey + inside[..., None] * (wheel - grey)


def _draw_skin(rng: np.random.Generator, height: int, width: int) -> Image:
    """The line through the chart's dark and light skin, one way; shading by exposure, the other way."""
    dark, light = COLORCHECKER[0], COLORCHECKER[1]
    tone = np.linspace(-0.5, 1.6, width if rng.random() < 0.5 else 6, dtype=np.float32)
    shade = np.linspace(0.55, 1.15, height if len(tone) == width else 5, dtype=np.float32)
    field = np.clip((dark + tone[None, :, None] * (light - dark)) * shade[:, None, None], 0, 1)
    if len(tone) == width:
        return field
    return patch_grid(field, height, width, gap=0.1, surround=0.46)


def _draw_flat(rng: np.random.Generator, height: int, width: int) -> Image:
    """One to four flat colours, side by side."""
    rows, columns = int(rng.integers(1, 3)), int(rng.integers(1, 3))
    colours = rng.uniform(0, 1, (rows, columns, 3)).astype(np.float32)
    return patch_grid(colours, height, width, gap=0.0, surround=0.0)


def _draw_gradient(rng: np.random.Generator, height: int, width: int) -> Image:
    """Four colours in the corners, and all between them."""
    corners = rng.uniform(0, 1, (2, 2, 3)).astype(np.float32)
    v = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    u = np.linspace(0, 1, width, dtype=np.float32)[None, :, None]
    top = corners[0, 0] + u * (corners[0, 1] - corners[0, 0])
    bottom = corners[1, 0] + u * (corners[1, 1] - corners[1, 0])
    return top + v * (bottom - top)


COLOURS: dict[str, tuple[float, Callable[[np.random.Generator, int, int], Image]]] = {
    "colorchecker": (0.4, _draw_colorchecker),
    "grey-steps": (0.15, _draw_grey_steps),
    "hue-wheel": (0.15, _draw_hue_wheel),
    "skin-tones": (0.1, _draw_skin),
    "flat-fields": (0.1, _draw_flat),
    "gradient": (0.1, _draw_gradient),
}
"""Share of the draws and element, by name."""
