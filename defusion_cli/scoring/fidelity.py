"""PSNR and SSIM of two pictures in double precision, in all the variants that papers use.

pyiqa computes both in one variant, in single precision (PSNR) or with two-dimensional convolutions that take a hundred
times as long (SSIM). With the protocol "pyiqa" these functions give its values.

They agree with scikit-image to 1e-6 and better. From pyiqa's SSIM they differ by up to 5e-6, because of its luma: the
weights have three decimals, so that one pixel in a thousand lies halfway between two 8-bit levels, and in single
precision the last bit decides which of them it becomes. Here it is the even one.

References
----------
.. [1] Z. Wang, A. C. Bovik, H. R. Sheikh, E. P. Simoncelli, "Image quality assessment: from error visibility to
   structural similarity", IEEE Transactions on Image Processing 13(4), 2004.
.. [2] ITU-R BT.601: the two lumas.
.. [3] C. Yim, A. C. Bovik, "Quality assessment of deblocked images", IEEE Transactions on Image Processing 20(1),
   2011: PSNR-B. What papers on JPEG print follows the code of FBCNN, which takes the error over RGB and the blocking
   from luma rounded to 8 bits.
"""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from defusion_cli.errors import DataError
from defusion_cli.scoring.protocols import Colour, Pooling, Protocol, Window

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]
_Plane = NDArray[np.float64]

_FULL = np.array([0.299, 0.587, 0.114])
_STUDIO = np.array([65.481, 128.553, 24.966]) / 255
_SIDE = {"gaussian": 11, "uniform": 7}
_LEVELS = 2**16 - 1
_BLOCK = 8
"""Side of the blocks of JPEG."""


def psnr(picture: Image, reference: Image, protocol: Protocol, mask: Mask | None = None) -> float:
    """Peak signal-to-noise ratio in dB of two H×W×3 pictures in [0, 1]; infinite for equal ones if `eps` is zero.

    Only pixels in `mask` (H×W) count, if there is one; so in the other functions.
    """
    return _decibels(_squared_error(picture, reference, protocol, mask) + protocol.eps)


def psnr_b(picture: Image, reference: Image, protocol: Protocol, mask: Mask | None = None) -> float:
    """PSNR-B [3]_ in dB: the blocking of the picture is added to its error."""
    colour = protocol.psnr_colour
    luma = (
        _seen(picture, colour, protocol)
        if colour != "rgb"
        else _seen(picture, "y-studio", replace(protocol, rounded=True))
    )
    return _decibels(_squared_error(picture, reference, protocol, mask) + blocking(luma[..., 0]))


def blocking(luma: _Plane) -> float:
    """Blocking effect factor of an H×W plane [3]_, equations 4 to 9, for blocks of 8×8.

    The numbers of pairs across and beside block edges are those of the equations, as if the sides were multiples of
    eight.
    """
    height, width = luma.shape
    if min(height, width) < 2 * _BLOCK:
        raise DataError(
            "The picture is too small for PSNR-B.", found=f"{width}×{height}", accepted=f"at least {2 * _BLOCK} pixels"
        )
    edge, inside, edges, pairs = 0.0, 0.0, 0.0, 0.0
    for plane in (luma, luma.T):
        steps = np.square(np.diff(plane, axis=1))
        across = steps[:, _BLOCK - 1 :: _BLOCK].sum()
        edge, inside = edge + across, inside + steps.sum() - across
        edges += plane.shape[0] * (plane.shape[1] / _BLOCK - 1)
        pairs += steps.size
    excess = edge / edges - inside / (pairs - edges)
    return max(0.0, excess) * math.log2(_BLOCK) / math.log2(min(height, width))


def ssim(picture: Image, reference: Image, protocol: Protocol, mask: Mask | None = None) -> float:
    """Structural similarity [1]_ of two H×W×3 pictures in [0, 1], the mean over all places and channels.

    Raises
    ------
    DataError
        If the picture is smaller than the window.
    """
    if mask is not None:
        picture, reference = picture * mask[..., None], reference * mask[..., None]
    a, b = (_seen(image, protocol.ssim_colour, protocol) for image in (picture, reference))
    if protocol.non_negative and protocol.ssim_colour == "rgb":
        a, b = np.rint(a * 255) / 255, np.rint(b * 255) / 255  # pyiqa, for pictures of more than 8 bits
    a, b = _pooled(a, protocol.pooling), _pooled(b, protocol.pooling)
    side = _SIDE[protocol.window]
    if min(a.shape[:2]) < side:
        found = f"{picture.shape[1]}×{picture.shape[0]}"
        raise DataError("The picture is too small for SSIM.", found=found, accepted=f"at least {side}×{side}")
    similarity = _similarity(a, b, protocol.window, protocol.non_negative)
    if mask is not None:
        margin = side // 2
        similarity = similarity[mask[margin:-margin, margin:-margin]]
    return float(similarity.mean())


