"""Photographs in and out: float32 RGB to work on, and everything else of the file kept to be put back.

Pixels stay in the colour space of the file, whose profile goes back with them; CMYK is converted. `read_image` and
`write_image` are for pictures that fit into memory; `open_canvas` and `encode_canvas` for those of any size.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import UnidentifiedImageError, features
from PIL.Image import DecompressionBombError

from defusion_cli import image_decode, image_encode
from defusion_cli.allocator import give_memory_back
from defusion_cli.canvas import Canvas, NoRoomError, Samples, Tags, quantise
from defusion_cli.canvas import Pixels as Pixels
from defusion_cli.errors import DataError, DefusionError, one_line
from defusion_cli.files import list_files, list_names, require_regular, write_atomically

FORMATS = {
    ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF", ".webp": "WEBP", ".bmp": "BMP",
    ".avif": "AVIF", ".heic": "HEIF", ".heif": "HEIF",
}  # fmt: skip
"""Format by lower-case suffix. AVIF needs a Pillow that was built with it, HEIC the extra ``heif``."""
READABLE = "PNG, JPEG, TIFF, WebP, BMP, AVIF or HEIC"
"""The same in words."""

_DEEP = ("PNG", "TIFF")


@dataclass(frozen=True)
class Picture:
    """A decoded file, turned upright.

    Attributes
    ----------
    pixels
        H×W×3 float32 RGB in [0, 1]; grey pictures have three equal channels.
    alpha
        H×W samples as stored (0…255 or 0…65535), or None. Colours are not multiplied by it.
    bits
        8 or 16 per channel.
    grey
        True if the file has one colour channel.
    exif, icc, xmp, dpi
        Metadata to be written back; the orientation in them is reset to "upright".
    """

    pixels: Pixels
    alpha: Samples | None = None
    bits: int = 8
    grey: bool = False
    exif: bytes | None = None
    icc: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None


def list_images(folder: Path) -> list[Path]:
    """Paths relative to `folder`, sorted, of all pictures below it; hidden and temporary files are left out."""
    return list_files(folder, FORMATS)


def list_image_names(folder: Path) -> list[str]:
    """As `list_images`, as strings with forward slashes: for folders of very many pictures."""
    return list_names(folder, FORMATS)


def read_image(path: Path) -> Picture:
    """Decode `path` and all that has to come back with it.

    Raises
    ------
    DataError
        If the file is missing, unreadable, damaged, unreasonably large, or of no known format.
    """
    try:
        require_regular(path)
        data = Path(path).read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from None
    return decode_image(data, path)


def decode_image(data: bytes, path: Path) -> Picture:
    """As `read_image`, for `data` that was read from `path` already."""
    canvas = _decode(io.BytesIO(data), path)
    try:
        pixels = canvas.pixels()
    except MemoryError:
        raise DataError(f"{path} is too large for the free memory.") from None
    tags, alpha = canvas.tags, canvas.alpha()
    alpha = None if alpha is None else np.ascontiguousarray(alpha)
    return Picture(pixels, alpha, canvas.bits, canvas.grey, tags.exif, tags.icc, tags.xmp, tags.dpi)


def open_canvas(path: Path, scratch: Path | None = None) -> Canvas:
    """As `read_image`, for pictures of any size: the samples of a large one lie in a nameless file in `scratch`."""
    try:
        require_regular(path)
        with open(path, "rb") as file:
            canvas = _decode(file, path, scratch)
    except OSError as error:
        raise _unreadable(path, error) from None
    if canvas.is_large:
        give_memory_back()  # the decoder had the whole picture in memory
    return canvas


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"{path} cannot be read: {error.strerror or error}.", fix=f"ls -l {path}")


def _decode(file: BinaryIO, path: Path, scratch: Path | None = None) -> Canvas:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return image_decode.decode(file, _formats(path), scratch)
    except UnidentifiedImageError:
        if kind := image_decode.kind_of_tiff(file):
            raise DataError(
                f"{path} is a TIFF of a kind that cannot be read.",
                found=kind,
                accepted="grey or RGB, with or without alpha, of 8 or 16 bits",
                fix="save it with 8 or 16 bits a channel",
            ) from None
        file.seek(0)
        start = file.read(8)
        found = f"a file that begins with {start!r}" if start else "an empty file"
        raise DataError(f"{path} is not a picture.", found=found, accepted=READABLE) from None
    except (image_decode.TooLargeError, DecompressionBombError) as error:
        raise DataError(f"{path} has too many pixels.", found=str(error)) from None
    except NoRoomError as error:
        raise DataError(
            f"{path} is large, and there is no room for its samples.",
            found=str(error),
            fix="free some space, or name an output on another disk",
        ) from None
    except MemoryError:
        raise DataError(f"{path} is too large for the free memory.") from None
    except DefusionError:
        raise
    except Exception as error:  # a damaged file makes decoders raise nearly anything
        if isinstance(error, OSError) and error.errno is not None:
            raise DataError(f"{path} cannot be read: {error.strerror}.") from None
        reason = str(error).split("\n")[0] or type(error).__name__
        raise DataError(f"{path} is damaged or cannot be decoded: {reason}.") from None


def _formats(path: Path) -> list[str]:
    """What Pillow may take the file for; the decoder of HEIC is loaded for files of that name only."""
    wanted = {kind for kind in FORMATS.values() if kind != "HEIF" and (kind != "AVIF" or features.check("avif"))}
    kind = FORMATS.get(Path(path).suffix.lower(), "")
    if kind in ("AVIF", "HEIF"):
        _need(kind)
        wanted.add(kind)
    return sorted(wanted)


def _need(kind: str) -> None:
    """Raise `DataError` unless the format, if it is one that not every installation has, can be used."""
    if kind == "AVIF" and not features.check("avif"):
        raise DataError("This Pillow was built without AVIF.", fix="pip install --upgrade pillow")
    if kind == "HEIF":
        try:
            import pillow_heif
        except ImportError:
            raise DataError("HEIC pictures need one more package.", fix="pip install 'defusion[heif]'") from None
        pillow_heif.register_heif_opener()


def read_pixels(path: Path) -> Pixels:
    """Upright float32 RGB pixels of `path`, H×W×3 in [0, 1]; errors as for `read_image`."""
    return read_image(path).pixels


def write_image(path: Path, pixels: Pixels, like: Picture | None = None, quality: int = 95) -> None:
    """Encode `pixels` by the suffix of `path` as `encode_image` does, and put the file there in one step."""
    write_atomically(Path(path), encode_image(path, pixels, like, quality))


def encode_image(path: Path, pixels: Pixels, like: Picture | None = None, quality: int = 95) -> bytes:
    """`pixels` (H×W×3 float32 in [0, 1]) as a file of the format that the suffix of `path` names.

    Parameters
    ----------
    like
        The picture these pixels were made from: its alpha, bit depth, greyness and metadata are written along, as
        far as the format holds them.
    quality
        As for `encode_canvas`.

    Raises
    ------
    DataError
        If the suffix is none of `FORMATS`.
    """
    like = like or Picture(pixels)
    if like.alpha is not None and like.alpha.shape != pixels.shape[:2]:
        raise ValueError(f"pixels are {pixels.shape[:2]}, alpha is {like.alpha.shape}")
    channels = (1 if like.grey else 3) + (like.alpha is not None)
    samples = np.empty((*pixels.shape[:2], channels), np.uint16 if like.bits == 16 else np.uint8)
    if like.alpha is not None:
        samples[..., -1] = like.alpha
    canvas = Canvas(samples, Tags(like.exif, like.icc, like.xmp, like.dpi))
    canvas.put((slice(None), slice(None)), pixels)
    buffer = io.BytesIO()
    encode_canvas(buffer, canvas, path, quality)
    return buffer.getvalue()


def encode_canvas(file: BinaryIO, canvas: Canvas, path: Path, quality: int = 95) -> None:
    """Write `canvas` into `file` in the format that the suffix of `path` names.

    JPEG has no alpha; all but PNG and TIFF have 8 bits; WebP, BMP and AVIF turn grey into three equal channels.

    Parameters
    ----------
    quality
        Of JPEG, WebP, AVIF and HEIC, 1…100. From 90 on, the colours keep their full resolution.

    Raises
    ------
    DataError
        If the suffix is none of `FORMATS`, or the format cannot hold so many pixels.
    """
    kind = format_of(path)
    samples = canvas.samples
    if canvas.bits == 16 and kind not in _DEEP:
        samples = _to_eight_bits(canvas)
    if kind == "JPEG" and samples.shape[2] in (2, 4):
        samples = samples[..., :-1]
    most = {"JPEG": 65_535, "WEBP": 16_383, "AVIF": 65_535}.get(kind)
    if most is not None and max(canvas.size) > most:
        raise DataError(
            f"{path} cannot hold a picture of {canvas.size[1]}×{canvas.size[0]}.",
            accepted=f"up to {most} pixels a side in {path.suffix}",
            fix="name an output with the suffix .png or .tif",
        )
    if canvas.is_large:
        give_memory_back()  # some encoders need the whole picture in memory
    try:
        image_encode.encode(file, samples, kind, canvas.tags, quality)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # an encoder's own, such as metadata that are too long for the format
        raise DataError(
            f"{path} cannot be written.",
            found=one_line(f"{type(error).__name__}: {error}")[:200],
            fix="name an output with the suffix .png or .tif",
        ) from error
    if canvas.is_large:
        give_memory_back()


def format_of(path: Path) -> str:
    """Pillow's name of the format that a suffix means; `DataError` if it is none of `FORMATS` or cannot be used."""
    kind = FORMATS.get(Path(path).suffix.lower())
    if kind is None:
        raise DataError(f"No picture can be written as {Path(path).name}.", accepted=", ".join(FORMATS))
    _need(kind)
    return kind


def _to_eight_bits(canvas: Canvas) -> Samples:
    samples = np.empty(canvas.samples.shape, np.uint8)
    for band in canvas.bands():
        samples[band] = quantise(canvas.samples[band].astype(np.float32) / np.float32(65535), 8)
    return samples


def to_uint8(pixels: Pixels) -> NDArray[np.uint8]:
    """[0, 1] to 0…255, rounded to nearest, clipped."""
    return quantise(pixels, 8)
