"""Point spread functions: found in one photograph, between two pictures, and drawn.

One photograph x has enough edges to tell what the hand did while the shutter was open, or how far off the focus was.
Of a picture L with few, strong edges, the fewest that explain x, and of K each is found in turn from the other (Xu,
Zheng and Jia, "Unnatural L0 sparse representation for natural image deblurring", CVPR 2013), first for a small copy of
the photograph and at last for itself (Fergus et al., "Removing camera shake from a single photograph", SIGGRAPH 2006),
with a few Fourier transforms a turn (Cho and Lee, "Fast motion deblurring", SIGGRAPH Asia 2009)::

    L ← argmin ‖K ∗ L − x‖² + λ·#{p : ∇L(p) ≠ 0}        K ← argmin ‖K ∗ ∇L − ∇x‖² + γ‖K‖²,  K ≥ 0, ΣK = 1
"""

from __future__ import annotations

import math
from functools import lru_cache

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from defusion_cli.canvas import Pixels
from defusion_cli.plugins import Blur

Plane = NDArray[np.float32]
CPU = torch.device("cpu")

WIDEST_PX = 41
"""Side of the largest K that is looked for."""
NARROW_PX = 1.95
"""Radius of gyration: twelve sharp photographs of Kodak seem to have 1.1 to 1.9, shaken ones 2.0 to 8.2."""
ROUND = 0.92
"""Correlation with a disk from which on K is one. Of 24 defocused Kodak photographs the K of 19 have more, of 24
shaken ones none, 0.43 to 0.89."""
_FEW, _FEW_AT_LEAST, _FEWER = 8e-3, 1e-4, 1.06
"""λ at first and at last, and by what it is divided at each turn."""
_TURNS = 8
"""K is found so many times at each size."""
_STIFF = 2.0 / 65536
"""γ for each pixel of the picture."""
_TIGHTEN, _TIGHT = 2.5, 2e3
"""How half-quadratic splitting closes in on L, and how far."""
_WEAK, _ISLAND = 0.05, 0.1
"""Taps below this part of the largest, and islands of less than this part of all, are none of K."""
_FINE, _SOFT_PX = 8, 0.5
"""A disk is drawn so many times as large, and softened by a Gaussian of this sigma."""
_MARGIN_PX = 64
"""Over which the pictures of an example pair fade."""
_UNEXPLAINED = 0.15
"""An example pair shows blur if no more than this of the difference is left unexplained; of JPEG it is half."""
_RADII_PX = (1.5, 12.0, 0.125)
"""Of the disks that K is compared with: the first, an end and the step."""


def find_psf(grey: Plane, side: int, device: torch.device = CPU) -> Plane:
    """The point spread function of a grey picture, `side`×`side` (odd), of unit sum, centred on its centroid.

    The Fourier transforms are those of `device`.
    """
    sides = [side]
    while sides[-1] > 3:
        sides.append(max(3, int(sides[-1] / math.sqrt(2)) | 1))
    few = _FEW
    psf = np.zeros((3, 3), np.float32)
    psf[1, 1] = 1
    for size in reversed(sides):
        picture = periodic(_at_scale(grey, size / side), max(size, 8))
        shown, shape = spectrum_of(picture, device), (picture.shape[0], picture.shape[1])
        squares = gradient_squares(shape, device)
        psf = np.maximum(cv2.resize(psf, (size, size), interpolation=cv2.INTER_CUBIC), 0)
        psf /= psf.sum()
        for _ in range(_TURNS):
            edges = few_edges(shown, response(psf, shape, device), squares, shape, few)
            psf = _centred(_psf_between(edges, shown, squares, shape, size))
            few = max(few / _FEWER, _FEW_AT_LEAST)
    return psf


