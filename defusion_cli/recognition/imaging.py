"""Statistics of what camera and file did: the shape of a blur, and noise where nothing else is."""

from __future__ import annotations

from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from defusion_cli.recognition.reduce import block_mean, quantiles

Array = NDArray[np.float32]

_RADII_PX = 24
_PROFILE = 24
_TEXTURE = 16
_BLOCK_PX = 8
_TINY = 1e-4


def describe_imaging(crops: Array, grey: Array) -> Array:
    """Of K×c×c×3 and its grey K×c×c, in [0, 1]: about 230 statistics."""
    return np.concatenate([_blur_shape(grey), _flat_places(crops, grey), _sharpness(grey)]).astype(np.float32)


def _blur_shape(grey: Array) -> Array:
    """Cepstrum and autocorrelation of the gradient: mean, least and most over the directions, at each distance.

    The zeros of a disk's or a path's spectrum make minima at its diameter or its ends (Cannon, 1976).
    """
    side = grey.shape[1]
    window = np.outer(np.hanning(side), np.hanning(side)).astype(np.float32)
    power = np.abs(np.fft.rfft2((grey - grey.mean(axis=(1, 2), keepdims=True)) * window)) ** 2
    cepstrum = np.fft.irfft2(np.log(power + 1e-3).mean(0), (side, side))
    edges = np.fft.irfft2(power.mean(0) * _high_pass(side), (side, side))
    edges = edges / (edges[0, 0] + _TINY)
    rings, counts, order = _rings(side)
    parts = []
    for plane in (cepstrum, edges):
        values = plane.ravel()[order]
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        mean = np.add.reduceat(values, starts) / counts
        parts += [mean, np.minimum.reduceat(values, starts) - mean, np.maximum.reduceat(values, starts) - mean]
    sums = np.bincount(rings, np.log(power + 1e-3).mean(0).ravel(), _PROFILE + 1)[:_PROFILE]
    profile = sums / np.maximum(np.bincount(rings, minlength=_PROFILE + 1)[:_PROFILE], 1)
    return np.concatenate([*parts, profile, np.diff(profile, 2)])


@cache
def _high_pass(side: int) -> Array:
    """Power response of the Laplacian."""
    v, u = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]
    return ((2 - np.cos(2 * np.pi * v) - np.cos(2 * np.pi * u)) ** 2).astype(np.float32)


@cache
def _rings(side: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Where frequencies and lags belong.

    The ring of each coefficient of a real FFT; of the lags of a side×side plane that are up to 24 pixels long, how many
    lie at each distance, and which, in order of distance.
    """
    v, u = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]
    rings = np.minimum(np.floor(np.hypot(v, u) * 2 * _PROFILE), _PROFILE).astype(np.int64).ravel()
    lag = np.fft.fftfreq(side, 1 / side)
    distance = np.rint(np.hypot(lag[:, None], lag[None])).astype(np.int64).ravel()
    order = np.argsort(distance, kind="stable")
    wanted = order[(distance[order] >= 1) & (distance[order] <= _RADII_PX)]
    return rings, np.bincount(distance[wanted])[1:], wanted


def _flat_places(crops: Array, grey: Array) -> Array:
    """Fine detail in the flattest tenth of the blocks, by brightness: size, colour, and how neighbours go together.

    What is flat is judged at a coarser scale than the detail, so that noise itself does not decide.
    """
    smooth = np.stack([cv2.blur(plane, (7, 7)) for plane in grey])
    slope = np.abs(np.diff(smooth, axis=1))[:, :, :-1] + np.abs(np.diff(smooth, axis=2))[:, :-1]
    slope = block_mean(np.pad(slope, ((0, 0), (0, 1), (0, 1)), mode="edge"), _BLOCK_PX)
    level = block_mean(grey, _BLOCK_PX)
    fine = np.stack([p - cv2.blur(p, (3, 3)) for p in crops])  # K×c×c×3
    blocks = fine.reshape(len(fine), level.shape[1], _BLOCK_PX, level.shape[2], _BLOCK_PX, 3).swapaxes(2, 3)
    places = np.unravel_index(np.arange(level.size), level.shape)
    slope, level = slope.ravel(), level.ravel()
    usable = (level > 0.03) & (level < 0.97)
    parts = []
    for low, high in ((0.0, 1.0), (0.0, 0.25), (0.25, 0.55), (0.55, 1.0)):
        inside = np.flatnonzero(usable & (level >= low) & (level < high))
        chosen = inside[np.argsort(slope[inside])[: max(8, len(inside) // 10)]]
        found = blocks[tuple(place[chosen] for place in places)]
        parts.append(_texture(found) if len(chosen) >= 8 else np.zeros(_TEXTURE, np.float32))
    return np.concatenate(parts)


def _texture(blocks: Array) -> Array:
    """Size of the three channels, quantiles over the blocks, correlation of channels and of neighbours."""
    square = (blocks * blocks).mean(axis=(0, 1, 2)) + _TINY**2
    rms = np.sqrt((blocks * blocks).mean(axis=(1, 2, 3)) + _TINY**2)
    grey = blocks.mean(3)
    power = (grey * grey).mean() + _TINY**2
    lags = [
        (grey[:, :, 1:] * grey[:, :, :-1]).mean() / power,
        (grey[:, 1:] * grey[:, :-1]).mean() / power,
        (grey[:, :, 2:] * grey[:, :, :-2]).mean() / power,
        (grey[:, 2:] * grey[:, :-2]).mean() / power,
    ]
    colour = blocks[..., 0] - blocks[..., 2]
    strength = (colour * colour).mean() + _TINY**2
    lags.append((colour[:, :, 1:] * colour[:, :, :-1]).mean() / strength)
    pairs = [(blocks[..., a] * blocks[..., b]).mean() / np.sqrt(square[a] * square[b]) for a, b in ((0, 1), (1, 2))]
    spread = np.log(quantiles(rms, (0.1, 0.5, 0.9)))
    kurtosis = np.log((grey**4).mean() / power**2 + 0.1)
    return np.concatenate(
        [np.log(square) / 2, spread, lags, pairs, [kurtosis, np.log(strength) / 2, np.log(power) / 2]]
    ).astype(np.float32)


def _sharpness(grey: Array) -> Array:
    """How much finer than coarse the detail of a place is, as quantiles over places, at two sizes of place.

    Drops are out of focus where the scene around them is sharp; a blurred photograph is soft everywhere.
    """
    parts: list[Any] = []
    energies, plane = [], grey
    for _ in range(4):
        coarse = block_mean(plane, 2)
        energies.append(block_mean(plane * plane, 2) - coarse * coarse)
        plane = coarse
    for side in (16, 32):
        logs = []
        for scale, energy in enumerate(energies):
            means = block_mean(energy, side >> (scale + 1))
            logs.append(np.log(np.maximum(means, 0) + 1e-6) / 2)
        for finer, coarser in ((0, 1), (0, 2), (1, 2), (1, 3)):
            ratio = (logs[finer] - logs[coarser]).ravel()
            parts.append(quantiles(ratio, (0.05, 0.25, 0.5, 0.75, 0.95)))
            parts.append([ratio.std()])
    return np.concatenate(parts)
