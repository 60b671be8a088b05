"""Pictures that two parts of a set have in common, told by what they show: names and formats may differ."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PilImage

_SIDE_PX = 32
_ALIKE = 2.0
"""Mean difference of thumbnails, in levels of 255, up to which two pictures are one: JPEG changes them by far less."""


def same_pictures(first: Sequence[Path], second: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Pairs of files that show the same picture: for each of `first` the most similar of `second`, if they are alike.

    Files that cannot be read are passed over.
    """
    sides = [_thumbnails(paths) for paths in (first, second)]
    if not sides[0] or not sides[1]:
        return []
    names, others = list(sides[0]), list(sides[1])
    table = np.stack([sides[1][path] for path in others])  # M×K
    pairs = []
    for path in names:
        differences = np.abs(table - sides[0][path]).mean(axis=1)
        best = int(differences.argmin())
        if differences[best] <= _ALIKE:
            pairs.append((path, others[best]))
    return pairs


def _thumbnails(paths: Sequence[Path]) -> dict[Path, NDArray[np.float32]]:
    found = {}
    for path in paths:
        try:
            with PilImage.open(path) as image:
                small = image.convert("L").resize((_SIDE_PX, _SIDE_PX), PilImage.Resampling.BOX)
                found[path] = np.asarray(small, np.float32).ravel()
        except (OSError, ValueError):
            pass  # named elsewhere
    return found