def disk(radius: float) -> Plane:
    """The point spread function of a lens that is out of focus: odd, square, of unit sum, its edge softened."""
    half = math.ceil(radius) + 3
    fine = (np.arange((2 * half + 1) * _FINE) + 0.5) / _FINE - half - 0.5
    inside = (np.hypot(fine[:, None], fine) <= radius).astype(np.float32)
    psf = cv2.resize(inside, (2 * half + 1,) * 2, interpolation=cv2.INTER_AREA)
    return _of_unit_sum(np.asarray(cv2.GaussianBlur(psf, (0, 0), _SOFT_PX), np.float32))


def blur_between(before: Pixels, after: Pixels) -> Blur | None:
    """How all of `before` is blurred in comparison with `after` (H×W×3), if that is all: what an example pair shows."""
    planes = [periodic(np.ascontiguousarray(p.mean(axis=2)), _MARGIN_PX) for p in (after, before)]
    sharp, blurred = (spectrum_of(plane) for plane in planes)
    shape = (planes[0].shape[0], planes[0].shape[1])
    squares = gradient_squares(shape)
    psf = _centred(_psf_between(sharp, blurred, squares, shape, WIDEST_PX))
    left = _energy((response(psf, shape) * sharp - blurred) * squares.sqrt())
    if left > _UNEXPLAINED * _energy((sharp - blurred) * squares.sqrt()) or spread(psf) < NARROW_PX / 2:
        return None
    return Blur.DISK if most_like_a_disk(psf)[1] > ROUND else Blur.PATH


def most_like_a_disk(psf: Plane) -> tuple[Plane, float]:
    """The disk that K is most like, and their correlation, 0 … 1.

    A disk as wide as K is more than half a pixel too large where a few wrong taps lie far out.
    """
    half, length = len(psf) // 2, float(np.linalg.norm(psf))
    best, most = psf, -1.0
    for radius in np.arange(*_RADII_PX):
        other = disk(float(radius))
        margin = half - len(other) // 2
        if margin < 0:
            break
        likeness = float((psf * np.pad(other, margin)).sum()) / (float(np.linalg.norm(other)) * length)
        if likeness > most:
            best, most = other, likeness
    return best, most


def _energy(spectrum: Tensor) -> float:
    return float(spectrum.abs().square().sum())


def _at_scale(grey: Plane, factor: float) -> Plane:
    if factor == 1:
        return grey
    smooth = cv2.GaussianBlur(grey, (0, 0), 0.4 / factor)
    return np.asarray(cv2.resize(smooth, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), np.float32)


def few_edges(shown: Tensor, response: Tensor, squares: Tensor, shape: tuple[int, int], few: float) -> Tensor:
    """The spectrum of L, by half-quadratic splitting (Xu, Lu, Xu and Jia, "Image smoothing via L0", TOG 2011)."""
    blurred, power = response.conj() * shown, response.abs().square()
    spectrum, weight = shown, 2 * few
    while weight < _TIGHT:
        picture = torch.fft.irfft2(spectrum, s=shape)
        right, down = torch.roll(picture, -1, 1) - picture, torch.roll(picture, -1, 0) - picture
        kept = right.square() + down.square() >= few / weight
        right, down = right * kept, down * kept
        edges = torch.roll(right, 1, 1) - right + torch.roll(down, 1, 0) - down
        spectrum = (blurred + weight * torch.fft.rfft2(edges)) / (power + weight * squares + 1e-8)
        weight *= _TIGHTEN
    return spectrum


def least_squares_psf(sharp: Tensor, blurred: Tensor, squares: Tensor, shape: tuple[int, int], side: int) -> Tensor:
    """K between two spectra as it is found, `side`×`side`."""
    stiff = _STIFF * shape[0] * shape[1]
    whole = torch.fft.irfft2(sharp.conj() * blurred * squares / (sharp.abs().square() * squares + stiff), s=shape)
    half = side // 2
    return torch.roll(whole, (half, half), (0, 1))[:side, :side].clone()


