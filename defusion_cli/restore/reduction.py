"""Damage estimated on a reduced photograph, brought back to full size along the photograph's own edges.

Of a photograph x, reduced by a whole number n to x↓, the network estimates the damage y↓. What the reduction dropped
is the detail h = x − ↑x↓, and some of that is damage, too: the hard edge of a streak, the contrast that haze took from
every leaf. How much of it is read off the reduced pictures, where both are known, in small windows and per channel::

    y = ↑y↓ + ↑(a ρ⁴) · h,    a = cov(y↓, x↓) / var(x↓),    ρ² = cov(y↓, x↓)² / (var(x↓) var(y↓))

Haze, darkness and water are nearly affine in such a window (ρ = ±1, y = a x + b), and their detail comes back in full
contrast; where the damage has nothing to do with what the photograph shows, ρ is near 0 and detail stays as it is.
The slope a is that of the guided filter (He, Sun & Tang, "Guided Image Filtering", TPAMI 2013), which also replaces ↑y↓
by a x + b, and so blurs damage that is smaller than a window; the weight ρ⁴ is ours. In a window of texture even damage
that knows nothing of it correlates a little, and ρ² alone would let through twice as much of that.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from defusion_cli.canvas import Photo, Pixels, Window, row_bands

_RADIUS = 3
"""Of the windows, in pixels of the reduced picture."""

_NOISE = np.float32((1 / 255) ** 2)
"""A variance below which nothing is told from rounding."""

_HALO = 2 * _RADIUS + 2
"""Rows beside a band that its enlarged pixels depend on: two box filters, and cubic interpolation."""

_SHARE = 4
"""Enlarging needs several fields at full size: bands are smaller by this."""


class ReducedPhoto:
    """A `Photo` reduced by the whole number `factor`; what is missing for a last pixel repeats the border."""

    def __init__(self, photo: Photo, factor: int) -> None:
        self._photo, self._factor = photo, factor
        height, width = photo.size
        self.size = -(-height // factor), -(-width // factor)

    def pixels(self, window: Window) -> Pixels:
        """Means over squares of the photograph, h×w×3 in [0, 1]."""
        rows, columns = (range(*one.indices(side)) for one, side in zip(window, self.size, strict=True))
        n = self._factor
        reduced: Pixels = np.empty((len(rows), len(columns), 3), np.float32)
        for band in row_bands(len(rows), len(columns) * n * n):
            top, bottom = (n * (rows.start + row) for row in (band.start, band.stop))
            left, right = n * columns.start, n * columns.stop
            part = self._photo.pixels((slice(top, bottom), slice(left, right)))
            missing = bottom - top - part.shape[0], right - left - part.shape[1]
            if any(missing):
                part = cv2.copyMakeBorder(part, 0, missing[0], 0, missing[1], cv2.BORDER_REPLICATE)
            reduced[band] = cv2.resize(part, (len(columns), band.stop - band.start), interpolation=cv2.INTER_AREA)
            self._photo.relax()
        return reduced

    def relax(self) -> None:
        """Let go of the memory of what was read."""
        self._photo.relax()


def enlarge(photo: Photo, factor: int, parts: Iterator[tuple[slice, Pixels]]) -> Iterator[tuple[slice, Pixels]]:
    """Rows of the damage of `photo`, from top to bottom, out of rows of the damage of the reduced one.

    Rows of `photo` that were handed out are not read again, so that they may be replaced.

    Parameters
    ----------
    parts
        Rows and damage h×w×3 of ``ReducedPhoto(photo, factor)``, from top to bottom.
    """
    reduced = ReducedPhoto(photo, factor)
    height, width = reduced.size
    x = y = np.empty((0, width, 3), np.float32)
    first = done = 0  # the first row that is kept, and the first one that is not handed out
    for rows, damage in parts:
        x = np.concatenate([x, reduced.pixels((rows, slice(0, width)))])
        y = np.concatenate([y, damage])
        ready = height if rows.stop == height else rows.stop - _HALO
        for band in row_bands(max(0, ready - done), photo.size[1] * factor, _SHARE):
            top, bottom = done + band.start, done + band.stop
            near = slice(max(0, top - _HALO) - first, min(height, bottom + _HALO) - first)
            full = slice(top * factor, min(bottom * factor, photo.size[0]))
            detail = photo.pixels((full, slice(0, photo.size[1])))
            inner = top - first - near.start
            yield full, _enlarged(x[near], y[near], detail, factor, inner)
        done = max(done, ready)
        keep = max(first, done - _HALO)
        x, y, first = x[keep - first :], y[keep - first :], keep


def _enlarged(x: Pixels, y: Pixels, photo: Pixels, factor: int, inner: int) -> Pixels:
    """The damage at the size of `photo`; `x` and `y` have `inner` more rows above, and maybe some below."""
    damage = _interpolated(y, factor, inner, photo.shape)
    detail = photo - _interpolated(x, factor, inner, photo.shape)
    detail *= _interpolated(explained_slope(x, y), factor, inner, photo.shape)
    damage += detail
    return damage


def explained_slope(x: Pixels, y: Pixels) -> Pixels:
    """a ρ⁴, h×w×3 in (−∞, 1]: the part of detail in the picture `x` that is damage, if the damage of `x` is `y`."""
    mean_x, mean_y = _mean(x), _mean(y)
    both = _mean(x * y) - mean_x * mean_y
    var_x = _mean(x * x) - mean_x * mean_x + _NOISE
    var_y = _mean(y * y) - mean_y * mean_y + _NOISE
    alike = np.minimum(both * both / (var_x * var_y), 1)  # ρ²
    return _mean(np.minimum(both / var_x, 1) * alike * alike)


def _mean(field: Pixels) -> Pixels:
    side = 2 * _RADIUS + 1
    return np.asarray(cv2.blur(field, (side, side), borderType=cv2.BORDER_REFLECT), np.float32)


def _interpolated(field: Pixels, factor: int, inner: int, shape: tuple[int, ...]) -> Pixels:
    # Cubic interpolation reaches two rows.
    above = min(inner, 2)
    rows = field[inner - above : inner - above + -(-shape[0] // factor) + above + 2]
    size = rows.shape[1] * factor, rows.shape[0] * factor
    whole = cv2.resize(rows, size, interpolation=cv2.INTER_CUBIC)
    return np.asarray(whole[above * factor : above * factor + shape[0], : shape[1]], np.float32)
