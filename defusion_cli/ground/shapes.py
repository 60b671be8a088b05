"""Small pieces that the elements share: pixel grids, antialiased edges, resolution limit, pairs of colours."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from defusion_cli.plugins.contract import Image

Plane = NDArray[np.float32]
"""H×W float32."""

Real = NDArray[np.floating[Any]]


def centred_grid(height: int, width: int, centre: tuple[float, float] = (0.0, 0.0)) -> tuple[Plane, Plane]:
    """Coordinates x and y of the pixel centres in px, H×W each, from the middle of the box moved by `centre` (x, y)."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    x -= np.float32((width - 1) / 2 + centre[0])
    y -= np.float32((height - 1) / 2 + centre[1])
    return x, y


def rotated(x: Plane, y: Plane, angle_deg: float) -> tuple[Plane, Plane]:
    """The coordinates in axes turned counter-clockwise by `angle_deg` (y points down)."""
    a = np.deg2rad(angle_deg)
    cos, sin = np.float32(np.cos(a)), np.float32(np.sin(a))
    return x * cos - y * sin, x * sin + y * cos


def edge(distance_px: Real) -> Plane:
    """Coverage in [0, 1] of a pixel whose centre lies `distance_px` inside a straight edge: one pixel of ramp."""
    return np.clip(distance_px + np.float32(0.5), 0.0, 1.0).astype(np.float32, copy=False)


def contrast_at(frequency: Real | float) -> Plane:
    """Contrast in [0, 1] left at a spatial frequency in cycles/px: a parabola, zero from the Nyquist limit on.

    A chart photographed in focus looks like this; sampled without it, fine lines would turn into moiré.
    """
    left: Plane = np.clip(1.0 - (2.0 * np.asarray(frequency, np.float32)) ** 2, 0.0, 1.0)
    return left


def bars(phase_px: Plane, pitch_px: float) -> Plane:
    """Black and white bars in [0, 1], antialiased: one pair every `pitch_px` along `phase_px`."""
    wave = np.sin(phase_px * np.float32(2 * np.pi / pitch_px))
    return edge(wave * np.float32(pitch_px / (2 * np.pi)) * np.float32(1.6))


def draw_colour(rng: np.random.Generator, low: float = 0.05, high: float = 0.95) -> NDArray[np.float32]:
    """Three independent uniform sRGB values."""
    return rng.uniform(low, high, 3).astype(np.float32)


def two_tone(rng: np.random.Generator, pattern: Plane, colour_share: float = 0.25) -> Image:
    """`pattern` (H×W in [0, 1]) between a dark and a light tone, H×W×3.

    Modulation is 1, 0.6 or 0.2 around a grey, as on resolution charts, most of it full; in `colour_share` of the
    draws the two tones are colours of different brightness.
    """
    if rng.random() < colour_share:
        pair = np.stack([draw_colour(rng, 0.0, 0.45), draw_colour(rng, 0.55, 1.0)])
    else:
        half = 0.5 * float(rng.choice([1.0, 0.6, 0.2], p=[0.6, 0.28, 0.12]))
        middle = float(rng.uniform(half, 1.0 - half))
        pair = np.repeat(np.array([[middle - half], [middle + half]], np.float32), 3, axis=1)
    if rng.random() < 0.5:
        pair = pair[::-1]
    dark, light = pair.astype(np.float32)
    return dark + pattern[..., None] * (light - dark)
