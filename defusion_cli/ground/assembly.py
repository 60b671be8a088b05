"""From elements to a ground: one of each category, in boxes cut at random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from defusion_cli.errors import UsageError, did_you_mean
from defusion_cli.ground.colours import COLOURS
from defusion_cli.ground.natural import draw_natural, natural_pool
from defusion_cli.ground.regular import REGULAR
from defusion_cli.ground.shapes import Plane, centred_grid, draw_colour, edge, rotated
from defusion_cli.ground.stochastic import STOCHASTIC
from defusion_cli.plugins.contract import Image

GROUND_KINDS = ("visual", "simple", "blank")
"""``visual`` is the chart; ``simple`` (solid colour and simple shapes) and ``blank`` (solid colour) are ablations."""

CATEGORIES = ("regular", "stochastic", "colours", "natural")

MIN_SIZE, MAX_SIZE = 32, 1024
"""Accepted sides of a ground, px."""


@dataclass(frozen=True)
class Placement:
    """Where an element lies in a ground: rows [top, top + height), columns [left, left + width), in px."""

    category: str
    element: str
    top: int
    left: int
    height: int
    width: int


def draw_ground(
    rng: np.random.Generator, kind: str = "visual", size: int = 224, natural: Sequence[Image] | None = None
) -> Image:
    """Draw one ground, size×size×3 float32 in [0, 1]; the same generator state gives the same bytes.

    All values are multiples of 1/255, so that a ground read back from its PNG is the very same.

    Parameters
    ----------
    kind
        One of `GROUND_KINDS`.
    size
        Side in px, 32…1024.
    natural
        Photographs for the natural element; None takes those of `natural_pool`.

    Raises
    ------
    UsageError
        For an unknown kind or a size out of range.
    """
    check_ground(kind, size)
    if kind == "visual":
        return compose_ground(rng, size, natural)[0]
    if kind == "simple":
        return _eight_bit(_simple(rng, size))
    return _eight_bit(np.full((size, size, 3), draw_colour(rng), np.float32))


def check_ground(kind: str, size: int) -> None:
    """Raise `UsageError` if there is no such kind of ground, or `size` px is out of range."""
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise UsageError(
            "The size of a ground is out of range.", found=f"{size} px", accepted=f"{MIN_SIZE}…{MAX_SIZE} px"
        )
    if kind not in GROUND_KINDS:
        near = did_you_mean(kind, GROUND_KINDS)
        raise UsageError(
            f"There is no kind of ground named {kind!r}.",
            accepted=", ".join(GROUND_KINDS),
            fix=f"did you mean {near}?" if near else None,
        )


def compose_ground(
    rng: np.random.Generator, size: int = 224, natural: Sequence[Image] | None = None
) -> tuple[Image, tuple[Placement, ...]]:
    """A ``visual`` ground and where its four elements lie; parameters as for `draw_ground`."""
    photos = natural_pool() if natural is None else natural
    ground = np.empty((size, size, 3), np.float32)
    placements = []
    for category, box in zip(rng.permutation(CATEGORIES), _draw_boxes(rng, size), strict=True):
        top, left, height, width = box
        element, image = _draw_element(rng, str(category), height, width, photos)
        ground[top : top + height, left : left + width] = image
        placements.append(Placement(str(category), element, *box))
    return _eight_bit(ground), tuple(placements)


def _eight_bit(ground: Image) -> Image:
    """`ground`, clipped to [0, 1] and rounded to multiples of 1/255; in place."""
    np.clip(ground, 0.0, 1.0, out=ground)
    ground *= np.float32(255)
    np.rint(ground, out=ground)
    ground /= np.float32(255)
    return ground


def _draw_boxes(rng: np.random.Generator, size: int) -> list[tuple[int, int, int, int]]:
    """Four boxes (top, left, height, width) that tile the square: quarters, or guillotine cuts in 2 of 3 draws."""
    if rng.random() < 1 / 3:
        first, second, third = (size // 2,) * 3
    else:
        first, second, third = (int(c) for c in np.rint(rng.uniform(0.36, 0.64, 3) * size))
    boxes = [
        (0, 0, first, second),
        (0, second, first, size - second),
        (first, 0, size - first, third),
        (first, third, size - first, size - third),
    ]
    if rng.random() < 0.5:  # the long cut runs upright instead
        boxes = [(left, top, width, height) for top, left, height, width in boxes]
    return boxes


def _draw_element(
    rng: np.random.Generator, category: str, height: int, width: int, photos: Sequence[Image]
) -> tuple[str, Image]:
    if category == "natural":
        return "photo", draw_natural(rng, height, width, photos)
    if category == "regular":
        name = str(rng.choice(list(REGULAR)))
        return name, REGULAR[name](rng, height, width)
    pool = STOCHASTIC if category == "stochastic" else COLOURS
    name = str(rng.choice(list(pool), p=[share for share, _ in pool.values()]))
    return name, pool[name][1](rng, height, width)


def _simple(rng: np.random.Generator, size: int) -> Image:
    """A solid colour with two to six disks, squares, triangles and bars."""
    ground = np.full((size, size, 3), draw_colour(rng), np.float32)
    for _ in range(int(rng.integers(2, 7))):
        cover = _draw_shape(rng, size)[..., None]
        ground += cover * (draw_colour(rng, 0.0, 1.0) - ground)
    return ground


def _draw_shape(rng: np.random.Generator, size: int) -> Plane:
    centre = (float(rng.uniform(-0.45, 0.45)) * size, float(rng.uniform(-0.45, 0.45)) * size)
    radius = float(rng.uniform(0.06, 0.25)) * size
    x, y = rotated(*centred_grid(size, size, centre), float(rng.uniform(0, 90)))
    shape = int(rng.integers(4))
    if shape == 0:
        return edge(radius - np.hypot(x, y))
    if shape == 1:
        return edge(radius - np.maximum(np.abs(x), np.abs(y)))
    if shape == 2:
        sides = [x * np.float32(np.cos(a)) + y * np.float32(np.sin(a)) for a in (0.0, 2 * np.pi / 3, 4 * np.pi / 3)]
        return edge(radius / 2 - np.maximum.reduce(sides))
    return edge(np.minimum(2 * radius - np.abs(x), radius / 6 - np.abs(y)))
