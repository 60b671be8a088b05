"""Encoders behind `defusion_cli.images.write_image`: samples and metadata to the bytes of a file."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image as PilImage
from PIL.PngImagePlugin import PngInfo

_XMP_KEY = "XML:com.adobe.xmp"
_TIFF_XMP, _EXIF_IFD, _GPS_IFD = 700, 0x8769, 0x8825
# Description, camera, software, dates, people and rights; the other tags of a TIFF describe how its pixels lie.
_TIFF_KEPT = (270, 271, 272, 305, 306, 315, 316, 33432)


@dataclass(frozen=True)
class Tags:
    """Metadata as `defusion_cli.images.Picture` holds it."""

    exif: bytes | None = None
    icc: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None


def encode_8(samples: NDArray[np.uint8], kind: str, tags: Tags, quality: int) -> bytes:
    """H×W or H×W×C samples (grey, grey + alpha, RGB, RGBA) as a file of format `kind`."""
    image = PilImage.fromarray(samples)
    options: dict[str, Any] = {"exif": tags.exif or b"", "icc_profile": tags.icc, "dpi": tags.dpi}
    if kind == "JPEG":
        # Without "optimize": with it, Pillow (13) needs the whole file in one buffer, whose size it guesses from the
        # number of pixels, and fails with "broken data stream" on a picture full of noise.
        options |= {"quality": quality, "subsampling": 0 if quality >= 90 else 2, "xmp": tags.xmp}
    elif kind == "WEBP":
        if image.mode == "LA":
            image = image.convert("RGBA")
        options |= {"quality": quality, "exact": True, "method": 4, "xmp": tags.xmp or b""}
    elif kind == "PNG":
        # Level 4 gives files as small as the usual 6 on photographs, in two thirds of the time.
        options |= {"pnginfo": PngInfo(), "compress_level": 4}
        if tags.xmp:
            options["pnginfo"].add_itxt(_XMP_KEY, tags.xmp.decode("utf-8", "replace"))
    elif kind == "TIFF":
        options["exif"] = _with_xmp(tags)
        # libtiff, which Pillow compresses with, loses EXIF; Pillow itself keeps it.
        options["compression"] = None if options["exif"] else "tiff_adobe_deflate"
    elif kind == "BMP" and image.mode == "LA":
        image = image.convert("RGBA")
    buffer = io.BytesIO()
    image.save(buffer, kind, **{key: value for key, value in options.items() if value not in (None, b"")})
    return buffer.getvalue()


def encode_16(samples: NDArray[np.uint16], kind: str, tags: Tags, quality: int) -> bytes:
    """As `encode_8` for 16-bit samples; PNG and TIFF only, both lossless, so that `quality` has no say."""
    return _png_16(samples, tags) if kind == "PNG" else _tiff_16(samples, tags)


def _png_16(samples: NDArray[np.uint16], tags: Tags) -> bytes:
    height, width = samples.shape[:2]
    channels = 1 if samples.ndim == 2 else samples.shape[2]
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0))]
    if tags.icc:
        chunks.append((b"iCCP", b"ICC Profile\0\0" + zlib.compress(tags.icc)))
    if tags.dpi:
        per_metre = [round(value / 0.0254) for value in tags.dpi]
        chunks.append((b"pHYs", struct.pack(">IIB", *per_metre, 1)))
    if tags.exif:
        chunks.append((b"eXIf", tags.exif.removeprefix(b"Exif\0\0")))
    if tags.xmp:
        chunks.append((b"iTXt", _XMP_KEY.encode() + b"\0\0\0\0\0" + tags.xmp))
    chunks += [(b"IDAT", zlib.compress(_filtered_rows(samples.reshape(height, -1, channels)), 6)), (b"IEND", b"")]
    parts = [b"\x89PNG\r\n\x1a\n"]
    for name, body in chunks:
        parts.append(struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)))
    return b"".join(parts)


def _filtered_rows(samples: NDArray[np.uint16]) -> bytes:
    """PNG scan lines with filter 2 ("Up"): each byte less the one above it."""
    raw = np.ascontiguousarray(samples, ">u2").view(np.uint8).reshape(samples.shape[0], -1)
    rows = np.empty((raw.shape[0], raw.shape[1] + 1), np.uint8)
    rows[:, 0] = 2
    rows[0, 1:] = raw[0]
    rows[1:, 1:] = raw[1:] - raw[:-1]
    return rows.tobytes()


def _tiff_16(samples: NDArray[np.uint16], tags: Tags) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        samples,
        photometric="rgb" if samples.ndim == 3 else "minisblack",
        planarconfig="contig" if samples.ndim == 3 else None,
        extrasamples=["unassalpha"] if samples.ndim == 3 and samples.shape[2] == 4 else None,
        compression="zlib",
        iccprofile=tags.icc,
        resolution=tags.dpi,
        resolutionunit="INCH" if tags.dpi else None,
        extratags=_tiff_tags(tags),
        software=False,
        metadata=None,
    )
    return buffer.getvalue()


def _with_xmp(tags: Tags) -> bytes:
    """EXIF block with the XMP packet as one more tag, which is where TIFF has it."""
    block = PilImage.Exif()
    block.load(tags.exif or b"")
    if tags.xmp:
        block[_TIFF_XMP] = tags.xmp
    return block.tobytes() if len(block) else b""


def tiff_exif(image: PilImage.Image) -> bytes | None:
    """EXIF block of what a TIFF says about the photograph (not about how its pixels lie), or None."""
    source, kept = image.getexif(), PilImage.Exif()
    for tag in _TIFF_KEPT:
        if tag in source:
            kept[tag] = source[tag]
    for ifd in (_EXIF_IFD, _GPS_IFD):
        values = source.get_ifd(ifd)
        if values:
            kept.get_ifd(ifd).update(values)
            kept[ifd] = values
    return kept.tobytes() if len(kept) else None


def _tiff_tags(tags: Tags) -> list[tuple[int, str, int, bytes | str, bool]]:
    """What tifffile writes beside the pixels: XMP and the texts of the EXIF block."""
    extra: list[tuple[int, str, int, bytes | str, bool]] = []
    if tags.xmp:
        extra.append((_TIFF_XMP, "B", len(tags.xmp), tags.xmp, True))
    if tags.exif:
        exif = PilImage.Exif()
        exif.load(tags.exif)
        texts = ((tag, exif.get(tag)) for tag in _TIFF_KEPT)
        extra += [(tag, "s", 0, text.encode("ascii", "replace"), True) for tag, text in texts if isinstance(text, str)]
    return extra
