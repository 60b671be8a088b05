"""At which size of a photograph its damage is estimated: the one at which the model sees the most of it.

The network knows damage as large, in pixels, as in a photograph of about half a megapixel. On twelve, a raindrop is
five times as wide; reduced, the photograph shows it at the size that the network knows. How far to reduce is no matter
of the photograph's sharpness: over sharp leaves there are streaks that are wide and soft, and fine grain over a blurred
wall. So the model is asked: at the right size it sees the damage, at a wrong one it passes it by. Of 1, 1/2, 1/4, …
the largest size is taken at which the estimated damage varies about as much, within small squares, as where it varies
most. (Its mean is left out: a model that does not understand what it sees is soon wrong about the brightness.)

What sensor and file do belongs to the pixels, whatever is in the picture, and is asked about by itself: noise is fine
unless the file was enlarged; the blocks of JPEG have eight pixels, always.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from torch import Tensor

from defusion_cli.canvas import ArrayPhoto, Photo, Pixels
from defusion_cli.diffusion.pipeline import DefusionPipeline
from defusion_cli.recognition import recognise
from defusion_cli.restore.instruction import UNKNOWN, Instruction, Nature
from defusion_cli.restore.pixels import Estimator, restore_pixels
from defusion_cli.restore.tiling import Tile

_REDUCTIONS = (1, 2, 4, 8, 16, 32)

_LEAST_PX = 150_000
"""Pixels that a photograph is left with at least when its scale is found: the smallest pictures of the public sets have
so many, and their damage is as large, in pixels, as that of training."""

_SPOT_PX, _SPOTS = 256, 3
"""The model is asked about 3×3 squares of the photograph, of this side."""

_AROUND_PX = 128
"""What the model sees of a reduced photograph with such a square in the middle: at least so much."""

_AS_STRONG = 0.9
"""Part of the greatest strength that counts as equal: a larger size keeps more detail, and less is imagined there."""


_LEAST_SHARE = 0.01
"""Less of an estimate than this is none of it: the photograph keeps its very values."""


class Pass(NamedTuple):
    """One way through the photograph.

    Attributes
    ----------
    tokens
        What is removed.
    reduction
        The whole number by which the photograph is reduced for that.
    nature
        What is known of it.
    """

    tokens: Tensor
    reduction: int
    nature: Nature = UNKNOWN


def plan_passes(
    pipeline: DefusionPipeline,
    photo: Photo,
    instruction: Instruction,
    reduction: int | None = None,
    tile: int | None = None,
) -> list[Pass]:
    """What to remove from `photo` at which size, in this order: one pass for each kind of damage.

    Parameters
    ----------
    reduction
        The whole number by which `photo` is to be reduced; None finds it.
    tile
        Most pixels a side that the model is shown, at least 128.
    """
    reductions = candidates(photo.size)
    if reduction is None and len(reductions) == 1:
        reduction = 1
    side = min(tile or _SPOT_PX, _SPOT_PX)
    look: Estimator | None = None
    passes = []
    for tokens, nature in settle_doubts(pipeline, photo, instruction):
        n = reduction or 1
        if not reduction and nature.share and not nature.refinement.nothing and not nature.fixed:
            look = look.told(tokens) if look else Estimator(pipeline, photo, tokens)
            n = find_reduction(look, reductions, side)
        passes.append(Pass(tokens, n, nature))
    return passes


def settle_doubts(pipeline: DefusionPipeline, photo: Photo, instruction: Instruction) -> Instruction:
    """The instruction with the share of each doubtful part that is to be taken away: the probability that it is there.

    By it the least-squares estimate for photographs with the damage becomes that for photographs of which this is not
    certain.
    """
    if pipeline.find_recogniser is None or not any(part.nature.doubt for part in instruction):
        return instruction
    recognised = dict(recognise(pipeline.find_recogniser(), photo).probabilities)
    parts = []
    for part in instruction:
        doubt = part.nature.doubt
        if doubt and doubt.kind in recognised:
            share = doubt.probability(recognised[doubt.kind])
            part = part._replace(nature=part.nature._replace(share=share if share >= _LEAST_SHARE else 0.0))
        parts.append(part)
    return tuple(parts)


def restore_parts(
    pipeline: DefusionPipeline,
    pixels: Pixels,
    instruction: Instruction,
    steps: int = 1,
    seed: int = 0,
    tile: int | None = None,
    reduction: int | None = None,
) -> Pixels:
    """The photograph without any of what the instruction shows, one part after another.

    Parameters and result are those of `restore_pixels` and `plan_passes`.
    """
    for tokens, n, nature in plan_passes(pipeline, ArrayPhoto(pixels), instruction, reduction, tile):
        pixels = restore_pixels(pipeline, pixels, tokens, steps, seed, tile, reduction=n, nature=nature)
    return pixels


def candidates(size: tuple[int, int]) -> list[int]:
    """The reductions 1, 2, 4, … of a photograph of this height and width that are worth a look."""
    return [n for n in _REDUCTIONS if n == 1 or size[0] * size[1] >= _LEAST_PX * n * n]


def find_reduction(look: Estimator, reductions: list[int], side: int = _SPOT_PX) -> int:
    """The one of `reductions`, in rising order, by which the photograph is best reduced; see `damage_strength`."""
    strengths = [damage_strength(look, n, side) for n in reductions]
    wanted = _AS_STRONG * max(strengths)
    return next(n for n, strength in zip(reductions, strengths, strict=True) if strength >= wanted)


def damage_strength(look: Estimator, reduction: int, side: int = _SPOT_PX) -> float:
    """Deviation, in units of full scale, of the damage that is seen within some squares of the reduced photograph.

    `side` is that of a square in the photograph, in pixels.
    """
    look = look.at(reduction)
    height, width = look.photo.size
    side = min(side // reduction, height, width)
    squares = []
    for row in range(_SPOTS):
        for column in range(_SPOTS):
            spot = Tile(row * (height - side) // (_SPOTS - 1), column * (width - side) // (_SPOTS - 1), side, side)
            seen = spot.grown(_AROUND_PX, height, width)
            top, left = spot.top - seen.top, spot.left - seen.left
            damage = look([seen])[0, top : top + side, left : left + side]
            squares.append(float(np.mean(np.var(damage, axis=(0, 1), dtype=np.float64))))
        look.photo.relax()
    return float(np.sqrt(np.mean(squares)))
