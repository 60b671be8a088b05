"""Colour profiles made from their definition, for tests."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np

_WHITE = (0.9642, 1.0, 0.8249)  # D50
SRGB_PRIMARIES = [
    (0.4360747, 0.2225045, 0.0139322), (0.3850649, 0.7168786, 0.0971045), (0.1430804, 0.0606169, 0.7141733),
]  # fmt: skip
"""XYZ of red, green and blue (IEC 61966-2-1), adapted to D50."""


def rgb_profile(primaries: list[tuple[float, float, float]], curve: bytes) -> bytes:
    """A minimal ICC profile of matrix and curve (ICC.1:2022, section 7)."""
    tags = [(name, _xyz(value)) for name, value in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=True)]
    return _profile(b"mntr", b"RGB ", [*tags, *((name, curve) for name in (b"rTRC", b"gTRC", b"bTRC"))])


def cmyk_profile(linear_rgb: Callable[[np.ndarray], np.ndarray], nodes: int = 6) -> bytes:
    """A profile of a printer whose inks N×4 in [0, 1] look like N×3 linear sRGB (type lut16, section 10.10)."""
    axes = np.meshgrid(*[np.linspace(0, 1, nodes)] * 4, indexing="ij")
    xyz = linear_rgb(np.stack(axes, axis=-1).reshape(-1, 4)) @ np.array(SRGB_PRIMARIES)
    table = np.round(xyz * 32768).astype(">u2").tobytes()
    straight = struct.pack(">2H", 0, 65535)
    head = struct.pack(">4s4x4B9i2H", b"mft2", 4, 3, nodes, 0, *(65536 * (n % 4 == 0) for n in range(9)), 2, 2)
    return _profile(b"prtr", b"CMYK", [(b"A2B0", head + 4 * straight + table + 3 * straight)])


def _xyz(value: tuple[float, float, float]) -> bytes:
    return struct.pack(">4sI3i", b"XYZ ", 0, *(round(v * 65536) for v in value))


def _profile(kind: bytes, space: bytes, tags: list[tuple[bytes, bytes]]) -> bytes:
    text = b"desc" + struct.pack(">III", 0, 5, 0)[0:8] + b"test\0" + bytes(80)
    tags = [(b"desc", text), (b"cprt", b"text" + bytes(4) + b"none\0"), (b"wtpt", _xyz(_WHITE)), *tags]
    table, data, at = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, body in tags:
        table += struct.pack(">4sII", name, at + len(data), len(body))
        data += body + bytes(-len(body) % 4)
    size = 128 + len(table) + len(data)
    head = struct.pack(">I4sI4s4s4s", size, b"lcms", 0x02400000, kind, space, b"XYZ ")
    head += struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp") + bytes(28)
    head += struct.pack(">3i", *(round(v * 65536) for v in _WHITE))
    return head + bytes(128 - len(head)) + table + data
