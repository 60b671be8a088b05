"""Photographs in and out: float32 RGB to work on, and everything else of the file kept to be put back.

Read with Pillow; 16-bit samples, which Pillow cuts to 8 bits when there are three channels, with OpenCV. Pixels stay
in the colour space of the file, whose profile goes back with them; CMYK is converted.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PilImage
from PIL import ImageCms, UnidentifiedImageError

from defusion_cli import image_encode
from defusion_cli.errors import DataError
from defusion_cli.files import list_files, write_atomically

Pixels = NDArray[np.float32]
Samples = NDArray[Any]
"""Whole numbers as stored in a file: uint8 or uint16."""

FORMATS = {
    ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF", ".webp": "WEBP", ".bmp": "BMP",
}  # fmt: skip
"""Format by lower-case suffix."""

_ORIENTATION = 0x0112
_XMP_ORIENTATION = re.compile(rb'(tiff:Orientation(?:="|>))[2-8]')


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


def read_image(path: Path) -> Picture:
    """Decode `path` and all that has to come back with it.

    Raises
    ------
    DataError
        If the file is missing, unreadable, damaged, unreasonably large, or of no known format.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.", fix=f"ls -l {path}") from None
    return decode_image(data, path)


def decode_image(data: bytes, path: Path) -> Picture:
    """As `read_image`, for `data` that was read from `path` already."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _decode(data)
    except UnidentifiedImageError:
        found = "an empty file" if not data else f"a file that begins with {data[:8]!r}"
        raise DataError(f"{path} is not a picture.", found=found, accepted="PNG, JPEG, TIFF, WebP or BMP") from None
    except PilImage.DecompressionBombError:
        limit = 2 * (PilImage.MAX_IMAGE_PIXELS or 0) // 1_000_000
        raise DataError(f"{path} has too many pixels.", accepted=f"up to {limit} megapixels") from None
    except MemoryError:
        raise DataError(f"{path} is too large for the free memory.") from None
    except Exception as error:  # a damaged file makes decoders raise nearly anything
        reason = str(error).split("\n")[0] or type(error).__name__
        raise DataError(f"{path} is damaged or cannot be decoded: {reason}.") from None


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
        far as the format holds them (JPEG has no alpha; JPEG, WebP and BMP have 8 bits).
    quality
        Of JPEG and WebP, 1…100. From 90 on, JPEG keeps the full colour resolution.

    Raises
    ------
    DataError
        If the suffix is none of `FORMATS`.
    """
    path = Path(path)
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise DataError(f"No picture can be written as {path.name}.", accepted=", ".join(FORMATS))
    like = like or Picture(pixels)
    deep = like.bits == 16 and kind in ("PNG", "TIFF")
    samples: Samples = _to_uint16(pixels) if deep else to_uint8(pixels)
    if like.grey:
        # The weights add up to one: three equal channels give back their value exactly.
        samples = cv2.cvtColor(samples, cv2.COLOR_RGB2GRAY)
    alpha = None if kind == "JPEG" else like.alpha
    if alpha is not None:
        if alpha.shape != samples.shape[:2]:
            raise ValueError(f"pixels are {samples.shape[:2]}, alpha is {alpha.shape}")
        if not deep and alpha.dtype == np.uint16:
            alpha = to_uint8(alpha.astype(np.float32) / np.float32(65535))
        if deep and kind == "TIFF" and like.grey:
            samples = samples[..., None].repeat(3, axis=2)  # Pillow reads no 16-bit TIFF of grey with alpha
        samples = np.dstack([samples, alpha])
    tags = image_encode.Tags(like.exif, like.icc, like.xmp, like.dpi)
    encode: Callable[..., bytes] = image_encode.encode_16 if deep else image_encode.encode_8
    return encode(samples, kind, tags, quality)


def to_uint8(pixels: Pixels) -> NDArray[np.uint8]:
    """[0, 1] to 0…255, rounded to nearest, clipped."""
    scaled: NDArray[np.uint8] = np.rint(np.clip(pixels, 0.0, 1.0) * np.float32(255)).astype(np.uint8)
    return scaled


def _to_uint16(pixels: Pixels) -> NDArray[np.uint16]:
    scaled: NDArray[np.uint16] = np.rint(np.clip(pixels, 0.0, 1.0) * np.float32(65535)).astype(np.uint16)
    return scaled


