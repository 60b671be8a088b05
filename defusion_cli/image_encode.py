"""Encoders behind `defusion_cli.images.write_image`: samples and metadata to the bytes of a file."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
import tifffile
from PIL import Image as PilImage
from PIL.PngImagePlugin import PngInfo
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from defusion_cli.canvas import Samples, Tags, is_large, one_large, relax, row_bands
from defusion_cli.image_png import XMP_KEY, write_png

_TIFF_XMP, _EXIF_IFD, _GPS_IFD = 700, 0x8769, 0x8825
_STRIP_BYTES = 1 << 18
# tifffile does not write these two tags: neighbours that nobody uses hold their places in the sorted list.
_STAND_INS = {_EXIF_IFD: 0x8768, _GPS_IFD: 0x8826}
# Description, camera, software, dates, people and rights; the other tags of a TIFF describe how its pixels lie.
_TIFF_KEPT = (270, 271, 272, 305, 306, 315, 316, 33432)


def encode(file: BinaryIO, samples: Samples, kind: str, tags: Tags, quality: int) -> None:
    """H×W×C samples (grey, grey and alpha, RGB, RGBA; uint8 or uint16) into `file`, in Pillow's format `kind`.

    16 bits go with PNG and TIFF only. Large PNG and TIFF files are written a piece at a time.
    """
    deep, large = samples.dtype == np.uint16, is_large(*samples.shape[:2])
    if kind == "PNG" and (deep or large):
        write_png(file, samples, tags)
    elif kind == "TIFF" and (deep or large):
        _write_tiff(file, samples, tags)
    else:
        with one_large(*samples.shape[:2]):
            image = _as_pillow(samples, kind)
            options = _options(kind, tags, quality)
            image.save(file, kind, **{key: value for key, value in options.items() if value not in (None, b"")})


def _as_pillow(samples: Samples, kind: str) -> PilImage.Image:
    height, width, channels = samples.shape
    mode = ("L", "LA", "RGB", "RGBA")[channels - 1]
    image, bands = PilImage.new(mode, (width, height)), row_bands(height, width)
    for band in bands:
        image.paste(PilImage.fromarray(_flat(samples[band])), (0, band.start))
        relax(samples)
    return image.convert("RGBA") if mode == "LA" and kind in ("WEBP", "BMP", "AVIF", "HEIF") else image


def _flat(samples: Samples) -> Samples:
    return np.ascontiguousarray(samples[..., 0] if samples.shape[2] == 1 else samples)


def _options(kind: str, tags: Tags, quality: int) -> dict[str, Any]:
    options: dict[str, Any] = {"exif": tags.exif or b"", "icc_profile": tags.icc, "dpi": tags.dpi}
    if kind == "JPEG":
        # Without "optimize": with it, Pillow (13) needs the whole file in one buffer, whose size it guesses from the
        # number of pixels, and fails with "broken data stream" on a picture full of noise.
        options |= {"quality": quality, "subsampling": 0 if quality >= 90 else 2, "xmp": tags.xmp}
    elif kind == "WEBP":
        options |= {"quality": quality, "exact": True, "method": 4, "xmp": tags.xmp or b""}
    elif kind == "AVIF":
        options |= {"quality": quality, "subsampling": "4:4:4" if quality >= 90 else "4:2:0", "xmp": tags.xmp or b""}
    elif kind == "HEIF":
        options |= {"quality": quality, "chroma": 444 if quality >= 90 else 420, "xmp": tags.xmp}
    elif kind == "PNG":
        # Level 4 gives files as small as the usual 6 on photographs, in two thirds of the time.
        options |= {"pnginfo": PngInfo(), "compress_level": 4}
        if tags.xmp:
            options["pnginfo"].add_itxt(XMP_KEY, tags.xmp.decode("utf-8", "replace"))
    elif kind == "TIFF":
        options["exif"] = _with_xmp(tags)
        # libtiff, which Pillow compresses with, loses EXIF; Pillow itself keeps it.
        options["compression"] = None if options["exif"] else "tiff_adobe_deflate"
    return options


def _write_tiff(file: BinaryIO, samples: Samples, tags: Tags) -> None:
    if samples.shape[2] == 2:
        samples = samples[..., [0, 0, 0, 1]]  # Pillow reads no 16-bit TIFF of grey with alpha
    colour = samples.shape[2] > 2
    camera = _camera_tags(tags)
    tifffile.imwrite(
        file,
        _packed_strips(samples),
        shape=samples.shape if colour else samples.shape[:2],
        dtype=samples.dtype,
        rowsperstrip=_strip_rows(samples),
        byteorder="<",
        photometric="rgb" if colour else "minisblack",
        planarconfig="contig" if colour else None,
        extrasamples=["unassalpha"] if samples.shape[2] == 4 else None,
        compression="zlib",
        iccprofile=tags.icc,
        resolution=tags.dpi,
        resolutionunit="INCH" if tags.dpi else None,
        extratags=[*_tiff_tags(tags), *((_STAND_INS[ifd], "I", 1, 0, True) for ifd in camera)],
        software=False,
        metadata=None,
    )
    _append_camera_tags(file, camera)


def _strip_rows(samples: Samples) -> int:
    return max(1, min(samples.shape[0], _STRIP_BYTES // (samples[:1].nbytes)))


def _packed_strips(samples: Samples) -> Iterator[bytes]:
    rows = _strip_rows(samples)
    for top in range(0, samples.shape[0], rows):
        yield zlib.compress(samples[top : top + rows].astype(samples.dtype.newbyteorder("<")).tobytes(), 6)
        relax(samples)


def _camera_tags(tags: Tags) -> dict[int, ImageFileDirectory_v2]:
    """The EXIF and GPS directories, as far as there are any."""
    exif, found = PilImage.Exif(), {}
    exif.load(tags.exif or b"")
    for ifd in (_EXIF_IFD, _GPS_IFD):
        directory = ImageFileDirectory_v2(b"II*\0\0\0\0\0", group=ifd)
        for tag, value in exif.get_ifd(ifd).items():
            if not isinstance(value, dict):  # a directory in a directory: of interest to cameras only
                directory[tag] = value
        if len(directory):
            found[ifd] = directory
    return found


def _append_camera_tags(file: BinaryIO, camera: dict[int, ImageFileDirectory_v2]) -> None:
    """Put the directories at the end of a TIFF, and their places into its tags."""
    if not camera:
        return
    file.seek(0)
    with tifffile.TiffFile(file) as tiff:
        page: Any = tiff.pages[0]
        places = {ifd: page.tags[_STAND_INS[ifd]] for ifd in camera}
    for ifd, directory in camera.items():
        end = file.seek(0, io.SEEK_END)
        end += file.write(b"\0" * (end % 2))
        file.write(directory.tobytes(end))
        file.seek(places[ifd].offset)
        file.write(ifd.to_bytes(2, "little"))
        file.seek(places[ifd].valueoffset)
        file.write(end.to_bytes(4, "little"))
    file.seek(0, io.SEEK_END)


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
