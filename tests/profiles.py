"""Colour profiles made from their definition, for tests."""

from __future__ import annotations

import struct


def rgb_profile(primaries: list[tuple[float, float, float]], curve: bytes) -> bytes:
    """A minimal ICC profile of matrix and curve (ICC.1:2022, section 7)."""
    white = struct.pack(">4sI3i", b"XYZ ", 0, *(round(v * 65536) for v in (0.9642, 1.0, 0.8249)))
    colorants = [struct.pack(">4sI3i", b"XYZ ", 0, *(round(v * 65536) for v in xyz)) for xyz in primaries]
    text = b"desc" + struct.pack(">III", 0, 5, 0)[0:8] + b"test\0" + bytes(80)
    copyright_ = b"text" + bytes(4) + b"none\0"
    tags = [(b"desc", text), (b"cprt", copyright_), (b"wtpt", white)]
    tags += list(zip((b"rXYZ", b"gXYZ", b"bXYZ"), colorants, strict=True))
    tags += [(name, curve) for name in (b"rTRC", b"gTRC", b"bTRC")]
    table, data, at = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, body in tags:
        table += struct.pack(">4sII", name, at + len(data), len(body))
        data += body + bytes(-len(body) % 4)
    size = 128 + len(table) + len(data)
    head = struct.pack(">I4sI4s4s4s", size, b"lcms", 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    head += struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp") + bytes(28)
    head += struct.pack(">3i", *(round(v * 65536) for v in (0.9642, 1.0, 0.8249)))
    return head + bytes(128 - len(head)) + table + data
