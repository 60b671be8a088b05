"""Bringing a picture and its reference into one frame: the centre cut out, or registration as RealBlur is scored.

The two cameras of RealBlur see the scene from one place, but not at one moment, and were corrected to one another for
the blurred picture, not for what a method makes of it. Its authors therefore register every result with the sharp
picture before they compare: brightness by one factor (least squares), position by a homography that maximises the
enhanced correlation coefficient, 100 iterations from identity. What the warp brings in from outside does not count.

References
----------
.. [1] J. Rim, H. Lee, J. Won, S. Cho, "Real-world blur dataset for learning and benchmarking deblurring algorithms",
   ECCV 2020, and its evaluation_RealBlur_ecc.py.
.. [2] G. D. Evangelidis, E. Z. Psarakis, "Parametric image alignment using enhanced correlation coefficient
   maximization", IEEE TPAMI 30(10), 2008.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from defusion_cli.errors import DataError

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

_ITERATIONS = 100
_SMOOTHING_PX = 5


def centre(pixels: Image, like: Image) -> Image:
    """The middle of `pixels` in the size of `like`; all of it where that is larger."""
    height, width = like.shape[:2]
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return pixels[top : top + height, left : left + width] if min(top, left) >= 0 else pixels


def align(picture: Image, reference: Image) -> tuple[Image, Mask]:
    """`picture` in the place and brightness of `reference`, both H×W×3 in [0, 1], and where it has pixels (H×W).

    Raises
    ------
    DataError
        If no registration is found: the pictures have next to nothing in common.
    """
    energy = float(np.sum(np.square(picture, dtype=np.float64)))
    if energy == 0:
        raise _unlike("the picture is black")
    factor = float(np.sum(reference.astype(np.float64) * picture)) / energy
    scaled = picture * np.float32(factor)
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, _ITERATIONS, 0)
    sharp, moving = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (reference, scaled))
    start = np.eye(3, dtype=np.float32)
    try:
        warp = cv2.findTransformECC(sharp, moving, start, cv2.MOTION_HOMOGRAPHY, criteria, None, _SMOOTHING_PX)[1]
    except cv2.error as error:
        raise _unlike(" ".join(str(error.err or error).split())[:120]) from None
    size = reference.shape[1], reference.shape[0]
    inverse = cv2.WARP_INVERSE_MAP
    moved = cv2.warpPerspective(scaled, warp, size, flags=cv2.INTER_CUBIC + inverse, borderMode=cv2.BORDER_REFLECT)
    ones = np.ones(picture.shape[:2], np.uint8)
    inside = cv2.warpPerspective(ones, warp, size, flags=cv2.INTER_NEAREST + inverse, borderMode=cv2.BORDER_CONSTANT)
    if not inside.any():
        raise _unlike("the warp leaves nothing of the picture")
    return np.asarray(moved, np.float32), inside > 0


def _unlike(reason: str) -> DataError:
    return DataError(
        "The picture cannot be registered with its reference.",
        found=reason,
        accepted="two pictures of one scene",
        fix="look whether they belong together; --protocol rgb compares without registration",
    )
