"""One picture that shows what a degradation does: to a visual ground, and to a photograph."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from defusion_cli.canvas import Pixels
from defusion_cli.errors import DataError
from defusion_cli.ground import draw_ground, encode_residual
from defusion_cli.images import read_pixels
from defusion_cli.plugins import Recipe, apply_recipe
from defusion_cli.plugins.compose import Plugins

_GAP, _TITLE = 12, 28
_MAX_SHOWN = 6


def sample_photo() -> Pixels:
    """The cup of coffee (Rachel Michetti, CC0) that ships with scikit-image, 400×600.

    Raises
    ------
    DataError
        If this installation of scikit-image lacks it.
    """
    package = importlib.util.find_spec("skimage")
    if package is None or package.origin is None:
        raise DataError(
            "scikit-image, the source of the sample photograph, is missing.", fix="pip install scikit-image"
        )
    return read_pixels(Path(package.origin).parent / "data" / "coffee.png")


def draw_preview(recipes: Sequence[Recipe], plugins: Plugins, seed: int = 0) -> Pixels:
    """A sheet, float32 RGB in [0, 1]: a ground and a photograph, untouched, damaged by each recipe, and the residual.

    At most six recipes are shown. The residual of the first is shown about mid-grey.
    """
    rows = []
    shown = recipes[:_MAX_SHOWN]
    ground = draw_ground(np.random.default_rng(seed))
    for picture, residual in ((ground, "instruction"), (sample_photo(), "difference")):
        damaged = [apply_recipe(picture, recipe, plugins) for recipe in shown]
        cells = [picture, *damaged, encode_residual(damaged[0] - picture)]
        titles = ["untouched", *(" + ".join(recipe.ids) for recipe in shown), residual]
        rows.append(np.concatenate([_framed(*pair) for pair in zip(cells, titles, strict=True)], axis=1))
    width = max(row.shape[1] for row in rows)
    padded = [cv2.copyMakeBorder(r, 0, 0, 0, width - r.shape[1], cv2.BORDER_CONSTANT, value=(1, 1, 1)) for r in rows]
    return np.concatenate(padded)


def _framed(cell: Pixels, title: str) -> Pixels:
    frame = cv2.copyMakeBorder(cell, _TITLE, _GAP, _GAP, _GAP, cv2.BORDER_CONSTANT, value=(1, 1, 1))
    # Text is drawn on 8 bits only.
    band = np.full((_TITLE, frame.shape[1], 3), 255, np.uint8)
    cv2.putText(band, title, (_GAP, _TITLE - 9), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
    frame[:_TITLE] = band.astype(np.float32) / np.float32(255)
    return frame
