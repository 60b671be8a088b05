"""Blur that is the same all over a photograph, undone: the point spread function K is found in it, and inverted.

One photograph x has enough edges to tell what the hand did while the shutter was open, or how far off the focus was.
Of a picture L with few, strong edges, the fewest that explain x, and of K each is found in turn from the other (Xu,
Zheng and Jia, "Unnatural L0 sparse representation for natural image deblurring", CVPR 2013), first for a small copy of
the photograph and at last for itself (Fergus et al., "Removing camera shake from a single photograph", SIGGRAPH 2006),
with a few Fourier transforms a turn (Cho and Lee, "Fast motion deblurring", SIGGRAPH Asia 2009)::

    L ← argmin ‖K ∗ L − x‖² + λ·#{p : ∇L(p) ≠ 0}        K ← argmin ‖K ∗ ∇L − ∇x‖² + γ‖K‖²,  K ≥ 0, ΣK = 1

The filter that undoes it is Wiener's, with a spectrum that falls as natural pictures' does (1/|∂|²)::

    W = K* / (|K|² + ε·(|∂|² + 0.01))

Out of focus, K is the disk most like the K that is found (Hopkins, Proc. R. Soc. A 1955: the geometrical limit).

K is not believed, and the network is left to do what it can, if it is as narrow as what is found in sharp photographs,
if it reaches the edge of the window that it is looked for in, if it is no disk where one is asked for, or if W leaves,
of a shaken picture, one that is no simpler than x.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from defusion_cli.canvas import Photo, Pixels, Window
from defusion_cli.plugins import Blur
from defusion_cli.plugins.kernels import convolve, from_light, to_light

Plane = NDArray[np.float32]

_REGION_PX = 768
"""Side of the part of a photograph in which K is looked for. With 320 px three of eight shaken Kodak photographs gained
less than half a decibel, with 480 px one. Of all 24 those of 480 px gain 3.04 dB in the mean and 21 gain, the whole
photographs, 512×768, 3.21 dB and 22."""
_WINDOWS = ((27, 192), (41, 400))
"""Sides of K that are tried, and of a region that is large enough for it, pixels. In 255 px a window of 41 finds paths
that are not there."""
_USUAL_DEVIATION, _MOST_CONTRAST = 0.15, 4.0
"""Of brightness: fainter pictures are stretched to it, by so much at most, for λ is a matter of contrast."""
_FEW, _FEW_AT_LEAST, _FEWER = 8e-3, 1e-4, 1.1
"""λ at first and at last, and by what it is divided at each turn."""
_STIFF = 2.0 / 65536
"""γ for each pixel of the region."""
_TURNS = 5
"""K is found so many times at each size."""
_TIGHTEN, _TIGHT = 2.5, 1e4
"""How half-quadratic splitting closes in on L, and how far."""
_WEAK, _ISLAND = 0.05, 0.1
"""Taps below this part of the largest, and islands of less than this part of all, are none of K."""
_RING, _LEAK = 2, 0.005
"""Of a K that fits its window less than this part lies in the outermost pixels."""
_NARROW_PX = 1.95
"""Radius of gyration: twelve sharp photographs of Kodak seem to have 1.1 to 1.9, shaken ones 2.0 to 8.2."""
_ROUGHER = 1.1
"""Growth of ‖∇‖₁/‖∇‖₂ that is borne. (Krishnan et al., CVPR 2011: it falls as a picture becomes sharper.)"""
_CAUTION, _USUAL_GRADIENT = 0.01, 0.08
"""ε without noise, and the deviation of ∇L beside which noise is judged."""
_FINE, _SOFT_PX = 8, 0.5
"""A disk is drawn so many times as large, and softened by a Gaussian of this sigma."""
_UNEXPLAINED = 0.15
"""An example pair shows blur if no more than this of the difference is left unexplained; of JPEG it is half."""
_ROUND = 0.92
"""Correlation with a disk from which on K is one. Of 24 defocused Kodak photographs the K of 19 have more, of 24
shaken ones none, 0.43 to 0.89."""
_RADII_PX = (1.5, 12.0, 0.125)
"""Of the disks that K is compared with: the first, an end and the step."""
_REACH, _GRID = 64, 256
"""W is a filter of 129×129 taps, made from 256×256 frequencies."""
_ROWS, _COLUMNS = 256, 512
"""Pixels that are filtered at once."""


class Inverse(NamedTuple):
    """The filter that undoes a blur.

    Attributes
    ----------
    taps
        W, 129×129 of unit sum.
    space
        The values that were averaged and that it works on: ``linear`` (light) or ``srgb`` (those of the file).
    """

    taps: Plane
    space: str


def find_inverse(photo: Photo, blur: Blur) -> Inverse | None:
    """The filter W that undoes the blur of a photograph; None if no blur is certain.

    Light adds up, so a camera blurs in linear light, and many data sets do not. That one is right in which K is more of
    a disk, if it is to be one, or else that leaves the simpler picture.
    """
    region = _region(photo)
    best, least = None, 1 - _ROUND if blur == Blur.DISK else _ROUGHER
    for space in ("srgb", "linear"):
        grey = np.ascontiguousarray(to_light(region, space).mean(axis=2))
        psf = _believable_psf(grey)
        if psf is None:
            continue
        taps, unlikely = _undoing(psf, grey, blur)
        if unlikely < least:
            best, least = Inverse(taps, space), unlikely
    return best


def _undoing(psf: Plane, grey: Plane, blur: Blur) -> tuple[Plane, float]:
    """W for K, and how little either is to be believed: growth of the roughness, or how far K is from a disk."""
    if blur == Blur.DISK:
        psf, roundness = _most_like_a_disk(psf)
        return inverse(psf, _noise(grey)), 1 - roundness
    taps = inverse(psf, _noise(grey))
    sharper = _inside(np.pad(grey, _REACH, mode="edge"), taps)
    return taps, _roughness(sharper) / _roughness(grey)


def _believable_psf(grey: Plane) -> Plane | None:
    """K, if there is one in a region."""
    deviation = max(float(grey.std()), _USUAL_DEVIATION / _MOST_CONTRAST)
    stretched = grey * np.float32(_USUAL_DEVIATION / deviation)
    for side, least in _WINDOWS:
        if min(grey.shape) < least:
            return None
        psf = find_psf(stretched, side)
        if _spread(psf) < _NARROW_PX:
            return None
        if 1 - psf[_RING:-_RING, _RING:-_RING].sum() < _LEAK:
            return psf
    return None


class DeconvolvedPhoto:
    """A `Photo` through the filter that undoes its blur, computed where it is looked at; borders are repeated."""

    def __init__(self, photo: Photo, filter: Inverse) -> None:
        self._photo, self._filter, self.size = photo, filter, photo.size
        self._kept: Pixels = np.empty((0, photo.size[1], 3), np.float32)
        self._kept_stop = 0

    def pixels(self, window: Window) -> Pixels:
        """H×W×3 in [0, 1]."""
        rows, columns = (range(*one.indices(side)) for one, side in zip(window, self.size, strict=True))
        result: Pixels = np.empty((len(rows), len(columns), 3), np.float32)
        for top in range(0, len(rows), _ROWS):
            for left in range(0, len(columns), _COLUMNS):
                here = np.s_[top : top + _ROWS, left : left + _COLUMNS]
                light = to_light(self._around(rows[here[0]], columns[here[1]]), self._filter.space)
                result[here] = from_light(_inside(light, self._filter.taps), self._filter.space)
        return result

    def keep_above(self, row: int) -> None:
        """Remember what is above a row as far as the filter reaches: it may be replaced from now on."""
        self._kept = self._source(max(0, row - _REACH), row, 0, self.size[1]).copy()
        self._kept_stop = row

    def relax(self) -> None:
        """Let go of the memory of what was read."""
        self._photo.relax()

    def _around(self, rows: range, columns: range) -> Pixels:
        """The photograph at these places and as far around as the filter reaches."""
        (top, bottom), (left, right) = (
            (max(0, places.start - _REACH), min(side, places.stop + _REACH))
            for places, side in zip((rows, columns), self.size, strict=True)
        )
        missing = [
            (start - (places.start - _REACH), places.stop + _REACH - stop)
            for places, start, stop in ((rows, top, bottom), (columns, left, right))
        ]
        return np.pad(self._source(top, bottom, left, right), (*missing, (0, 0)), mode="edge")

    def _source(self, top: int, bottom: int, left: int, right: int) -> Pixels:
        """As the photograph was before any of it was replaced."""
        middle = min(max(top, self._kept_stop), bottom)
        below = self._photo.pixels((slice(middle, bottom), slice(left, right)))
        if middle == top:
            return below
        first = top - (self._kept_stop - len(self._kept))
        return np.concatenate([self._kept[first : first + middle - top, left:right], below])


def find_psf(grey: Plane, side: int) -> Plane:
    """The point spread function of a grey picture, `side`×`side` (odd), of unit sum, centred on its centroid."""
    sides = [side]
    while sides[-1] > 3:
        sides.append(max(3, int(sides[-1] / math.sqrt(2)) | 1))
    few = _FEW
    psf = np.zeros((3, 3), np.float32)
    psf[1, 1:] = 0.5
    for size in reversed(sides):
        picture = _periodic(_at_scale(grey, size / side), max(size, 8))
        shown, shape = torch.fft.rfft2(torch.from_numpy(picture)), (picture.shape[0], picture.shape[1])
        squares = torch.from_numpy(_gradient_squares(shape))
        psf = np.maximum(cv2.resize(psf, (size, size), interpolation=cv2.INTER_CUBIC), 0)
        psf /= psf.sum()
        for _ in range(_TURNS):
            edges = _few_edges(shown, _response(psf, shape), squares, shape, few)
            psf = _centred(_psf_between(edges, shown, squares, shape, size))
            few = max(few / _FEWER, _FEW_AT_LEAST)
    return psf


def inverse(psf: Plane, noise: float = 0.0) -> Plane:
    """W as a filter, 129×129 of unit sum.

    Parameters
    ----------
    psf
        K, of unit sum.
    noise
        Standard deviation of what is not K ∗ L, in units of full scale.
    """
    shape = (_GRID, _GRID)
    response = _response(psf, shape)
    squares = torch.from_numpy(_gradient_squares(shape))
    caution = _CAUTION + (noise / _USUAL_GRADIENT) ** 2
    wiener = torch.fft.irfft2(response.conj() / (response.abs().square() + caution * (squares + 0.01)), s=shape)
    size = 2 * _REACH + 1
    taps = torch.roll(wiener, (_REACH, _REACH), (0, 1))[:size, :size].numpy()
    ends = np.clip((_REACH + 1 - np.abs(np.arange(-_REACH, _REACH + 1))) * 3 / _REACH, 0, 1)
    taper = (0.5 - 0.5 * np.cos(np.pi * ends)).astype(np.float32)
    window = taper[:, None] * taper
    taps = taps * window
    return np.asarray(taps + (1 - taps.sum()) * window / window.sum(), np.float32)


def disk(radius: float) -> Plane:
    """The point spread function of a lens that is out of focus: odd, square, of unit sum, its edge softened."""
    half = math.ceil(radius) + 3
    fine = (np.arange((2 * half + 1) * _FINE) + 0.5) / _FINE - half - 0.5
    inside = (np.hypot(fine[:, None], fine) <= radius).astype(np.float32)
    psf = cv2.resize(inside, (2 * half + 1,) * 2, interpolation=cv2.INTER_AREA)
    return _of_unit_sum(np.asarray(cv2.GaussianBlur(psf, (0, 0), _SOFT_PX), np.float32))


def blur_between(before: Pixels, after: Pixels) -> Blur | None:
    """How all of `before` is blurred in comparison with `after` (H×W×3), if that is all: what an example pair shows."""
    planes = [torch.from_numpy(_periodic(np.ascontiguousarray(p.mean(axis=2)), _REACH)) for p in (after, before)]
    sharp, blurred = (torch.fft.rfft2(plane) for plane in planes)
    shape = (planes[0].shape[0], planes[0].shape[1])
    squares = torch.from_numpy(_gradient_squares(shape))
    psf = _centred(_psf_between(sharp, blurred, squares, shape, _WINDOWS[-1][0]))
    left = _energy((_response(psf, shape) * sharp - blurred) * squares.sqrt())
    if left > _UNEXPLAINED * _energy((sharp - blurred) * squares.sqrt()) or _spread(psf) < _NARROW_PX / 2:
        return None
    return Blur.DISK if _most_like_a_disk(psf)[1] > _ROUND else Blur.PATH


def _most_like_a_disk(psf: Plane) -> tuple[Plane, float]:
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


def _region(photo: Photo) -> Pixels:
    """The square of the photograph, among nine, that has most edges."""
    height, width = photo.size
    rows, columns = min(height, _REGION_PX), min(width, _REGION_PX)
    tops = sorted({(height - rows) * k // 2 for k in range(3)})
    lefts = sorted({(width - columns) * k // 2 for k in range(3)})
    best, most = np.empty((0, 0, 3), np.float32), -1.0
    for top in tops:
        for left in lefts:
            part = photo.pixels((slice(top, top + rows), slice(left, left + columns)))
            grey = part.mean(axis=2)
            strength = sum(float(np.abs(np.diff(grey, axis=k)).mean()) for k in (0, 1) if grey.shape[k] > 1)
            if strength > most:
                best, most = part, strength
    photo.relax()
    return best


def _at_scale(grey: Plane, factor: float) -> Plane:
    if factor == 1:
        return grey
    smooth = cv2.GaussianBlur(grey, (0, 0), 0.4 / factor)
    return np.asarray(cv2.resize(smooth, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), np.float32)


def _few_edges(shown: Tensor, response: Tensor, squares: Tensor, shape: tuple[int, int], few: float) -> Tensor:
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


def _psf_between(sharp: Tensor, blurred: Tensor, squares: Tensor, shape: tuple[int, int], side: int) -> Plane:
    """K between two spectra, `side`×`side`, without what is weak or lies apart."""
    stiff = _STIFF * shape[0] * shape[1]
    whole = torch.fft.irfft2(sharp.conj() * blurred * squares / (sharp.abs().square() * squares + stiff), s=shape)
    half = side // 2
    psf = torch.roll(whole, (half, half), (0, 1))[:side, :side].numpy().copy()
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


def _spread(psf: Plane) -> float:
    """Radius of gyration, pixels."""
    (row, column), places = _centre(psf), np.arange(len(psf))
    return float(np.sqrt(psf.sum(1) @ (places - row) ** 2 + psf.sum(0) @ (places - column) ** 2))


def _noise(grey: Plane) -> float:
    """Standard deviation of noise, from the median of the finest diagonal detail (Donoho and Johnstone, 1994)."""
    even = grey[: len(grey) // 2 * 2, : grey.shape[1] // 2 * 2]
    diagonal = (even[::2, ::2] - even[::2, 1::2] - even[1::2, ::2] + even[1::2, 1::2]) / 2
    return float(np.median(np.abs(diagonal)) / 0.6745)


def _roughness(grey: Plane) -> float:
    gradient = np.concatenate([np.diff(grey, axis=1).ravel(), np.diff(grey, axis=0).ravel()]).astype(np.float64)
    length = float(np.sqrt(np.square(gradient).mean()))
    return float(np.abs(gradient).mean()) / max(length, 1e-12)


def _inside(image: Pixels, taps: Plane) -> Pixels:
    """H×W or H×W×C convolved with `taps` where all of them lie inside: smaller by 128 on both sides."""
    return convolve(image, taps)[_REACH:-_REACH, _REACH:-_REACH]


def _response(psf: Plane, shape: tuple[int, int]) -> Tensor:
    """Fourier transform of K with its middle at the origin."""
    half = len(psf) // 2
    whole = torch.zeros(shape)
    whole[: len(psf), : len(psf)] = torch.from_numpy(psf)
    return torch.fft.rfft2(torch.roll(whole, (-half, -half), (0, 1)))


@lru_cache(maxsize=16)
def _gradient_squares(shape: tuple[int, int]) -> Plane:
    """|∂|², the power of the differences to the right and down, at each frequency."""
    down = 2 * np.pi * np.arange(shape[0]) / shape[0]
    right = 2 * np.pi * np.arange(shape[1] // 2 + 1) / shape[1]
    return (4 - 2 * np.cos(down)[:, None] - 2 * np.cos(right)).astype(np.float32)


def _periodic(picture: Plane, margin: int) -> Plane:
    """Mirrored at its borders, about its mean, and fading to nothing over at least `margin` pixels."""
    ends = []
    for length in picture.shape:
        missing = _fast_length(length + 2 * margin) - length
        ends.append((missing // 2, missing - missing // 2))
    (top, bottom), (left, right) = ends
    mirrored = cv2.copyMakeBorder(picture, top, bottom, left, right, cv2.BORDER_REFLECT)
    fade = _fade(len(mirrored), top, bottom)[:, None] * _fade(mirrored.shape[1], left, right)
    return np.asarray((mirrored - mirrored.mean()) * fade, np.float32)


def _fade(length: int, first: int, last: int) -> Plane:
    """1, but rising from 0 over the first and falling to 0 over the last places."""
    places = np.arange(length) + 0.5
    rise = np.clip(np.minimum(places / first, (length - places) / last), 0, 1)
    return (0.5 - 0.5 * np.cos(np.pi * rise)).astype(np.float32)


def _fast_length(least: int) -> int:
    """The next even number from `least` on that has no prime factors but 2, 3 and 5."""
    return 2 * cv2.getOptimalDFTSize((least + 1) // 2)
