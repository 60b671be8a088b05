"""The before/after contact sheet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image as PilImage
from PIL import ImageDraw, ImageFont

from defusion_cli.canvas import Canvas, Pixels, Tags, reduced
from defusion_cli.errors import DefusionError
from defusion_cli.files import staged
from defusion_cli.images import encode_canvas, open_canvas, to_uint8
from defusion_cli.restore.plan import Job

MAX_PAIRS = 12
"""More pairs make a sheet that no screen shows; the first ones are drawn."""

_CELL_PX = 480
_GAP_PX = 6
_MARGIN_PX = 18
_TITLE_PX = 30
_FONT_PX = 18
_SOFTWARE, _MARK = 0x0131, "defusion: before and after"  # the tag of EXIF, and what it says
_BACKGROUND, _INK = (250, 250, 250), (30, 30, 30)


def write_sheet(jobs: Sequence[Job], path: Path) -> int:
    """Draw source and target of the first `MAX_PAIRS` jobs that have both, and return how many were drawn.

    Pictures larger than 480 px are reduced; one column of pairs up to three, two columns beyond.
    """
    pairs: list[tuple[str, Pixels, Pixels]] = []
    for job in jobs:
        if len(pairs) == MAX_PAIRS:
            break
        try:
            pairs.append((job.name, _glance(job.source, path.parent), _glance(job.target, path.parent)))
        except DefusionError:
            continue  # reported when it was to be restored
    if pairs:
        with staged(path) as file:
            encode_canvas(file, Canvas(to_uint8(draw_sheet(pairs)), Tags(exif=_mark())), path)
    return len(pairs)


def is_sheet(path: Path) -> bool:
    """Whether a file is a sheet of ours, which another one may replace."""
    try:
        with PilImage.open(path) as image:
            return image.getexif().get(_SOFTWARE) == _MARK
    except (OSError, ValueError, SyntaxError):
        return False


def _mark() -> bytes:
    exif = PilImage.Exif()
    exif[_SOFTWARE] = _MARK
    return exif.tobytes()


def draw_sheet(pairs: Sequence[tuple[str, Pixels, Pixels]]) -> Pixels:
    """A sheet (H×W×3 in [0, 1]) of titled pairs: before on the left, after on the right, each at most 480 px a side."""
    columns = 1 if len(pairs) <= 3 else 2
    rows = [pairs[first : first + columns] for first in range(0, len(pairs), columns)]
    heights = [max(max(before.shape[0], after.shape[0]) for _, before, after in row) for row in rows]
    pair_width = 2 * _CELL_PX + _GAP_PX
    size = (
        _MARGIN_PX + columns * (pair_width + _MARGIN_PX),
        _MARGIN_PX + sum(height + _TITLE_PX + _MARGIN_PX for height in heights),
    )
    sheet = PilImage.new("RGB", size, _BACKGROUND)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_FONT_PX)
    top = _MARGIN_PX
    for row, height in zip(rows, heights, strict=True):
        for column, (name, before, after) in enumerate(row):
            left = _MARGIN_PX + column * (pair_width + _MARGIN_PX)
            middle = left + _CELL_PX + _GAP_PX
            draw.text((left, top), _fitted(f"{name}: before", font), _INK, font)
            draw.text((middle, top), "after", _INK, font)
            for x, picture in ((left, before), (middle, after)):
                sheet.paste(PilImage.fromarray(to_uint8(picture)), (x, top + _TITLE_PX))
        top += height + _TITLE_PX + _MARGIN_PX
    pixels: Pixels = np.asarray(sheet, np.float32) / np.float32(255)
    return pixels


def _glance(path: Path, scratch: Path) -> Pixels:
    return _reduced(reduced(open_canvas(path, scratch), _CELL_PX))


def _reduced(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    scale = _CELL_PX / max(height, width)
    if scale >= 1:
        return pixels
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    reduced: Pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return reduced


def _fitted(title: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """`title`, its beginning left out as far as it does not fit above a picture."""
    while font.getlength(title) > _CELL_PX and len(title) > 2:
        title = "…" + title[2:]
    return title
