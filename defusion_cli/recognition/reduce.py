"""Means of blocks and quantiles, as fast as they can be had."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def block_mean(planes: Array, side: int) -> Array:
    """Means of side×side blocks of K×h×w planes, whose sides are multiples of it."""
    k, h, w = planes.shape
    stacked = np.ascontiguousarray(planes, np.float32).reshape(k * h, w)
    means = cv2.resize(stacked, (w // side, k * h // side), interpolation=cv2.INTER_AREA)
    return np.asarray(means, np.float32).reshape(k, h // side, w // side)


def quantiles(values: NDArray[np.floating], shares: Sequence[float]) -> Array:
    """Of all values, the nearest below; float32."""
    ordered = np.sort(values, axis=None)
    return ordered[[int(share * (ordered.size - 1)) for share in shares]].astype(np.float32)