def _psf_between(sharp: Tensor, blurred: Tensor, squares: Tensor, shape: tuple[int, int], side: int) -> Plane:
    """K between two spectra, `side`×`side`, without what is weak or lies apart."""
    psf = least_squares_psf(sharp, blurred, squares, shape, side).cpu().numpy()
    psf[psf < max(_WEAK * psf.max(), 0)] = 0
    count, islands = cv2.connectedComponents((psf > 0).astype(np.uint8), connectivity=8)
    mass = np.bincount(islands.ravel(), psf.ravel(), count)
    psf[(mass < _ISLAND * psf.sum())[islands]] = 0
    return _of_unit_sum(psf)


def _of_unit_sum(psf: Plane) -> Plane:
    total = float(psf.sum())
    if not total > 0:  # a picture without edges
        psf = np.zeros_like(psf)
        psf[psf.shape[0] // 2, psf.shape[1] // 2] = total = 1.0
    return np.asarray(psf / np.float32(total))


def _centre(psf: Plane) -> tuple[float, float]:
    places = np.arange(len(psf))
    return float(psf.sum(1) @ places), float(psf.sum(0) @ places)


def _centred(psf: Plane) -> Plane:
    (row, column), middle = _centre(psf), len(psf) // 2
    shift = np.array([[1, 0, middle - column], [0, 1, middle - row]], np.float32)
    return _of_unit_sum(np.asarray(cv2.warpAffine(psf, shift, psf.shape[::-1]), np.float32))


def spread(psf: Plane) -> float:
    """Radius of gyration, pixels."""
    (row, column), places = _centre(psf), np.arange(len(psf))
    return float(np.sqrt(psf.sum(1) @ (places - row) ** 2 + psf.sum(0) @ (places - column) ** 2))


def response(psf: Plane, shape: tuple[int, int], device: torch.device = CPU) -> Tensor:
    """Fourier transform of K with its middle at the origin."""
    half = len(psf) // 2
    whole = np.zeros(shape, np.float32)
    whole[: len(psf), : len(psf)] = psf
    return spectrum_of(np.roll(whole, (-half, -half), (0, 1)), device)


def spectrum_of(plane: Plane, device: torch.device = CPU) -> Tensor:
    """Fourier transform of a real plane, H×(W/2 + 1)."""
    return torch.fft.rfft2(torch.from_numpy(plane).to(device))


def gradient_squares(shape: tuple[int, int], device: torch.device = CPU) -> Tensor:
    """|∂|², the power of the differences to the right and down, at each frequency."""
    return torch.from_numpy(_gradient_squares(shape)).to(device)


@lru_cache(maxsize=16)
def _gradient_squares(shape: tuple[int, int]) -> Plane:
    down = 2 * np.pi * np.arange(shape[0]) / shape[0]
    right = 2 * np.pi * np.arange(shape[1] // 2 + 1) / shape[1]
    return (4 - 2 * np.cos(down)[:, None] - 2 * np.cos(right)).astype(np.float32)


def periodic(picture: Plane, margin: int) -> Plane:
    """Mirrored at its borders, about its mean, and fading to nothing over at least `margin` pixels."""
    ends = []
    for length in picture.shape:
        missing = fast_length(length + 2 * margin) - length
        ends.append((missing // 2, missing - missing // 2))
    (top, bottom), (left, right) = ends
    mirrored = cv2.copyMakeBorder(picture, top, bottom, left, right, cv2.BORDER_REFLECT)
    window = fade(len(mirrored), top, bottom)[:, None] * fade(mirrored.shape[1], left, right)
    return np.asarray((mirrored - mirrored.mean()) * window, np.float32)


def fade(length: int, first: int, last: int) -> Plane:
    """1, but rising from 0 over the first and falling to 0 over the last places."""
    places = np.arange(length) + 0.5
    rise = np.clip(np.minimum(places / first, (length - places) / last), 0, 1)
    return (0.5 - 0.5 * np.cos(np.pi * rise)).astype(np.float32)


def fast_length(least: int) -> int:
    """The next even number from `least` on that has no prime factors but 2, 3 and 5."""
    return 2 * cv2.getOptimalDFTSize((least + 1) // 2)
