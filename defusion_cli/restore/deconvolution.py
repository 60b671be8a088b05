"""Blur that is the same all over a photograph, undone: K is found in it (`defusion_cli.restore.psf`), and inverted.

Of all pictures L that K makes x of, the one is taken that has least of edges, with the few strong ones of natural
pictures (total variation, all colours together; Rudin, Osher and Fatemi, Physica D 1992)::

    L ← argmin λ/2·‖K ∗ L − x‖² + ‖∇L‖₁

Each of a few turns finds ∇L where there is one, and then the L that has it, by Fourier transforms, with a weight on
their agreement that rises (half-quadratic splitting: Wang, Yang, Yin and Zhang, SIAM J. Imaging Sciences 2008; Krishnan
and Fergus, NIPS 2009).

Out of focus, K is the disk most like the K that is found (Hopkins, Proc. R. Soc. A 1955: the geometrical limit).

K is not believed, and the network is left to do what it can, if it is as narrow as what is found in sharp photographs,
if it reaches the edge of the window that it is looked for in, if it is no disk where one is asked for, or if it leaves
a picture that is no simpler than x or that does not explain x.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from defusion_cli.canvas import Photo, Pixels, Window
from defusion_cli.plugins import Blur
from defusion_cli.plugins.kernels import convolve, from_light, to_light
from defusion_cli.restore.psf import (
    CPU,
    NARROW_PX,
    ROUND,
    WIDEST_PX,
    Plane,
    fade,
    fast_length,
    find_psf,
    gradient_squares,
    most_like_a_disk,
    response,
    spread,
)

_REGION_PX = 768
"""Side of the part of a photograph in which K is looked for. With 320 px three of eight shaken Kodak photographs gained
less than half a decibel, with 480 px one. Of all 24 those of 480 px gain 3.04 dB in the mean and 21 gain, the whole
photographs, 512×768, 3.21 dB and 22."""
_WINDOWS = ((27, 192), (WIDEST_PX, 400))
"""Sides of K that are tried, and of a region that is large enough for it, pixels. In 255 px a window of 41 finds paths
that are not there."""
_USUAL_DEVIATION, _MOST_CONTRAST = 0.15, 4.0
"""Of brightness: fainter pictures are stretched to it, by so much at most: λ of the search is a matter of contrast."""
_RING, _LEAK = 2, 0.005
"""Of a K that fits its window less than this part lies in the outermost pixels."""
_LIKELY, _UNLIKELY = 0.59, 0.7
"""Of `_doubt`: up to the first K is believed, from the second on it is not, and in between in part. Of 70 photographs
three have more than the second (−1.0, 0.1 and 1.8 dB), and three of those between lose 0.3 to 0.9 dB, others gain 6. Of
20 out of focus one has more (0.9 dB), and four lie between (4.8, 5.0, 3.7 and −0.3 dB)."""
_FOLLOWED = 8000.0
"""λ without noise."""
_EXPLAINED = (300.0, 1000.0, 3000.0)
"""λ with which a picture is explained in part, more, and nearly, for `_doubt`."""
_ERRORS_COUNT = (-0.2, 0.3)
"""Powers of the first and the last error in `_doubt`."""
_USUAL_GRADIENT = 0.015
"""What ‖∇L‖₁ is for a pixel: λ is this over the variance of noise."""
_STIFFNESS = tuple(3 * 2.5**turn for turn in range(6))
"""Weight on the agreement of L with the edges it is to have, at each turn."""
_CAUTION = 0.0025
"""ε of the Wiener filter that begins."""
_LEAST_ERROR = 1e-6
"""In `_doubt`, of full scale."""
_CLIPPED = 0.97
"""What is brighter need not be explained."""
_ROWS, _COLUMNS = 512, 768
"""Of the blocks that are deconvolved at once, pixels."""
_MARGIN, _FADED, _OVERLAP = 96, 64, 32
"""Around a block, pixels: what it is computed with and then left out, the part of that which fades to nothing, and how
far it reaches into its neighbours, to pass into them gradually."""
_REACH = _MARGIN + _OVERLAP
_KEPT_BLOCKS = 24
"""That are remembered, 3 MB each, or three rows of them."""


class UniformBlur(NamedTuple):
    """A blur that is the same all over a photograph.

    Attributes
    ----------
    psf
        K, the point spread function, odd, square, of unit sum.
    space
        The values that were averaged: ``linear`` (light) or ``srgb`` (those of the file).
    noise
        Standard deviation, in these values, of what is not K ∗ L.
    belief
        Part of what deconvolution changes that is followed, in (0, 1].
    """

    psf: Plane
    space: str
    noise: float = 0.0
    belief: float = 1.0


def find_blur(photo: Photo, blur: Blur, device: torch.device = CPU) -> UniformBlur | None:
    """What blurred a photograph; None if no blur is certain. The Fourier transforms are those of `device`.

    Light adds up, so a camera blurs in linear light, and many data sets do not. That one is right in which K is more of
    a disk, if it is to be one, or else is less to be doubted.
    """
    region = _region(photo)
    best, least = None, math.inf
    for space in ("srgb", "linear"):
        grey = np.ascontiguousarray(to_light(region, space).mean(axis=2))
        psf = _believable_psf(grey, device)
        if psf is None:
            continue
        if blur == Blur.DISK:
            psf, roundness = most_like_a_disk(psf)
            if roundness < ROUND:
                continue
        doubt = _doubt(grey, psf, space, device)
        unlikely = 1 - roundness if blur == Blur.DISK else doubt
        if unlikely < least:
            belief = min(1.0, (_UNLIKELY - doubt) / (_UNLIKELY - _LIKELY))
            best, least = UniformBlur(psf, space, _noise(grey), belief), unlikely
    return best if best and best.belief > 0 else None


def _believable_psf(grey: Plane, device: torch.device) -> Plane | None:
    """K, if there is one in a region."""
    deviation = max(float(grey.std()), _USUAL_DEVIATION / _MOST_CONTRAST)
    stretched = grey * np.float32(_USUAL_DEVIATION / deviation)
    for side, least in _WINDOWS:
        if min(grey.shape) < least:
            return None
        psf = find_psf(stretched, side, device)
        if spread(psf) < NARROW_PX:
            return None
        if 1 - psf[_RING:-_RING, _RING:-_RING].sum() < _LEAK:
            return psf
    return None


def _doubt(grey: Plane, psf: Plane, space: str, device: torch.device) -> float:
    """How little K is to be believed.

    The picture without a wrong K is no simpler: its gradient has no smaller ‖·‖₁/‖·‖₂ (Krishnan, Tay and Fergus, CVPR
    2011). And x has what a wrong K would have wiped out, so that K ∗ L, with values that a picture can have, comes no
    nearer to it the more it should.
    """
    x = _as_filed(grey, space)
    around = np.pad(grey, _MARGIN, mode="symmetric")[..., None]
    inner = (slice(len(psf), -len(psf)),) * 2
    believed = x[inner] < _CLIPPED
    inversion = Inversion(around, psf, device)
    partly, more, nearly = (np.clip(inversion.clear(followed)[..., 0], 0, 1) for followed in _EXPLAINED)
    doubt, length = _roughness(_as_filed(more, space)) / _roughness(x), _length(x)
    for light, power in zip((partly, nearly), _ERRORS_COUNT, strict=True):
        error = (_as_filed(convolve(light, psf), space) - x)[inner][believed]
        size = math.sqrt(np.square(error).mean()) if error.size else 1.0
        doubt *= (max(size, _LEAST_ERROR) / length) ** power
    return doubt


def _as_filed(grey: Plane, space: str) -> Plane:
    """Values of the file, H×W in [0, 1]."""
    return from_light(grey[..., None], space)[..., 0]


class DeconvolvedPhoto:
    """A `Photo` without a blur that it has all over, computed where it is looked at; it is mirrored at its borders.

    It is cut into blocks at fixed places, which are remembered and pass gradually into each other, so that any part is
    what the whole has there. The Fourier transforms are those of `device`.
    """

    def __init__(self, photo: Photo, blur: UniformBlur, device: torch.device = CPU) -> None:
        self._photo, self._blur, self._device, self.size = photo, blur, device, photo.size
        self._kept: Pixels = np.empty((0, photo.size[1], 3), np.float32)
        self._kept_stop = 0
        self._blocks: OrderedDict[tuple[int, int], NDArray[np.uint16]] = OrderedDict()
        self._most_blocks = max(_KEPT_BLOCKS, 3 * math.ceil(photo.size[1] / _COLUMNS))

    def pixels(self, window: Window) -> Pixels:
        """H×W×3 in [0, 1]."""
        rows, columns = (range(*one.indices(side)) for one, side in zip(window, self.size, strict=True))
        result: Pixels = np.zeros((len(rows), len(columns), 3), np.float32)
        for top, here, down, falling in _shares(rows, _ROWS, self.size[0]):
            for left, there, across, fading in _shares(columns, _COLUMNS, self.size[1]):
                part = self._block(top, left)[down, across].astype(np.float32)
                part *= (falling[:, None] * fading)[..., None] / 65535
                result[here, there] += part
        return np.minimum(result, 1)

    def keep_above(self, row: int) -> None:
        """Remember what is above a row as far as it is needed below: it may be replaced from now on."""
        start = max(0, row - _ROWS - _OVERLAP - _REACH)
        self._kept = self._source(start, row, 0, self.size[1]).copy()
        self._kept_stop = row
        for top, left in list(self._blocks):
            if top + _ROWS + _OVERLAP <= row:
                del self._blocks[top, left]

    def relax(self) -> None:
        """Let go of the memory of what was read."""
        self._photo.relax()

    def _block(self, top: int, left: int) -> NDArray[np.uint16]:
        """The pixels of a block and of what it overlaps, in parts of 65535."""
        block = self._blocks.get((top, left))
        if block is None:
            light = to_light(self._around(top, left), self._blur.space)
            clear = deconvolve(light, self._blur.psf, _followed(self._blur.noise), self._device)
            clear += (1 - self._blur.belief) * (light[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN] - clear)
            block = np.rint(from_light(clear, self._blur.space) * np.float32(65535)).astype(np.uint16)
            self._blocks[top, left] = block
        self._blocks.move_to_end((top, left))
        while len(self._blocks) > self._most_blocks:
            self._blocks.popitem(last=False)
        return block

    def _around(self, top: int, left: int) -> Pixels:
        """The photograph at a block and as far around as is needed for it."""
        wanted = [
            (start - _REACH, min(start + size, side) + _REACH)
            for start, size, side in zip((top, left), (_ROWS, _COLUMNS), self.size, strict=True)
        ]
        there = [(max(0, start), min(stop, side)) for (start, stop), side in zip(wanted, self.size, strict=True)]
        missing = [(a - start, stop - b) for (start, stop), (a, b) in zip(wanted, there, strict=True)]
        return np.pad(self._source(*there[0], *there[1]), (*missing, (0, 0)), mode="symmetric")

    def _source(self, top: int, bottom: int, left: int, right: int) -> Pixels:
        """As the photograph was before any of it was replaced."""
        middle = min(max(top, self._kept_stop), bottom)
        below = self._photo.pixels((slice(middle, bottom), slice(left, right)))
        if middle == top:
            return below
        first = top - (self._kept_stop - len(self._kept))
        return np.concatenate([self._kept[first : first + middle - top, left:right], below])


def _shares(places: range, size: int, side: int) -> Iterator[tuple[int, slice, slice, Plane]]:
    """Of each block with a part in some places of an axis: its start, these places, those in what it is, its weight."""
    last = (side - 1) // size * size
    for start in range(max(0, places.start - _OVERLAP) // size * size, last + 1, size):
        first, stop = start - _OVERLAP, min(start + size, side) + _OVERLAP
        begin, end = max(places.start, first), min(places.stop, stop)
        if begin >= end:
            continue
        where = np.arange(begin, end) + 0.5
        weight = np.ones(end - begin)
        if start > 0:
            weight = np.minimum(weight, (where - first) / (2 * _OVERLAP))
        if start < last:
            weight = np.minimum(weight, (stop - where) / (2 * _OVERLAP))
        here = slice(begin - places.start, end - places.start)
        yield start, here, slice(begin - first, end - first), weight.astype(np.float32)


def deconvolve(picture: Pixels, psf: Plane, followed: float = _FOLLOWED, device: torch.device = CPU) -> Pixels:
    """L of a picture, as `Inversion` finds it."""
    return Inversion(picture, psf, device).clear(followed)


class Inversion:
    """A picture and the K that blurred it, transformed, on a device.

    Parameters
    ----------
    picture
        x, H×W×C, in the values in which it was blurred, with values in [0, 1].
    psf
        K, of odd size and unit sum.
    """

    def __init__(self, picture: Pixels, psf: Plane, device: torch.device = CPU) -> None:
        height, width = picture.shape[:2]
        self._inner = slice(_MARGIN, height - _MARGIN), slice(_MARGIN, width - _MARGIN)
        self._shape = shape = fast_length(height), fast_length(width)
        more = shape[0] - height, shape[1] - width
        picture = np.pad(picture, ((0, more[0]), (0, more[1]), (0, 0)), mode="edge")
        planes = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1))).to(device)
        down, across = (fade(side, _FADED, _FADED + added) for side, added in zip(shape, more, strict=True))
        window = torch.from_numpy(down[:, None] * across).to(device)
        self._mean = planes.mean((1, 2), keepdim=True)
        blur, self._squares = response(psf, shape, device), gradient_squares(shape, device)
        self._power = blur.abs().square()
        self._seen = blur.conj() * torch.fft.rfft2((planes - self._mean) * window)

    def clear(self, followed: float) -> Pixels:
        """L, (H − 192)×(W − 192)×C, without the outermost 96 pixels, which fade to nothing.

        Parameters
        ----------
        followed
            λ: the larger, the closer K ∗ L is to x.
        """
        return np.ascontiguousarray(self.planes(followed).permute(1, 2, 0).cpu().numpy())

    def planes(self, followed: float) -> Tensor:
        """The same as C planes, on the device."""
        clear = torch.fft.irfft2(self._seen / (self._power + _CAUTION * (self._squares + 0.01)), s=self._shape)
        for weight in _STIFFNESS:
            right, below = clear.roll(-1, 2) - clear, clear.roll(-1, 1) - clear
            strength = (right.square() + below.square()).mean(0, keepdim=True).mul_(2).sqrt_()
            kept = (1 - 1 / (weight * strength.clamp_(min=1e-6))).clamp_(min=0)
            right, below = right.mul_(kept), below.mul_(kept)
            edges = right.roll(1, 2).sub_(right).add_(below.roll(1, 1)).sub_(below)
            share = weight / followed
            spectrum = torch.fft.rfft2(edges).mul_(share).add_(self._seen)
            clear = torch.fft.irfft2(spectrum.div_(self._power + share * self._squares + 1e-6), s=self._shape)
        return (clear + self._mean)[(slice(None), *self._inner)]


def _followed(noise: float) -> float:
    """λ for a picture with noise of this standard deviation."""
    return 1 / (1 / _FOLLOWED + noise**2 / _USUAL_GRADIENT)


def _noise(grey: Plane) -> float:
    """Standard deviation of noise, from the median of the finest diagonal detail (Donoho and Johnstone, 1994)."""
    even = grey[: len(grey) // 2 * 2, : grey.shape[1] // 2 * 2]
    diagonal = (even[::2, ::2] - even[::2, 1::2] - even[1::2, ::2] + even[1::2, 1::2]) / 2
    return float(np.median(np.abs(diagonal)) / 0.6745)


def _roughness(grey: Plane) -> float:
    """‖∇‖₁ over ‖∇‖₂, each of a pixel."""
    return float(np.abs(_gradient(grey)).mean()) / _length(grey)


def _length(grey: Plane) -> float:
    """‖∇‖₂ of a pixel."""
    return max(float(np.sqrt(np.square(_gradient(grey)).mean())), 1e-12)


def _gradient(grey: Plane) -> NDArray[np.float64]:
    return np.concatenate([np.diff(grey, axis=1).ravel(), np.diff(grey, axis=0).ravel()]).astype(np.float64)


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
