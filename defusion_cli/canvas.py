"""A photograph as samples in memory, or on disk if it is large; its rows come out as float32 and go back restored."""

from __future__ import annotations

import math
import mmap
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.float32]
Samples = NDArray[Any]
"""Whole numbers as stored in a file: uint8 or uint16."""
Window = tuple[slice, slice]
"""Rows and columns."""

LARGE_PX = 48_000_000
"""Above this many pixels samples lie in a file, of which only what is worked on is in memory."""

JPEG_BLOCK_PX = 8
"""Side of JPEG's blocks. Crops and tiles of a picture begin where blocks begin, wherever a network looks at them."""

CROP_PX = 128
"""Side of the crops that stand for a whole photograph."""

BAND_PX = 4_000_000
"""Pixels of a band of rows that is converted in one go."""

_large = threading.RLock()
_UNTURNED = {6: 8, 8: 6}


class NoRoomError(Exception):
    """The samples of a large picture cannot be put on disk."""


class Photo(Protocol):
    """Something that pixels are read from, a window at a time."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""

    def pixels(self, window: Window) -> Pixels:
        """H×W×3 in [0, 1]."""

    def relax(self) -> None:
        """Let go of the memory of what was read."""


class ArrayPhoto:
    """Pixels in memory, H×W×3 sRGB in [0, 1], as a `Photo`."""

    def __init__(self, pixels: Pixels) -> None:
        self._pixels = pixels
        self.size = pixels.shape[0], pixels.shape[1]

    def pixels(self, window: Window) -> Pixels:
        """The pixels in a window."""
        return self._pixels[window]

    def relax(self) -> None:
        """Nothing to let go of."""


@dataclass(frozen=True)
class Tags:
    """Metadata to be written back; the orientation in them is reset to "upright".

    Attributes
    ----------
    exif, icc, xmp
        Blocks as stored.
    dpi
        Dots per inch, horizontal and vertical.
    """

    exif: bytes | None = None
    icc: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None


@dataclass
class Canvas:
    """A decoded file, turned upright, that is worked on in place.

    Attributes
    ----------
    samples
        H×W×C, uint8 or uint16; C is 1 (grey), 2 (grey and alpha), 3 (RGB) or 4 (RGB and alpha). Colours are not
        multiplied by alpha.
    tags
        Metadata.
    frames
        Pictures in the file, of which this is the first.
    """

    samples: Samples
    tags: Tags = field(default_factory=Tags)
    frames: int = 1

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        height, width = self.samples.shape[:2]
        return height, width

    @property
    def bits(self) -> int:
        """8 or 16 per channel."""
        return 8 * self.samples.itemsize

    @property
    def grey(self) -> bool:
        """True if there is one colour channel."""
        return self.samples.shape[2] < 3

    @property
    def is_large(self) -> bool:
        """True if the samples are better handled band by band."""
        return is_large(*self.size)

    def alpha(self, window: Window = (slice(None), slice(None))) -> Samples | None:
        """H×W samples of transparency as stored, or None."""
        return self.samples[window][..., -1] if self.samples.shape[2] in (2, 4) else None

    def pixels(self, window: Window = (slice(None), slice(None))) -> Pixels:
        """A copy of some rows and columns, H×W×3 in [0, 1]; grey pictures have three equal channels."""
        samples = self.samples[window]
        colour = samples[..., :1].repeat(3, axis=2) if self.grey else samples[..., :3]
        pixels: Pixels = colour.astype(np.float32) / np.float32(np.iinfo(samples.dtype).max)
        return pixels

    def put(self, window: Window, pixels: Pixels) -> None:
        """Replace the colours in a window; values are clipped to [0, 1] and rounded, alpha stays."""
        colour = quantise(pixels, self.bits)
        if self.grey:
            # The weights add up to one: three equal channels give back their value exactly.
            colour = cv2.cvtColor(np.ascontiguousarray(colour), cv2.COLOR_RGB2GRAY)[..., None]
        self.samples[window][..., : colour.shape[2]] = colour

    def bands(self) -> list[slice]:
        """The rows in pieces of at most `BAND_PX` pixels, at least one row each."""
        height, width = self.size
        return row_bands(height, width)

    def relax(self) -> None:
        """Let go of the memory of samples that lie on disk."""
        relax(self.samples)


def relax(samples: Samples) -> None:
    """Let go of the memory of `samples`, if they lie on disk; they stay what they are."""
    base: Any = samples
    while isinstance(base, np.ndarray):
        base = base.base
    room = base.obj if isinstance(base, memoryview) else base
    if isinstance(room, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        room.madvise(mmap.MADV_DONTNEED)


def is_large(height: int, width: int) -> bool:
    """True for a picture of more than `LARGE_PX` pixels."""
    return height * width > LARGE_PX


@contextmanager
def one_large(height: int, width: int) -> Iterator[None]:
    """Where a library needs a whole picture in memory: large ones wait for one another."""
    with _large if is_large(height, width) else nullcontext():
        yield


def row_bands(height: int, width: int, share: int = 1) -> list[slice]:
    """Rows of a `height`×`width` picture in pieces of at most `BAND_PX` / `share` pixels."""
    rows = max(1, BAND_PX // share // max(1, width))
    return [slice(top, min(top + rows, height)) for top in range(0, height, rows)]


def reduced(photo: Photo, side: int) -> Pixels:
    """`photo` reduced by the whole number that leaves its longer side `side` to 2·`side` long; smaller ones as is."""
    height, width = photo.size
    factor = min(max(height, width) // side, height, width)
    if factor < 2:
        return photo.pixels((slice(0, height), slice(0, width)))
    parts = []
    for band in row_bands(height // factor, width * factor):
        rows = slice(band.start * factor, band.stop * factor)
        pixels = photo.pixels((rows, slice(0, width // factor * factor)))
        parts.append(cv2.resize(pixels, (width // factor, band.stop - band.start), interpolation=cv2.INTER_AREA))
        photo.relax()
    whole: Pixels = np.concatenate(parts)
    return whole


def crop_corners(height: int, width: int, most: int = 4) -> list[tuple[int, int]]:
    """Where to cut up to most² crops of 128 pixels: top and left, evenly spread, at multiples of JPEG's 8 pixels.

    Fewer where there is little room for more; they may overlap by half.
    """
    return [(top, left) for top in _starts(height, most) for left in _starts(width, most)]


def _starts(length: int, most: int) -> list[int]:
    """Along one side: the first at the border, the last near the other."""
    count = max(1, min(most, (length + CROP_PX // 2) // CROP_PX))
    last = max(0, length - CROP_PX)
    return [round(last * k / max(1, count - 1)) // JPEG_BLOCK_PX * JPEG_BLOCK_PX for k in range(count)]


def cut_crops(photo: Photo, most: int = 4) -> Pixels:
    """Crops at `crop_corners`, K×128×128×3 in [0, 1].

    A photograph narrower than a crop is extended by its mirror image, or where it is too narrow for that by its border.
    """
    crops = []
    for top, left in crop_corners(*photo.size, most):
        crop = photo.pixels((slice(top, top + CROP_PX), slice(left, left + CROP_PX)))
        bottom, right = CROP_PX - crop.shape[0], CROP_PX - crop.shape[1]
        if bottom or right:
            enough = bottom < crop.shape[0] and right < crop.shape[1]
            border = cv2.BORDER_REFLECT_101 if enough else cv2.BORDER_REPLICATE
            crop = np.asarray(cv2.copyMakeBorder(crop, 0, bottom, 0, right, border), np.float32)
        crops.append(np.clip(crop, 0, 1))
    return np.stack(crops)


def quantise(pixels: Pixels, bits: int) -> Samples:
    """[0, 1] to 0…255 or 0…65535, rounded to nearest, clipped."""
    kind, top = (np.uint16, 65535) if bits == 16 else (np.uint8, 255)
    samples: Samples = np.rint(np.clip(pixels, 0.0, 1.0) * np.float32(top)).astype(kind)
    return samples


def new_samples(shape: tuple[int, int, int], dtype: Any, scratch: Path | None = None) -> Samples:
    """Room for H×W×C samples: in memory, or if they are many in a nameless file in the folder `scratch`.

    Raises
    ------
    NoRoomError
        If that file cannot be made as large as it has to be.
    """
    if scratch is None or not is_large(*shape[:2]):
        return np.empty(shape, dtype)
    size = math.prod(shape) * np.dtype(dtype).itemsize
    try:
        scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=scratch, prefix=".defusion-", suffix=".tmp") as file:
            _reserve(file.fileno(), size)
            room = mmap.mmap(file.fileno(), size)
    except OSError as error:
        raise NoRoomError(f"{size / 1e6:.0f} MB in {scratch}: {error.strerror}") from error
    return np.frombuffer(room, dtype).reshape(shape)


def _reserve(handle: int, size: int) -> None:
    """Make a file `size` bytes long, and raise `OSError` now if the disk has no room: later it would be a crash."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(handle, 0, size)
    else:
        os.truncate(handle, size)


def upright(samples: Samples, turn: int) -> Samples:
    """A view with EXIF orientation 1…8 undone (CIPA DC-008, tag 0x0112)."""
    if turn in (5, 6, 7, 8):
        samples = samples.swapaxes(0, 1)
    if turn in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    if turn in (3, 4, 7, 8):
        samples = samples[::-1]
    return samples


def as_stored(samples: Samples, turn: int) -> Samples:
    """The inverse of `upright`: a view of an upright picture as a file of that orientation stores it."""
    return upright(samples, _UNTURNED.get(turn, turn))
