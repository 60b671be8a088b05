"""Statistics of what lies over a photograph: flakes, streaks, drops and veil."""

from __future__ import annotations

from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from defusion_cli.recognition.reduce import quantiles

Array = NDArray[np.float32]
Plane = NDArray[np.uint8]

_RADII_PX = (1, 2, 4, 8)
_STREAK_PX = 17
_SLANTS_DEG = (-45, -28, -14, 0, 14, 28, 45, 90)
_SIZES = (0.5, 0.8, 0.9, 0.97, 0.995)
_TINY = 1e-3


def describe_weather(crops: Array) -> Array:
    """Of K×c×c×3 in [0, 1]: about 140 statistics of bright and dark things by size and direction, and of pale veils."""
    side = crops.shape[1]
    stacked = cv2.convertScaleAbs(crops.reshape(-1, side, 3), alpha=255)  # one tall picture
    red, green, blue = cv2.split(stacked)
    palest = np.asarray(cv2.min(cv2.min(red, green), blue), np.uint8)
    darkest = np.asarray(cv2.max(cv2.max(red, green), blue), np.uint8)
    chroma = np.asarray((darkest - palest).astype(np.float32) / 255, np.float32)
    parts = [_things(palest, darkest, chroma), _streaks(palest), _veil(palest, chroma)]
    return np.concatenate(parts).astype(np.float32)


def _things(palest: Plane, darkest: Plane, chroma: Array) -> Array:
    """Of each size: how bright things are against their surroundings, how grey, and how dark ones compare to them.

    Snow and drops of water lift all three channels, the more, the darker what lies behind; textures are as often dark
    as bright.
    """
    parts: list[Any] = []
    for size_px in _RADII_PX:
        if size_px == _RADII_PX[2]:  # large things are seen as well at half the resolution
            palest, darkest = (_half(plane) for plane in (palest, darkest))
            chroma = np.asarray(_half(chroma), np.float32)
        radius = size_px // 2 if size_px > _RADII_PX[1] else size_px
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
        ground = cv2.morphologyEx(palest, cv2.MORPH_OPEN, disc)
        bright = (palest - ground).astype(np.float32) / 255
        dark = (cv2.morphologyEx(darkest, cv2.MORPH_CLOSE, disc) - darkest).astype(np.float32) / 255
        level = ground.astype(np.float32) / 255
        size_bright, size_dark = _sizes(bright), _sizes(dark)
        share = bright / (bright.mean() + _TINY)
        parts += [_log(size_bright), _log(size_bright) - _log(size_dark)]
        parts.append(
            [
                np.log(bright.mean() + _TINY) - np.log(dark.mean() + _TINY),
                (chroma * share).mean() - chroma.mean(),
                (level * share).mean() - level.mean(),
                _correlation(bright, level),
                np.cbrt((bright**3).mean()) / np.sqrt((bright**2).mean() + _TINY**2),
            ]
        )
    return np.concatenate(parts)


def _streaks(palest: Plane) -> Array:
    """Bright thin things that are straight over 17 pixels, by slant; as they are, and sorted from the most frequent."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7))
    thin = palest - cv2.morphologyEx(palest, cv2.MORPH_OPEN, disc)
    found = [cv2.morphologyEx(thin, cv2.MORPH_OPEN, _line(slant)).astype(np.float32) / 255 for slant in _SLANTS_DEG]
    mean = np.array([response.mean() for response in found])
    top = np.array([_sizes(response)[3] for response in found])
    relative = np.log(mean + _TINY / 10) - np.log(mean.mean() + _TINY / 10)
    steep = np.max(found[:7], axis=0)
    alone = np.log(steep.mean() + _TINY) - np.log(thin.mean() / 255 + _TINY)
    return np.concatenate([np.log(mean + _TINY), _log(top), relative, np.sort(relative)[::-1], [alone], _sizes(steep)])


def _veil(palest: Plane, chroma: Array) -> Array:
    """The dark channel at two sizes: how it is spread, and how colour and contrast fall where it rises."""
    parts: list[Any] = []
    grey = palest.astype(np.float32) / 255
    for side in (7, 15):
        dark = cv2.erode(palest, np.ones((side, side), np.uint8)).astype(np.float32) / 255
        mean = cv2.blur(grey, (side, side))
        contrast = np.sqrt(np.maximum(cv2.blur(grey * grey, (side, side)) - mean * mean, 0))
        small = [plane[:: side // 2, :: side // 2] for plane in (dark, chroma, contrast, mean)]
        parts.append(quantiles(small[0], (0.01, 0.05, 0.2, 0.5, 0.8, 0.95)))
        parts.append([_correlation(small[0], small[1]), _correlation(small[0], small[2])])
        # Whatever scatters light lifts the dark and lowers the contrast by the same share.
        parts.append(_log(quantiles(small[2] / (1.02 - small[0]), (0.05, 0.25, 0.5, 0.75, 0.95))))
        parts.append(quantiles(small[1] / (small[3] + 0.05), (0.05, 0.5, 0.95)))
    return np.concatenate(parts)


@cache
def _line(slant_deg: int) -> Plane:
    """A line of 17 pixels, so many degrees from the vertical."""
    middle = _STREAK_PX // 2
    line = np.zeros((_STREAK_PX, _STREAK_PX), np.uint8)
    dx, dy = middle * np.sin(np.deg2rad(slant_deg)), middle * np.cos(np.deg2rad(slant_deg))
    first, last = ((round(middle + sign * dx), round(middle + sign * dy)) for sign in (-1, 1))
    return np.asarray(cv2.line(line, first, last, 1), np.uint8)


def _half(plane: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(cv2.resize(plane, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))


def _sizes(values: Array) -> Array:
    """Quantiles of the larger values; every seventh pixel is enough."""
    return quantiles(values.ravel()[::7], _SIZES)


def _log(values: NDArray[np.floating]) -> Array:
    return np.log(np.maximum(values, 0) + _TINY).astype(np.float32)


def _correlation(a: Array, b: Array) -> float:
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).mean() / np.sqrt((a * a).mean() * (b * b).mean() + 1e-8))
