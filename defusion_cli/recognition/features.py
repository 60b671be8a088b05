"""Statistics of a photograph in which damage shows, as one vector; the network decides on these.

Noise, compression and blur are laws of the finest detail, weather is bright or pale structure, haze and water change
the colours of the whole. Each has a statistic of its own in the literature on blind quality assessment and haze:
energies and shapes of band-pass responses over scales and directions, local contrast in small blocks, the power
spectrum by direction, block transform coefficients on JPEG's grid, the dark channel. Flakes, streaks and drops are
bright things of one size or direction (`weather`), blur has a shape and flat places show the noise (`imaging`). Fixed
statistics let a small network learn from some thousand photographs what a convolutional one needs a hundred times as
many for.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from defusion_cli.canvas import Pixels
from defusion_cli.recognition.imaging import describe_imaging
from defusion_cli.recognition.reduce import block_mean, quantiles
from defusion_cli.recognition.weather import describe_weather

Array = NDArray[np.float32]

FEATURES = 1210
"""Length of a feature vector."""

_BLOCK_PX = 8
_SCALES = 4
_QUANTILES = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)
_SAMPLED = 6144
"""Responses beyond this number add nothing to their statistics."""
_RINGS, _SECTORS = 8, 12
_TINY = np.float32(1e-4)
_STEP = np.float32(1 / 255)


def describe(crops: Array, thumbnail: Pixels) -> Array:
    """The feature vector (F,) of a photograph.

    Parameters
    ----------
    crops
        K×c×c×3 in [0, 1], native resolution, their corners at multiples of 8 pixels, c a multiple of 64.
    thumbnail
        64×64×3 in [0, 1], the whole photograph.
    """
    grey = _grey(crops)
    chroma = np.stack([crops[..., 0] - crops[..., 1], crops[..., 2] - crops[..., 1]])
    parts = [_colours(crops, thumbnail), _block_grid(grey), _block_transform(grey), _spectrum(grey)]
    parts += [_bands(grey, _SCALES, directions=True), *(_bands(c, 2, directions=False) for c in chroma)]
    parts += [describe_weather(crops), describe_imaging(crops, grey)]
    vector: Array = np.concatenate(parts).astype(np.float32)
    return vector


def _grey(crops: Array) -> Array:
    stacked = cv2.cvtColor(crops.reshape(-1, *crops.shape[2:]), cv2.COLOR_RGB2GRAY)
    return np.asarray(stacked, np.float32).reshape(crops.shape[:3])


def _log(values: Array) -> Array:
    return np.log(np.maximum(values, 0) + _TINY)


def _quantiles(values: Array) -> Array:
    return quantiles(values, _QUANTILES)


def _colours(crops: Array, thumbnail: Pixels) -> Array:
    """Distributions of brightness, colour, saturation and dark channel; where in the frame it is bright or pale."""
    pixels = np.concatenate([crops[:, ::8, ::8].reshape(-1, 3), thumbnail.reshape(-1, 3)])
    low, high = pixels.min(1), pixels.max(1)
    parts = [_quantiles(pixels[:, c]) for c in range(3)]
    parts += [_quantiles(low), _quantiles((high - low) / (high + 0.02)), _quantiles(pixels[:, 0] - pixels[:, 2])]
    dark = cv2.erode(np.ascontiguousarray(thumbnail.min(2)), np.ones((5, 5), np.uint8))
    coarse = cv2.resize(np.dstack([thumbnail, dark]), (4, 4), interpolation=cv2.INTER_AREA)  # 4×4×4
    contrast = thumbnail.reshape(4, 16, 4, 16, 3).std(axis=(1, 3)).mean(2)
    clipped = [(pixels < _STEP).mean(0), (pixels > 1 - _STEP).mean(0), _log(pixels.mean(0)), pixels.std(0)]
    return np.concatenate([*parts, _quantiles(dark), coarse.ravel(), _log(contrast).ravel(), *clipped])


def _bands(plane: Array, scales: int, directions: bool) -> Array:
    """Of band-pass responses at several scales: size, shape, lopsidedness, and contrast of small blocks.

    The blocks with the least contrast tell the noise floor; how blocks differ tells what lies here and not there.
    """
    parts = []
    for _ in range(scales):
        responses = []
        if directions:
            middle = plane[:, 1:-1, 1:-1]
            responses += [plane[:, 1:-1, 2:] - middle, plane[:, 2:, 1:-1] - middle]
            responses += [plane[:, 2:, 2:] - middle, plane[:, 2:, :-2] - middle]
        around = plane[:, :-2, 1:-1] + plane[:, 2:, 1:-1] + plane[:, 1:-1, :-2] + plane[:, 1:-1, 2:]
        responses.append(plane[:, 1:-1, 1:-1] - around / 4)
        for response in responses:
            parts.append(_shape(response))
        parts.append(_quantiles(_log(_local_rms(responses[-1]))))
        if directions:
            parts.append(_quantiles(_log(_local_rms(responses[0])) - _log(_local_rms(responses[1]))))
            parts.append(_quantiles(_log(_local_rms(responses[2])) - _log(_local_rms(responses[3]))))
        plane = block_mean(plane, 2)
    return np.concatenate(parts)


def _shape(response: Array) -> Array:
    """Log size, peakedness and lopsidedness of a response, and quantiles of its magnitude against its size."""
    flat = response.ravel()
    flat = flat[:: max(1, flat.size // _SAMPLED)]
    square = flat * flat
    rms = np.sqrt(square.mean()) + _TINY
    size = np.sort(np.abs(flat))
    cubic = np.cbrt((square * flat).mean() / rms**3)
    tails = _log(size[[int(share * len(size)) for share in (0.1, 0.5, 0.9, 0.99)]]) - np.log(rms)
    return np.array([np.log(rms), np.log(size.mean() / rms + _TINY), cubic, *tails], np.float32)


def _local_rms(response: Array) -> Array:
    """Root mean square in blocks of 8×8 of K×h×w (what does not fill a block is left out)."""
    h, w = (side // _BLOCK_PX * _BLOCK_PX for side in response.shape[1:])
    blocks = response[:, :h, :w]
    return np.sqrt(block_mean(blocks * blocks, _BLOCK_PX))


def _block_grid(grey: Array) -> Array:
    """How large steps between neighbours are at each of the eight places within a block, against all of them."""
    parts = []
    for axis in (1, 2):
        step = np.abs(np.diff(grey, 2, axis=axis)).mean(axis=(0, 3 - axis))
        step = step[: len(step) // _BLOCK_PX * _BLOCK_PX].reshape(-1, _BLOCK_PX).mean(0)
        parts.append(_log(step) - _log(step.mean(keepdims=True)))
    return np.concatenate([*parts, np.sort(parts[0] + parts[1])])


@cache
def _cosines() -> Array:
    """The orthonormal DCT-II matrix of JPEG, 8×8."""
    n = np.arange(_BLOCK_PX)
    matrix = np.cos((2 * n[None] + 1) * n[:, None] * np.pi / 16) / 2
    matrix[0] /= np.sqrt(2)
    return matrix.astype(np.float32)


def _block_transform(grey: Array) -> Array:
    """Size of the 63 coefficients of JPEG's blocks, and how it differs from that off the grid."""
    parts = []
    for shift in (0, 4):
        plane = grey[:, shift : grey.shape[1] - (8 - shift) % 8, shift : grey.shape[2] - (8 - shift) % 8]
        k, h, w = plane.shape
        blocks = plane.reshape(k, h // 8, 8, w // 8, 8).swapaxes(2, 3).reshape(-1, 8, 8)
        coefficients = np.abs(_cosines() @ blocks @ _cosines().T).reshape(-1, 64)[:, 1:]
        parts.append(_log(coefficients.mean(0)))
    size, size_off = parts
    return np.concatenate([size, size - size_off])


@cache
def _polar(side: int) -> tuple[NDArray[np.int64], int]:
    """The bin of each coefficient of a real FFT of side×side: rings of equal ratio by sectors of half a turn."""
    v, u = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]
    radius = np.hypot(v, u)
    ring = np.floor(_RINGS * (1 + np.log2(np.maximum(radius, 1e-9) / 0.5) / 5)).astype(int).clip(-1, _RINGS - 1)
    sector = np.floor((np.arctan2(v, u) / np.pi + 0.5) * _SECTORS).astype(int) % _SECTORS
    bins = np.where((ring < 0) | (radius > 0.5), _RINGS * _SECTORS, ring * _SECTORS + sector)
    return bins.ravel(), _RINGS * _SECTORS


def _spectrum(grey: Array) -> Array:
    """Log power by ring; by sector relative to the ring, turned so that the weakest sector is first, and sorted."""
    side = grey.shape[1]
    window = np.outer(np.hanning(side), np.hanning(side)).astype(np.float32)
    power = np.abs(np.fft.rfft2((grey - grey.mean(axis=(1, 2), keepdims=True)) * window)) ** 2
    bins, count = _polar(side)
    sums = np.bincount(bins, power.mean(0).ravel(), count + 1)[:count]
    table = np.log(sums / np.maximum(np.bincount(bins, minlength=count + 1)[:count], 1) + 1e-3)
    table = table.reshape(_RINGS, _SECTORS)
    rings = table.mean(1)
    relative = table - rings[:, None]
    turned = np.roll(relative, -int(np.argmin(relative[_RINGS // 2 :].sum(0))), axis=1)
    return np.concatenate([rings, np.diff(rings), turned.ravel(), np.sort(relative, 1).ravel()])
