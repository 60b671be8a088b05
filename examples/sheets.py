"""Contact sheets: rows of equally large pictures with a caption under each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

MARGIN = 6
CAPTION = 20


def draw_sheet(rows: Sequence[Sequence[tuple[Image.Image, str]]], path: Path, quality: int = 88) -> Path:
    """Write `rows` of (picture, caption) as one JPEG; all pictures of a sheet have the same size."""
    width, height = rows[0][0][0].size
    columns = max(len(row) for row in rows)
    size = (MARGIN + columns * (width + MARGIN), MARGIN + len(rows) * (height + CAPTION + MARGIN))
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(13)
    for r, row in enumerate(rows):
        for c, (picture, caption) in enumerate(row):
            left, top = MARGIN + c * (width + MARGIN), MARGIN + r * (height + CAPTION + MARGIN)
            sheet.paste(picture, (left, top))
            draw.text((left, top + height + 2), caption, fill="black", font=font)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, quality=quality)
    return path


def to_picture(image: np.ndarray) -> Image.Image:
    """A PIL picture of H×W×3 values in [0, 1]."""
    return Image.fromarray(np.round(np.clip(image, 0, 1) * 255).astype(np.uint8))
