"""Decoders behind `defusion_cli.images`: the bytes of a file to samples and metadata.

Pillow reads; 16-bit samples, which it cuts to 8 bits when there are three channels, are read by OpenCV or tifffile.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import tifffile
from PIL import Image as PilImage
from PIL import ImageCms
from PIL.ImageFile import ImageFile

from defusion_cli import image_encode
from defusion_cli.canvas import (
    Canvas,
    Samples,
    Tags,
    as_stored,
    is_large,
    new_samples,
    one_large,
    relax,
    row_bands,
    upright,
)
from defusion_cli.image_png import SIGNATURE, PngReader, decode_with_opencv

MOST_PX = 600_000_000
"""More pixels than any camera or panorama has."""

_BELIEVED_PX = 16_000_000
_LEAST_DENSITY = 1 / 500
"""Above `_BELIEVED_PX` pixels a file must have this many bytes for each byte that it unpacks to: photographs have ten
times as many, while a few kilobytes that claim to be a gigapixel are an attack."""

_SIGNATURES = {"PNG": SIGNATURE, "JPEG": b"\xff\xd8\xff"}

_READ_BYTES = 1 << 24
"""Of a TIFF at a time."""

_ORIENTATION = 0x0112
_PHOTOMETRIC, _PLANES = 262, 284
_TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_XMP_ORIENTATION = re.compile(rb'(tiff:Orientation(?:="|>))[2-8]')

# Pillow's own limit lies below what panoramas have; it fails at twice this number.
PilImage.MAX_IMAGE_PIXELS = MOST_PX // 2


class TooLargeError(ValueError):
    """A picture of more pixels than are accepted, or than its file can hold."""


def decode(file: BinaryIO, formats: list[str], scratch: Path | None = None) -> Canvas:
    """Samples and metadata of a picture, turned upright.

    Parameters
    ----------
    file
        A file that can be read anywhere.
    formats
        Pillow's names of the formats that are accepted.
    scratch
        Folder for the samples of a large picture; None keeps them in memory whatever their number.

    Raises
    ------
    TooLargeError
        If the picture is too large.
    Exception
        Nearly any, if the file is damaged.
    """
    length = file.seek(0, io.SEEK_END)
    file.seek(0)
    with PilImage.open(file, formats=_narrowed(formats, file)) as image:
        bits = _bits(image, file)
        _check_size(image.width, image.height, length)
        # The decoders need a large picture as a whole for a moment.
        frames = _frames(image)
        with one_large(image.height, image.width):
            canvas = _decode(image, file, bits, scratch)
            canvas.frames = frames
            return canvas


def _frames(image: ImageFile) -> int:
    """How many pictures follow one another in a file; what cameras put behind a JPEG is not counted.

    That a later one is damaged is no reason not to read the first.
    """
    try:
        return 1 if image.format == "MPO" else max(1, int(getattr(image, "n_frames", 1)))
    except Exception:
        return 1
    finally:
        image.seek(0)


def _narrowed(formats: list[str], file: BinaryIO) -> list[str]:
    """The one of `formats` that the first bytes name, if it is common: Pillow takes 0.1 s to import all others."""
    start = file.read(8)
    file.seek(0)
    named = {name for name, first in _SIGNATURES.items() if start.startswith(first)}
    return [name for name in formats if name in named] or formats


def _decode(image: ImageFile, file: BinaryIO, bits: int, scratch: Path | None) -> Canvas:
    large = scratch is not None and is_large(image.height, image.width)
    if large and bits == 16 and image.format == "PNG":
        return _decode_large_png(image, file, scratch)  # before Pillow looks for EXIF behind the pixels
    turn = int(image.getexif().get(_ORIENTATION, 1))
    if large and bits == 16:
        return _decode_large_tiff(image, file, turn, scratch)
    xmp = _xmp(image)
    # Also for 16 bits: unlike OpenCV, Pillow notices that a file is cut short.
    image.load()
    tags = _tags(image, xmp)
    if image.format == "TIFF" and bits == 8:
        turn = 1  # Pillow turns TIFF, and TIFF only, while it loads
    if bits == 16:
        return Canvas(np.ascontiguousarray(upright(_deep_samples(image, file), turn)), tags)
    if image.mode == "CMYK":
        samples = _samples_8(image, turn, scratch, _from_cmyk(image, tags.icc))
        return Canvas(samples, Tags(tags.exif, None, tags.xmp, tags.dpi))
    return Canvas(_samples_8(image, turn, scratch), tags)


def _deep_samples(image: PilImage.Image, file: BinaryIO) -> Samples:
    """16-bit samples as they are stored. OpenCV takes planes for pictures side by side and leaves a negative one."""
    file.seek(0)
    if image.format != "TIFF":
        return decode_with_opencv(file.read(), 16)
    layout: Any = getattr(image, "tag_v2", {})
    if layout.get(_PLANES) == 2:
        with tifffile.TiffFile(file) as tiff:
            samples: Samples = np.moveaxis(tiff.pages[0].asarray(), 0, -1)
    else:
        # OpenCV turns some files, depending on its version: with the tag reset it turns none.
        samples = decode_with_opencv(orientation_reset(file.read()), 16)
    return 65535 - samples if layout.get(_PHOTOMETRIC) == 0 else samples


def kind_of_tiff(file: BinaryIO) -> str | None:
    """What a TIFF that Pillow does not know holds, in words; None if it is none."""
    file.seek(0)
    if file.read(4) not in _TIFF_SIGNATURES:
        return None
    file.seek(0)
    try:
        with tifffile.TiffFile(file) as tiff:
            page: Any = tiff.pages[0]
            return f"{page.samplesperpixel} channel(s) of {page.dtype}"
    except Exception:  # it is only for the message
        return "a damaged one"


def _check_size(width: int, height: int, length: int) -> None:
    pixels = width * height
    if pixels > MOST_PX:
        raise TooLargeError(f"{width}×{height}, more than {MOST_PX // 1_000_000} megapixels")
    if pixels > _BELIEVED_PX and length < 3 * pixels * _LEAST_DENSITY:
        raise TooLargeError(f"{width}×{height} out of {length} bytes: no photograph is so small")


def _bits(image: PilImage.Image, file: BinaryIO) -> int:
    if image.format == "PNG":
        file.seek(24)
        depth = file.read(1)  # in the header's fixed place
        file.seek(0)
        return 16 if depth == b"\x10" else 8
    if image.format == "TIFF":
        widths = set(getattr(image, "tag_v2", {}).get(258, (1,)))
        if widths == {16}:
            # The profile that makes RGB of CMYK is applied to 8 bits.
            return 8 if image.mode == "CMYK" else 16
        if max(widths) > 8 or image.mode in ("F", "I"):
            raise ValueError(f"{max(widths)} bits per channel; up to 16 are supported")
    return 8


def _samples_8(
    image: PilImage.Image,
    turn: int,
    scratch: Path | None,
    convert: Callable[[PilImage.Image], PilImage.Image] = lambda part: part,
) -> Samples:
    """Upright samples of a loaded picture; a band at a time, so that a large one is not in memory twice."""
    mode = _plain_mode(image)
    shape = (image.height, image.width, len(mode))
    samples = new_samples((shape[1], shape[0], shape[2]) if turn in (5, 6, 7, 8) else shape, np.uint8, scratch)
    stored = as_stored(samples, turn)
    bands = row_bands(image.height, image.width)
    for band in bands:
        part = convert(image if len(bands) == 1 else image.crop((0, band.start, image.width, band.stop)))
        stored[band] = np.asarray(part if part.mode == mode else part.convert(mode)).reshape(-1, *shape[1:])
        relax(samples)
    return samples


def _plain_mode(image: PilImage.Image) -> str:
    """One of L, LA, RGB, RGBA: what 8-bit `image` is without palette and subsampling."""
    transparent = "transparency" in image.info or "A" in image.mode or "a" in image.mode
    base = "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
    if base == "L" and transparent:
        return "LA"
    return base + "A" if transparent else base


def _decode_large_tiff(image: PilImage.Image, file: BinaryIO, turn: int, scratch: Path | None) -> Canvas:
    """16-bit samples a strip or tile at a time if they are not compressed or by Deflate, else all at once."""
    file.seek(0)
    tags = _tags(image, _xmp(image))
    with tifffile.TiffFile(file) as tiff:
        page: Any = tiff.pages[0]
        if page.compression in (1, 8, 32946) and page.planarconfig == 1 and page.photometric in (0, 1, 2):
            shape = (page.imagelength, page.imagewidth, page.samplesperpixel)
            samples = new_samples((shape[1], shape[0], shape[2]) if turn > 4 else shape, np.uint16, scratch)
            stored = as_stored(samples, turn)
            for part, (_, _, _, row, column, _), (_, height, width, _) in _segments(page):
                place = stored[row : row + height, column : column + width]
                place[:] = part.reshape(-1, *part.shape[-2:])[: place.shape[0], : place.shape[1]]  # tiles are full
                relax(samples)
            if page.photometric == 0:
                np.subtract(65535, samples, out=samples)
            return Canvas(samples, tags)
    return Canvas(np.ascontiguousarray(upright(_deep_samples(image, file), turn)), tags)


def _decode_large_png(image: PilImage.Image, file: BinaryIO, scratch: Path | None) -> Canvas:
    """16-bit samples a band at a time; all at once if they are interlaced."""
    file.seek(0)
    try:
        reader = PngReader(file)
    except ValueError:
        turn = int(image.getexif().get(_ORIENTATION, 1))
        file.seek(0)
        return Canvas(upright(decode_with_opencv(file.read(), 16), turn), _tags(image, _xmp(image)))
    samples = np.empty((0, 0, 0), np.uint16)
    for band, part in reader.bands():
        if not samples.size:
            samples = new_samples((reader.height, reader.width, part.shape[2]), np.uint16, scratch)
        samples[band] = part
        relax(samples)
    with PilImage.open(io.BytesIO(reader.metadata())) as rest:
        rest.load()
        turn = int(rest.getexif().get(_ORIENTATION, 1))
        return Canvas(upright(samples, turn), _tags(rest, _xmp(rest)))


def _segments(page: Any) -> Any:
    for part, index, shape in page.segments(maxworkers=1, buffersize=_READ_BYTES):
        if part is None:
            raise ValueError("it is cut short")
        yield part, (0, *index) if len(index) == 5 else index, shape


def _tags(image: PilImage.Image, xmp: bytes | None) -> Tags:
    icc, dpi = image.info.get("icc_profile"), image.info.get("dpi")
    kept = (float(dpi[0]), float(dpi[1])) if dpi and min(dpi) > 0 else None
    return Tags(_exif(image), icc, xmp or _xmp(image), kept)


def _xmp(image: PilImage.Image) -> bytes | None:
    """XMP packet with the orientation set to 1."""
    packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
    if not packet:
        return None
    return _XMP_ORIENTATION.sub(rb"\g<1>1", packet.encode() if isinstance(packet, str) else packet)


def _from_cmyk(image: PilImage.Image, icc: bytes | None) -> Callable[[PilImage.Image], PilImage.Image]:
    """What makes sRGB of a part of a CMYK picture."""
    if icc:
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
            return ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), image.mode, "RGB").apply
        except (OSError, ImageCms.PyCMSError):
            pass  # a broken profile: the plain conversion is the best that is left
    return lambda part: part.convert("RGB")


def _exif(image: PilImage.Image) -> bytes | None:
    """EXIF block with the orientation set to 1, everything else byte for byte; a TIFF's own layout tags left out."""
    if image.format == "TIFF":
        return image_encode.tiff_exif(image)
    raw = image.info.get("exif")
    return orientation_reset(raw) if raw else None


def orientation_reset(raw: bytes) -> bytes:
    """An EXIF block, or a whole TIFF file, with the orientation of its first directory set to 1."""
    block = bytearray(raw)
    start = 6 if raw[:6] == b"Exif\0\0" else 0
    order: Literal["little", "big"] = "little" if raw[start : start + 2] == b"II" else "big"

    def number(at: int, size: int) -> int:
        return int.from_bytes(raw[at : at + size], order)

    if number(start + 2, 2) != 42:
        return raw
    first = start + number(start + 4, 4)
    for entry in range(number(first, 2)):
        at = first + 2 + 12 * entry
        if number(at, 2) == _ORIENTATION and at + 10 <= len(raw):
            block[at + 8 : at + 10] = (1).to_bytes(2, order)
    return bytes(block)