def mean_absolute_error(picture: Image, reference: Image, mask: Mask | None = None) -> float:
    """Mean absolute difference of two H×W×3 pictures in [0, 1]."""
    error = np.abs(picture.astype(np.float64) - reference)
    return float(np.mean(error if mask is None else error[mask]))


def _decibels(error: float) -> float:
    return -10 * math.log10(error) if error > 0 else math.inf


def _squared_error(picture: Image, reference: Image, protocol: Protocol, mask: Mask | None) -> float:
    a, b = (_seen(image, protocol.psnr_colour, protocol) for image in (picture, reference))
    error = np.square(a - b)
    return float(np.mean(error if mask is None else error[mask]))


def _seen(image: Image, colour: Colour, protocol: Protocol) -> _Plane:
    """What is compared: H×W×3 or H×W×1, [0, 1], double precision."""
    if protocol.crop == "multiple-of-4":
        height, width = (side - side % 4 for side in image.shape[:2])
        image = image[:height, :width]
    wide = image.astype(np.float64)
    if colour == "rgb":
        return wide
    if protocol.rounded:
        # Half levels are common in sums of 8-bit values with these weights: neither the last bit of a single-precision
        # pixel nor that of a product must decide where they go. Levels of 8 bits are levels of 16 bits.
        wide = np.rint(wide * _LEVELS) / _LEVELS
    luma = wide @ _FULL if colour == "y-full" else wide @ _STUDIO + 16 / 255
    if protocol.rounded:
        luma = np.rint(np.round(luma * 255, 9)) / 255
    return luma[..., None]


def _pooled(image: _Plane, pooling: Pooling) -> _Plane:
    factor = max(1, round(min(image.shape[:2]) / 256))
    if pooling == "none" or factor == 1:
        return image
    for axis in (0, 1):
        length = image.shape[axis]
        count = length // factor
        places = np.arange(count + 1)
        starts, ends = places[:-1] * factor, places[1:] * factor
        if pooling == "adaptive":  # windows overlap by one where the length is no multiple
            starts, ends = places[:-1] * length // count, -(-places[1:] * length // count)
        sums = np.cumsum(np.insert(image, 0, 0.0, axis=axis), axis=axis)
        shape = [-1 if dimension == axis else 1 for dimension in range(3)]
        image = (np.take(sums, ends, axis) - np.take(sums, starts, axis)) / (ends - starts).reshape(shape)
    return image


def _similarity(a: _Plane, b: _Plane, window: Window, non_negative: bool) -> _Plane:
    """Map of local similarity where the window is inside the picture; equation 13 of [1]_ with L = 1."""
    c1, c2 = 0.01**2, 0.03**2
    mean_a, mean_b = _local_mean(a, window), _local_mean(b, window)
    product, square_a, square_b = mean_a * mean_b, mean_a * mean_a, mean_b * mean_b
    # Sample covariance divides by n − 1.
    weight = 49 / 48 if window == "uniform" else 1.0
    covariance = weight * (_local_mean(a * b, window) - product)
    variances = weight * (_local_mean(a * a, window) - square_a + _local_mean(b * b, window) - square_b)
    structure = (2 * covariance + c2) / (variances + c2)
    if non_negative:
        structure = np.maximum(structure, 0.0)
    similarity: _Plane = (2 * product + c1) / (square_a + square_b + c1) * structure
    return similarity


def _local_mean(image: _Plane, window: Window) -> _Plane:
    side = _SIDE[window]
    kernel = cv2.getGaussianKernel(side, 1.5, cv2.CV_64F) if window == "gaussian" else np.full((side, 1), 1 / side)
    margin = side // 2
    filtered = cv2.sepFilter2D(np.ascontiguousarray(image), cv2.CV_64F, kernel, kernel)
    inside: _Plane = filtered[margin:-margin, margin:-margin]
    return inside
