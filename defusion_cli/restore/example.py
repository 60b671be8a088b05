"""What a pair of pictures, damaged and clean, shows of the damage: residuals for an instruction."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from defusion_cli.canvas import JPEG_BLOCK_PX, Pixels
from defusion_cli.errors import DataError
from defusion_cli.ground.instruction import INSTRUCTION_PX

_MOST = 3
"""Squares along a side of the pair: one alone may lie where little is damaged, and of JPEG shows what it has on sky."""


def example_residuals(before: Pixels, after: Pixels) -> NDArray[np.float32]:
    """Squares of before − after, N×224×224×3, N from 1 to 9: cut or mirrored, not resized, for pixels are the scale.

    The pair is divided into 3×3 fields, less if it is small, and of each that square is taken which the damage changed
    most. What shows no difference is left out.

    Raises
    ------
    DataError
        If the pictures differ in size, or do not differ in anything.
    """
    if before.shape != after.shape:
        sizes = [f"{picture.shape[1]}×{picture.shape[0]}" for picture in (before, after)]
        raise DataError(
            "The two pictures of the example differ in size.",
            found=" and ".join(sizes),
            accepted="the same view twice, damaged and clean, pixel on pixel",
        )
    residual = before - after
    missing = [(0, max(0, INSTRUCTION_PX - side)) for side in residual.shape[:2]]
    residual = np.pad(residual, [*missing, (0, 0)], mode="symmetric")
    squares = [residual[top : top + INSTRUCTION_PX, left : left + INSTRUCTION_PX] for top, left in _corners(residual)]
    shown = [square for square in squares if square.any()]
    if not shown:
        raise DataError("The two pictures of the example show no difference.", accepted="--example DAMAGED CLEAN")
    return np.stack(shown)


def _corners(residual: NDArray[np.float32]) -> list[tuple[int, int]]:
    """Of the most changed square in each field.

    They are multiples of 8 pixels, so that the blocks of JPEG lie where they lie in a named instruction.
    """
    blocks = INSTRUCTION_PX // JPEG_BLOCK_PX
    rows, columns = (side // JPEG_BLOCK_PX for side in residual.shape[:2])
    change = np.square(residual[: rows * JPEG_BLOCK_PX, : columns * JPEG_BLOCK_PX]).mean(axis=2)
    change = cv2.resize(change, (columns, rows), interpolation=cv2.INTER_AREA)
    # Of the square that begins at a block.
    sums = cv2.boxFilter(change, cv2.CV_64F, (blocks, blocks), anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
    corners = []
    for top, bottom in _fields(rows - blocks + 1):
        for left, right in _fields(columns - blocks + 1):
            row, column = divmod(int(sums[top:bottom, left:right].argmax()), right - left)
            corners.append(((top + row) * JPEG_BLOCK_PX, (left + column) * JPEG_BLOCK_PX))
    return corners


def _fields(places: int) -> list[tuple[int, int]]:
    """First and behind the last place of a square in each of up to three ranges, half a square wide or more."""
    count = min(_MOST, 1 + (places - 1) * 2 * JPEG_BLOCK_PX // INSTRUCTION_PX)
    return [(places * k // count, places * (k + 1) // count) for k in range(count)]
