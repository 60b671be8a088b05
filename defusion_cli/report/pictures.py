"""The pictures of a report: reduced to what a screen shows, and inside the page as long as there are few."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import cv2

from defusion_cli.files import write_atomically
from defusion_cli.images import Picture, Pixels, encode_image

MAX_SIDE_PX = 2048
"""Larger pictures are reduced for the page; the files themselves are untouched."""

_QUALITY = 90
"""From 90 on, JPEG keeps the full colour resolution: coloured noise looks as it is."""

_OURS = re.compile(r"\d{5,}-[a-z]+\.jpg")


def preview(picture: Picture) -> tuple[bytes, tuple[int, int]]:
    """A JPEG of at most `MAX_SIDE_PX` a side, with the colour profile but no other metadata; and its width, height."""
    pixels = _reduced(picture.pixels)
    like = Picture(pixels, icc=picture.icc, grey=picture.grey)
    return encode_image(Path("preview.jpg"), pixels, like, _QUALITY), (pixels.shape[1], pixels.shape[0])


def _reduced(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    scale = MAX_SIDE_PX / max(height, width)
    if scale >= 1:
        return pixels
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    reduced: Pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return reduced


class Store:
    """Keeps previews for a page: as data URIs inside it, or, beyond `inline_bytes`, as files in a folder beside it.

    Parameters
    ----------
    page
        The page; the folder of ``report.html`` is ``report_files``.
    inline_bytes
        Most that is kept inside.
    """

    def __init__(self, page: Path, inline_bytes: int) -> None:
        self.folder = page.parent / f"{page.stem}_files"
        self._inline_bytes = inline_bytes
        self._kept: dict[str, bytes] = {}
        self._written: set[str] = set()

    def add(self, number: int, view: str, jpeg: bytes) -> str:
        """Take one preview, and return the name to look up its address by, once all are there."""
        name = f"{number:05d}-{view}.jpg"
        self._kept[name] = jpeg
        if self._written or sum(map(len, self._kept.values())) > self._inline_bytes:
            for kept, data in self._kept.items():
                write_atomically(self.folder / kept, data)
            self._written |= set(self._kept)
            self._kept.clear()
        return name

    def address(self, name: str) -> str:
        """What goes into ``src``."""
        if name in self._written:
            # Percent signs and the like in the name of the page must survive as part of a URL.
            return f"{_quoted(self.folder.name)}/{name}"
        return "data:image/jpeg;base64," + base64.b64encode(self._kept[name]).decode("ascii")

    def close(self) -> Path | None:
        """Delete previews of an earlier page that this one has no more; the folder, if there is one now."""
        if self.folder.is_dir():
            for path in self.folder.iterdir():
                if _OURS.fullmatch(path.name) and path.name not in self._written:
                    path.unlink()
            if not self._written and not any(self.folder.iterdir()):
                self.folder.rmdir()
        return self.folder if self._written else None


def _quoted(name: str) -> str:
    from urllib.parse import quote

    return quote(name.encode("utf-8", "surrogateescape"))
