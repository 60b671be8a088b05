"""Natural objects: openly licensed photographs that lie inside the scikit-image wheel, and the user's own.

Nothing is downloaded: the files are opened where pip put them. Licences as stated by scikit-image: astronaut (NASA,
public domain), coffee, chelsea, retina, camera, brick, grass and gravel (CC0), rocket (SpaceX, public domain),
hubble_deep_field (NASA, free use). Left out: clock_motion (blurred already), motorcycle (no licence stated), faces.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from defusion_cli.errors import DataError
from defusion_cli.images import READABLE, list_images, read_pixels
from defusion_cli.plugins.contract import Image

WHEEL_PHOTOS = (
    "astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg", "hubble_deep_field.jpg", "retina.jpg",
    "camera.png", "brick.png", "grass.png", "gravel.png",
)  # fmt: skip
"""Files of ``skimage/data`` that may be shown in grounds."""

_SHORT_SIDE = 360
_MOST_USER_PHOTOS = 128
_SMALLEST_PHOTO = 32
_ENOUGH_CONTRAST = 0.08


class Photographs(Sequence[Image]):
    """Photographs that are read when they are first asked for: a ground shows one of them."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = tuple(paths)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return Photographs(self._paths[number])
        return _load(self._paths[number])


@lru_cache(maxsize=4)
def natural_pool(folder: Path | None = None) -> Photographs:
    """Photographs for grounds, float32 RGB in [0, 1], shorter side at most 360 px, not to be written to; cached.

    Those of the user are read at once, so that one that cannot be read is named before anything begins.

    Parameters
    ----------
    folder
        The user's photographs are added; of more than 128, every n-th one is taken.

    Raises
    ------
    DataError
        If the folder is missing, holds no picture, or one of them cannot be read or is too small.
    """
    paths = _wheel_paths()
    if folder is not None:
        found = list_images(folder)
        if not found:
            raise DataError(f"{folder} holds no picture.", accepted=f"{READABLE} files")
        step = -(-len(found) // _MOST_USER_PHOTOS)
        paths += [folder / name for name in found[::step]]
    photos = Photographs(paths)
    if folder is not None:
        list(photos)
    return photos


def _wheel_paths() -> list[Path]:
    # The package is looked up, not imported: importing it costs a second and may reach for its downloader.
    spec = importlib.util.find_spec("skimage")
    roots = list(spec.submodule_search_locations or []) if spec else []
    found = [Path(root) / "data" / name for root in roots for name in WHEEL_PHOTOS]
    found = [path for path in found if path.is_file()]
    if not found:
        raise DataError(
            "The photographs of scikit-image are missing.",
            found="no skimage/data folder in this environment",
            fix="pip install --force-reinstall scikit-image",
        )
    return found


@lru_cache(maxsize=4 * _MOST_USER_PHOTOS)
def _load(path: Path) -> Image:
    photo = read_pixels(path)
    height, width = photo.shape[:2]
    if min(height, width) < _SMALLEST_PHOTO:
        raise DataError(
            f"{path} is too small for a ground.",
            found=f"{width}×{height} px",
            accepted=f"at least {_SMALLEST_PHOTO} px on the shorter side",
        )
    scale = _SHORT_SIDE / min(height, width)
    if scale < 1:
        photo = cv2.resize(photo, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
    photo = np.ascontiguousarray(photo)
    photo.flags.writeable = False
    return photo


def draw_natural(rng: np.random.Generator, height: int, width: int, photos: Sequence[Image]) -> Image:
    """A random piece of a random photograph, H×W×3: crop, scale, flip, gamma and saturation drawn.

    Of three pieces the first with some contrast is taken: an empty patch of sky would be a flat field.
    """
    photo = photos[int(rng.integers(len(photos)))]
    for _ in range(3):
        piece = _draw_crop(rng, photo, height, width)
        if float(piece.std()) > _ENOUGH_CONTRAST:
            break
    if rng.random() < 0.5:
        piece = piece[:, ::-1]
    piece = np.clip(piece, 0, 1) ** np.float32(np.exp(rng.uniform(-0.3, 0.3)))
    grey = piece.mean(axis=2, keepdims=True)
    if np.array_equal(photo[..., 0], photo[..., 1]) and rng.random() < 0.6:
        # The grey textures of the wheel (grass, brick, gravel) are more like themselves in a colour.
        tint = rng.uniform(0.75, 1.1, 3).astype(np.float32)
        return np.clip(grey * tint, 0, 1)
    return np.clip(grey + np.float32(rng.uniform(0.7, 1.4)) * (piece - grey), 0, 1)


def _draw_crop(rng: np.random.Generator, photo: Image, height: int, width: int) -> Image:
    rows, columns = photo.shape[:2]
    most = min(rows / height, columns / width)
    zoom = float(np.exp(rng.uniform(0.0, np.log(most)))) if most > 1 else most
    h, w = max(1, min(int(height * zoom), rows)), max(1, min(int(width * zoom), columns))
    y, x = int(rng.integers(rows - h + 1)), int(rng.integers(columns - w + 1))
    method = cv2.INTER_AREA if zoom > 1 else cv2.INTER_CUBIC
    return cv2.resize(photo[y : y + h, x : x + w], (width, height), interpolation=method)
