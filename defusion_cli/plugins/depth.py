"""A believable depth map for photographs nobody measured."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from defusion_cli.plugins.contract import Image
from defusion_cli.plugins.kernels import fractal_noise


def pseudo_depth(image: Image, rng: np.random.Generator) -> NDArray[np.float32]:
    """Relative depth, H×W in [0, 1] (1 = farthest), guessed from layout and content.

    What is drawn from `rng` depends on the shape only.
    """
    h, w = image.shape[:2]
    tilt, curve, rough = rng.uniform(-0.6, 0.6), rng.uniform(0.8, 2.5), rng.uniform(0.05, 0.2)
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    ramp = np.clip(1.0 - y / max(h - 1, 1) + tilt * (x / max(w - 1, 1) - 0.5), 0.0, 1.0) ** np.float32(curve)
    depth = ramp + np.float32(rough) * fractal_noise((h, w), rng, max(h, w) / 2)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    depth = cv2.ximgproc.guidedFilter(grey, depth, 16, 1e-3) if hasattr(cv2, "ximgproc") else depth
    low, high = float(depth.min()), float(depth.max())
    return ((depth - low) / max(high - low, 1e-6)).astype(np.float32)