def _decode(data: bytes) -> Picture:
    with PilImage.open(io.BytesIO(data), formats=sorted(set(FORMATS.values()))) as image:
        turn = int(image.getexif().get(_ORIENTATION, 1))
        xmp = _xmp(image)
        # Also for 16 bits: unlike OpenCV, Pillow notices that a file is cut short.
        image.load()
        icc, dpi, exif, xmp = image.info.get("icc_profile"), image.info.get("dpi"), _exif(image), xmp or _xmp(image)
        bits = _bits(image, data)
        if bits == 16:
            # OpenCV turns some TIFF files, depending on its version: with the tag reset it turns none.
            samples = _samples_16(_orientation_reset(data) if image.format == "TIFF" else data)
        elif image.mode == "CMYK":
            samples, icc = np.asarray(_from_cmyk(image, icc)), None
        else:
            samples = np.asarray(image.convert(_plain_mode(image)))
        if image.format == "TIFF" and bits == 8:
            turn = 1  # Pillow turns TIFF, and TIFF only, while it loads
    samples = _upright(samples if samples.ndim == 3 else samples[..., None], turn)
    grey, has_alpha = samples.shape[2] < 3, samples.shape[2] in (2, 4)
    colour = samples[..., :1].repeat(3, axis=2) if grey else samples[..., :3]
    return Picture(
        pixels=colour.astype(np.float32) / np.float32(65535 if bits == 16 else 255),
        alpha=np.ascontiguousarray(samples[..., -1]) if has_alpha else None,
        bits=bits,
        grey=grey,
        exif=exif,
        icc=icc,
        xmp=xmp,
        dpi=(float(dpi[0]), float(dpi[1])) if dpi and min(dpi) > 0 else None,
    )


def _xmp(image: PilImage.Image) -> bytes | None:
    """XMP packet with the orientation set to 1."""
    packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
    if not packet:
        return None
    return _XMP_ORIENTATION.sub(rb"\g<1>1", packet.encode() if isinstance(packet, str) else packet)


def _bits(image: PilImage.Image, data: bytes) -> int:
    if image.format == "PNG":
        return 16 if data[24] == 16 else 8  # bit depth, in the header's fixed place
    if image.format == "TIFF":
        widths = set(getattr(image, "tag_v2", {}).get(258, (1,)))
        if widths == {16}:
            return 16
        if max(widths) > 8 or image.mode in ("F", "I"):
            raise ValueError(f"{max(widths)} bits per channel; up to 16 are supported")
    return 8


def _plain_mode(image: PilImage.Image) -> str:
    """One of L, LA, RGB, RGBA: what 8-bit `image` is without palette and subsampling."""
    transparent = "transparency" in image.info or "A" in image.mode or "a" in image.mode
    base = "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
    if base == "L" and transparent:
        return "LA"
    return base + "A" if transparent else base


def _samples_16(data: bytes) -> Samples:
    samples: Samples | None = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if samples is None or samples.dtype != np.uint16:
        raise ValueError("its 16-bit samples are stored in an unusual way")
    if samples.ndim == 3:
        samples = samples[..., [2, 1, 0, 3][: samples.shape[2]]]
        if samples.shape[2] == 4 and _png_grey_alpha(data):
            samples = samples[..., [0, 3]]
    return samples


def _png_grey_alpha(data: bytes) -> bool:
    """OpenCV unfolds grey with alpha into four channels; PNG colour type 4 tells."""
    return data[:4] == b"\x89PNG" and data[25] == 4


def _from_cmyk(image: PilImage.Image, icc: bytes | None) -> PilImage.Image:
    if icc:
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
            converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
            if converted is not None:
                return converted
        except ImageCms.PyCMSError:
            pass  # a broken profile: the plain conversion is the best that is left
    return image.convert("RGB")


def _upright(samples: NDArray[Any], turn: int) -> NDArray[Any]:
    """Undo EXIF orientation 1…8 (CIPA DC-008, tag 0x0112)."""
    if turn in (5, 6, 7, 8):
        samples = samples.swapaxes(0, 1)
    if turn in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    if turn in (3, 4, 7, 8):
        samples = samples[::-1]
    return samples


def _exif(image: PilImage.Image) -> bytes | None:
    """EXIF block with the orientation set to 1, everything else byte for byte; a TIFF's own layout tags left out."""
    if image.format == "TIFF":
        return image_encode.tiff_exif(image)
    raw = image.info.get("exif")
    return _orientation_reset(raw) if raw else None


def _orientation_reset(raw: bytes) -> bytes:
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
