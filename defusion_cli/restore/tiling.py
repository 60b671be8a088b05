"""Where tiles lie, how they are blended, and the noise they start from.

Every quantity here is a function of absolute positions in the photograph, so that cutting it otherwise, or working
in another order or batch size, changes neither the noise nor the place of the network's sampling grid.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

GRID_PX = 64
"""Tiles begin at multiples of this, which all strides of the networks divide; noise comes in blocks of this side."""

OVERLAP_PX, WIDE_OVERLAP_PX, WIDE_FROM_PX = 64, 128, 512
"""Width of the strip that two neighbouring tiles share and in which one fades into the other: the wide one for tiles of
512 px or more. With it they differ by less than 2/255 from the same places in the whole (the default model, sigma 25 of
noise), with the narrow one by up to 9/255; it costs tiles of 1024 px a seventh of the time, smaller ones far more."""

MIN_TILE_PX = 2 * OVERLAP_PX
"""Narrower tiles would overlap with their neighbours' neighbours."""


@dataclass(frozen=True)
class Tile:
    """A rectangle of the photograph: first row and column, size, and what it shares with each neighbour, in pixels."""

    top: int
    left: int
    height: int
    width: int
    overlap: int = field(default=OVERLAP_PX, compare=False)

    @property
    def window(self) -> tuple[slice, slice]:
        """Index of the rectangle in an H×W array."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)

    def box(self, height: int, width: int) -> tuple[float, float, float, float]:
        """Left, top, right and bottom in fractions of the sides of the `height`×`width` picture."""
        left, top = self.left / width, self.top / height
        return left, top, left + self.width / width, top + self.height / height

    def grown(self, side: int, height: int, width: int) -> Tile:
        """The tile with its surroundings, `side` pixels long where it is shorter and the picture has them."""
        (top, h), (left, w) = (
            _grow(start, size, side, length)
            for start, size, length in ((self.top, self.height, height), (self.left, self.width, width))
        )
        return Tile(top, left, h, w)


def cut_tiles(height: int, width: int, tile_px: int) -> list[Tile]:
    """Overlapping tiles that cover a `height`×`width` picture, row by row, none larger than `tile_px` a side.

    `tile_px` is at least `MIN_TILE_PX`; where it does not cover a side, it is rounded down to a multiple of `GRID_PX`.
    """
    if tile_px < MIN_TILE_PX:
        raise ValueError(f"tiles of {tile_px} px; at least {MIN_TILE_PX} are needed")
    overlap = WIDE_OVERLAP_PX if tile_px >= WIDE_FROM_PX else OVERLAP_PX
    rows, columns = _cut(height, tile_px, overlap), _cut(width, tile_px, overlap)
    return [Tile(top, left, h, w, overlap) for top, h in rows for left, w in columns]


def _cut(length: int, tile_px: int, overlap: int) -> list[tuple[int, int]]:
    """Starts and sizes along one axis: equal sizes, but for the last one, which may be smaller."""
    if length <= tile_px:
        return [(0, length)]
    most = tile_px // GRID_PX * GRID_PX
    inner = length - overlap
    count = -(-inner // (most - overlap))
    # Sharing the length out evenly leaves no sliver at the end; a round stride may make the last tile needless.
    stride = -(-inner // (count * GRID_PX)) * GRID_PX
    starts = range(0, inner, stride)
    return [(start, min(stride + overlap, length - start)) for start in starts]


def _grow(start: int, size: int, side: int, length: int) -> tuple[int, int]:
    """Start and size along one axis of a longer piece around one, within `length`."""
    wanted = min(max(size, side), length)
    return min(max(0, start - (wanted - size) // 2), length - wanted), wanted


def blend_weights(tile: Tile, height: int, width: int) -> NDArray[np.float32]:
    """Weights of a tile, h×w×1: 1 inside, falling towards its neighbours, so that all tiles together give 1."""
    rows = _ramp(tile.top, tile.height, height, tile.overlap)
    columns = _ramp(tile.left, tile.width, width, tile.overlap)
    return (rows[:, None] * columns)[..., None]


def _ramp(start: int, size: int, length: int, overlap: int) -> NDArray[np.float32]:
    weights = np.ones(size, np.float32)
    # Raised cosine: no corner in the weights, hence no visible line where the blend begins.
    phase = (np.arange(overlap, dtype=np.float32) + np.float32(0.5)) / np.float32(overlap)
    fade = np.float32(0.5) - np.float32(0.5) * np.cos(np.float32(np.pi) * phase)
    if start > 0:
        weights[:overlap] = fade
    if start + size < length:
        weights[-overlap:] = 1 - fade
    return weights


def draw_noise(tile: Tile, seed: int) -> NDArray[np.float32]:
    """y_T of a tile, h×w×3, unit normal: a function of the seed and of the absolute position of each pixel."""
    noise = np.empty((tile.height, tile.width, 3), np.float32)
    for row in range(tile.top // GRID_PX, -(-(tile.top + tile.height) // GRID_PX)):
        for column in range(tile.left // GRID_PX, -(-(tile.left + tile.width) // GRID_PX)):
            block = np.random.default_rng([seed, row, column]).standard_normal((GRID_PX, GRID_PX, 3), np.float32)
            top, left = row * GRID_PX - tile.top, column * GRID_PX - tile.left
            into = noise[max(top, 0) : top + GRID_PX, max(left, 0) : left + GRID_PX]
            from_row, from_column = max(-top, 0), max(-left, 0)
            into[:] = block[from_row : from_row + into.shape[0], from_column : from_column + into.shape[1]]
    return noise


def batches(tiles: list[Tile], most: int) -> Iterator[list[Tile]]:
    """The tiles in groups of equal shape, at most `most` in each."""
    by_shape: dict[tuple[int, int], list[Tile]] = {}
    for tile in tiles:
        by_shape.setdefault((tile.height, tile.width), []).append(tile)
    for group in by_shape.values():
        for first in range(0, len(group), most):
            yield group[first : first + most]
