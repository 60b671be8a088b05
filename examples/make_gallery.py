"""Draw examples/gallery/PLUGIN.jpg: two photographs under every degradation, at five severities.

    python examples/make_gallery.py [PLUGIN …]

The pictures are damaged whole; what is shown is a piece of each, one pixel of the photo being one of the sheet.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sheets import draw_sheet, to_picture
from skimage import data

from defusion_cli.plugins import Degradation, apply_recipe, draw_recipe, installed_plugins

FOLDER = Path(__file__).parent / "gallery"
SEVERITIES = (0.1, 0.3, 0.5, 0.7, 0.9)
TILE_WIDTH, TILE_HEIGHT = 272, 208
# Photograph, and the left and top edge of the piece that is shown.
PHOTOS = {"rocket": (data.rocket, 190, 130), "coffee": (data.coffee, 120, 60)}


def _piece(image: NDArray[np.float32], left: int, top: int) -> NDArray[np.float32]:
    return image[top : top + TILE_HEIGHT, left : left + TILE_WIDTH]


def draw_plugin(plugin: Degradation[Any]) -> Path:
    """The sheet of one plugin."""
    plugins = installed_plugins()
    rows = []
    for name, (load, left, top) in PHOTOS.items():
        photo = load().astype(np.float32) / 255
        row = [(to_picture(_piece(photo, left, top)), f"{name}, as it was")]
        for seed, severity in enumerate(SEVERITIES):
            recipe = draw_recipe([plugin.id], plugins, np.random.default_rng(seed), severity)
            damaged = apply_recipe(photo, recipe, plugins)
            row.append((to_picture(_piece(damaged, left, top)), f"{plugin.id}, severity {severity:g}"))
        rows.append(row)
    return draw_sheet(rows, FOLDER / f"{plugin.id}.jpg")


def main() -> None:
    """Draw the sheets of the plugins named on the command line, or of all."""
    plugins = installed_plugins()
    for plugin_id in sys.argv[1:] or sorted(plugins):
        path = draw_plugin(plugins[plugin_id])
        print(f"{path} ({path.stat().st_size / 1000:.0f} kB)")


if __name__ == "__main__":
    main()
