"""Colour spaces of photographs: the model knows sRGB, a file may hold Display P3, Adobe RGB or ProPhoto.

An RGB profile of the kind "matrix and curves" (ICC.1:2022, section 8.3.3) says for encoded values c

    XYZ = M · curve(c)                  (per channel; XYZ relative to D50)

and sRGB is one of them, so that values go from one to the other and back by two curves and a matrix. Out-of-gamut
colours lie outside [0, 1] on the way and are not clipped. Profiles that are tables, and grey ones, are left alone.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from defusion_cli.canvas import Pixels

_XYZ_TO_SRGB = np.linalg.inv(
    np.array([[0.4360747, 0.3850649, 0.1430804], [0.2225045, 0.7168786, 0.0606169], [0.0139322, 0.0971045, 0.7141733]])
)
"""IEC 61966-2-1 primaries, adapted to D50 by the Bradford transform."""

_NEAR = 1.5 / 255
"""A profile that differs from sRGB by less is one of the many spellings of sRGB."""

_TABLE = 4096
_Curve = Callable[[NDArray[Any]], NDArray[Any]]


@dataclass(frozen=True)
class ColourSpace:
    """Encoded RGB of a profile to and from encoded sRGB.

    Attributes
    ----------
    curves, inverses
        Per channel: encoded to linear, and back; odd functions, defined beyond [0, 1].
    matrix
        Linear RGB of the profile to linear sRGB.
    """

    curves: tuple[_Curve, ...]
    inverses: tuple[_Curve, ...]
    matrix: NDArray[np.float64]

    def to_srgb(self, pixels: Pixels) -> Pixels:
        """H×W×3 encoded values as sRGB; colours that sRGB lacks are below 0 or above 1."""
        return _srgb_encode(self._apply(pixels, self.curves) @ self.matrix.T).astype(np.float32)

    def from_srgb(self, pixels: Pixels) -> Pixels:
        """The inverse of `to_srgb`."""
        linear = _srgb_decode(pixels.astype(np.float64)) @ np.linalg.inv(self.matrix).T
        return self._apply(linear, self.inverses).astype(np.float32)

    @staticmethod
    def _apply(pixels: NDArray[Any], curves: tuple[_Curve, ...]) -> NDArray[Any]:
        pixels = pixels.astype(np.float64)  # near black, curves are steep
        return np.stack([curve(pixels[..., channel]) for channel, curve in enumerate(curves)], axis=-1)

    def subtract(self, pixels: Pixels, damage: Pixels, srgb: Pixels | None = None) -> Pixels:
        """`pixels` (of the profile) less `damage` (of sRGB); exactly `pixels` where there is none."""
        srgb = self.to_srgb(pixels) if srgb is None else srgb
        changed: Pixels = pixels + (self.from_srgb(srgb - damage) - self.from_srgb(srgb))
        return changed


@lru_cache(maxsize=8)
def read_colour_space(icc: bytes | None) -> ColourSpace | None:
    """The colour space of a profile; None if it is sRGB, or is of a kind that pixels are not converted for."""
    if not icc:
        return None
    try:
        with np.errstate(all="ignore"):
            space = _parse(icc)
    except (struct.error, ValueError, IndexError, KeyError, OverflowError, np.linalg.LinAlgError):
        return None  # broken, a table, or grey
    probe = np.stack(np.meshgrid(*[np.linspace(0, 1, 5, dtype=np.float32)] * 3), axis=-1)
    with np.errstate(all="ignore"):
        there = space.to_srgb(probe)
        back = space.from_srgb(there)
    if not np.isfinite(there).all() or np.abs(back - probe).max() > _NEAR:
        return None  # no photograph can be kept in such a space
    return None if np.abs(there - probe).max() < _NEAR else space


def _parse(icc: bytes) -> ColourSpace:
    if icc[16:20] != b"RGB " or icc[20:24] != b"XYZ ":
        raise ValueError("no RGB profile of matrix and curves")
    tags = {}
    for index in range(min(100, struct.unpack_from(">I", icc, 128)[0])):
        name, start, size = struct.unpack_from(">4sII", icc, 132 + 12 * index)
        tags[name] = icc[start : start + size]
    if b"A2B0" in tags:
        raise ValueError("a profile of tables")
    columns = [struct.unpack_from(">3i", tags[name], 8) for name in (b"rXYZ", b"gXYZ", b"bXYZ")]
    matrix = _XYZ_TO_SRGB @ (np.array(columns, np.float64).T / 65536)
    np.linalg.inv(matrix)
    pairs = [_curve(tags[name]) for name in (b"rTRC", b"gTRC", b"bTRC")]
    return ColourSpace(tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs), matrix)


def _curve(tag: bytes) -> tuple[_Curve, _Curve]:
    """Encoded to linear, and the inverse, from a tag of type ``curv`` or ``para``."""
    if tag[:4] == b"para":
        return _parametric(tag)
    if tag[:4] != b"curv":
        raise ValueError("an unknown kind of curve")
    count = struct.unpack_from(">I", tag, 8)[0]
    if count == 0:
        return _power(1.0)
    if count == 1:
        return _power(struct.unpack_from(">H", tag, 12)[0] / 256)
    table = np.frombuffer(tag, ">u2", count, 12).astype(np.float64) / 65535
    return _interpolated(np.linspace(0, 1, count), table)


def _parametric(tag: bytes) -> tuple[_Curve, _Curve]:
    """Function types 0 to 4 of ICC.1:2022, table 68, as a fine table."""
    kind = struct.unpack_from(">H", tag, 8)[0]
    given = np.array(struct.unpack_from(f">{(1, 3, 4, 5, 7)[kind]}i", tag, 12)) / 65536
    if kind == 0:
        return _power(float(given[0]))
    g, a, b = given[:3]
    # (a x + b)^g + e from d on, c x + f below.
    c, d, e, f = {
        1: lambda: (0.0, -b / a, 0.0, 0.0),
        2: lambda: (0.0, -b / a, given[3], given[3]),
        3: lambda: (given[3], given[4], 0.0, 0.0),
        4: lambda: tuple(given[3:7]),
    }[kind]()
    x = np.linspace(0, 1, _TABLE)
    return _interpolated(x, np.where(x >= d, np.maximum(a * x + b, 0) ** g + e, c * x + f))


def _power(gamma: float) -> tuple[_Curve, _Curve]:
    if not 0.2 < gamma < 5:
        raise ValueError("no gamma that a photograph has")
    return _odd(lambda v: v**gamma), _odd(lambda v: v ** (1 / gamma))


def _interpolated(x: NDArray[Any], y: NDArray[Any]) -> tuple[_Curve, _Curve]:
    if (np.diff(y) < 0).any() or y[-1] <= y[0]:
        raise ValueError("a curve that cannot be inverted")
    y = y + np.linspace(0, 1e-6, len(y))  # tables of 16 bits begin with several zeros
    return _odd(lambda v: _extended(v, x, y)), _odd(lambda v: _extended(v, y, x))


def _extended(v: NDArray[Any], x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    """Linear interpolation, continued beyond the last point with its slope."""
    slope = (y[-1] - y[-2]) / (x[-1] - x[-2])
    return np.interp(v, x, y) + np.maximum(v - x[-1], 0) * slope


def _odd(function: _Curve) -> _Curve:
    return lambda v: np.sign(v) * function(np.abs(v))


def _srgb_encode(linear: NDArray[Any]) -> NDArray[Any]:
    size = np.abs(linear)
    curved = 1.055 * np.maximum(size, 1e-9) ** (1 / 2.4) - 0.055
    return np.sign(linear) * np.where(size <= 0.0031308, 12.92 * size, curved)


def _srgb_decode(encoded: NDArray[Any]) -> NDArray[Any]:
    size = np.abs(encoded)
    return np.sign(encoded) * np.where(size <= 0.04045, size / 12.92, ((size + 0.055) / 1.055) ** 2.4)
