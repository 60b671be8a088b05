"""A believable depth map for photographs nobody measured.

A guess in three parts, none of them learnt. *Layout*: the distances in an open box in perspective, inverse depth
being linear on each of its planes (floor, ceiling, two walls, back); without ceiling and walls it is a plain under
the sky, with a close back it is a room. *Relief*: fractal noise. *Content*: bright and pale things tend to be
farther than dark ones. The sum is made to follow the edges of the picture with a guided filter (He, Sun & Tang,
"Guided Image Filtering", TPAMI 2013; subsampled as in He & Sun, "Fast Guided Filter", 2015).

It will not be right about a particular photo; over many draws it varies as real scenes do.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from defusion_cli.plugins.contract import Image
from defusion_cli.plugins.kernels import blur, fractal_noise

_COARSE_PX = 128
"""Longer side of the grid on which depth is guessed; its edges come from the full picture."""

Field = NDArray[np.float32]


def pseudo_depth(image: Image, rng: np.random.Generator) -> Field:
    """Relative depth, H×W float32 in [0, 1] (1 = farthest), guessed from layout and content.

    What is drawn from `rng` depends on the shape only. The nearest point of the picture is 0 and the farthest
    is 1, up to the filter that aligns the guess to edges.
    """
    h, w = image.shape[:2]
    scale = min(1.0, _COARSE_PX / max(h, w))
    small_h, small_w = max(1, round(h * scale)), max(1, round(w * scale))
    log_depth = np.log(_box_depth((small_h, small_w), rng))
    size_px = rng.uniform(0.25, 0.8) * max(small_h, small_w)
    log_depth += np.float32(rng.uniform(0.03, 0.16)) * fractal_noise((small_h, small_w), rng, max(size_px, 2.0))
    weights = np.array([0.3, 0.4, 0.3]) + 0.5 * rng.standard_normal(3)
    strength, power = rng.uniform(0.0, 0.35), rng.uniform(0.5, 1.0)

    small = cv2.resize(image, (small_w, small_h), interpolation=cv2.INTER_AREA)
    log_depth += np.float32(strength) * _content(small, weights.astype(np.float32))
    depth = np.exp(log_depth)
    low, high = float(depth.min()), float(depth.max())
    # Perspective alone leaves most of a picture near; a power below one gives furniture and houses their share.
    depth = ((depth - np.float32(low)) / np.float32(max(high - low, 1e-6))) ** np.float32(power)
    return _guided_upsample(depth, small, image)


def _box_depth(shape: tuple[int, int], rng: np.random.Generator) -> Field:
    """Distance to the inside of a box seen in perspective, H×W, positive, in arbitrary units."""
    h, w = shape
    indoor = rng.random() < 0.5
    reach = 1.2 if indoor else 0.6
    centre_x, horizon, roll = rng.uniform(-reach, reach), rng.uniform(-0.7, 0.1), rng.normal(0.0, 0.06)
    floor, ceiling = rng.uniform(0.4, 1.0), rng.uniform(0.4, 1.5)
    walls = np.exp(rng.uniform(np.log(0.4), np.log(3.0), size=2))
    present = rng.random(2) < (0.8 if indoor else 0.35)
    back = np.exp(rng.uniform(np.log(1.2), np.log(3.5 if indoor else 10.0)))

    half = max(h, w) / 2
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    x, y = (x + np.float32(0.5 - w / 2)) / np.float32(half), (y + np.float32(0.5 - h / 2)) / np.float32(half)
    across = x * np.float32(np.cos(roll)) + y * np.float32(np.sin(roll)) - np.float32(centre_x)
    down = y * np.float32(np.cos(roll)) - x * np.float32(np.sin(roll)) - np.float32(horizon)
    nearness = np.maximum(down / np.float32(floor), np.float32(1.0 / back))
    if indoor:
        np.maximum(nearness, -down / np.float32(ceiling), out=nearness)
    for sign, wall, there in zip((-1.0, 1.0), walls, present, strict=True):
        if there:
            np.maximum(nearness, across * np.float32(sign / wall), out=nearness)
    result: Field = (1.0 / nearness).astype(np.float32)
    return result


def _content(small: Image, weights: Field) -> Field:
    """A weighted sum of the colours, standardised and limited to ±1: parts of one colour share a distance."""
    value = blur(small @ weights, 1.0)
    value -= value.mean()
    result: Field = np.tanh(value / (value.std() + np.float32(0.05)))
    return result


def _guided_upsample(depth: Field, small: Image, image: Image, radius: int = 5, eps: float = 0.004) -> Field:
    """`depth` (coarse) as the local linear function of the grey picture that fits best, evaluated at full size."""
    h, w = image.shape[:2]
    guide = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)

    def mean(field: Field) -> Field:
        return cv2.boxFilter(field, -1, (2 * radius + 1, 2 * radius + 1), borderType=cv2.BORDER_REFLECT)

    mean_guide, mean_depth = mean(guide), mean(depth)
    slope = (mean(guide * depth) - mean_guide * mean_depth) / (mean(guide * guide) - mean_guide**2 + np.float32(eps))
    offset = mean_depth - slope * mean_guide
    line = cv2.resize(cv2.merge([mean(slope), mean(offset)]), (w, h), interpolation=cv2.INTER_LINEAR)
    slope, offset = cv2.split(line)
    full = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return np.clip(full * slope + offset, 0.0, 1.0)
