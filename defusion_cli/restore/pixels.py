"""One photograph through the model, in overlapping tiles that leave no seams, a row of tiles at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from defusion_cli.canvas import ArrayPhoto, Canvas, Photo, Pixels, Window, reduced, row_bands
from defusion_cli.colour import read_colour_space
from defusion_cli.diffusion.pipeline import DefusionPipeline, make_thumbnail
from defusion_cli.diffusion.refinement import UNCHANGED, Refinement
from defusion_cli.grain import grain_of
from defusion_cli.recognition import recognise
from defusion_cli.restore.deconvolution import DeconvolvedPhoto, UniformBlur, find_blur
from defusion_cli.restore.instruction import UNKNOWN, Nature
from defusion_cli.restore.memory import choose_batch, choose_tile
from defusion_cli.restore.reduction import ReducedPhoto, enlarge
from defusion_cli.restore.tiling import Tile, batches, blend_weights, cut_tiles, draw_noise

_GLANCE_PX = 2048
"""The thumbnail of a picture is made from a copy that is about this long."""


_AFTER_DECONVOLUTION = np.float32(0.2)
"""Part of what the network says of a deconvolved photograph that is followed: it knows blurred ones and sharpens it as
much again. (docs/decisions.md has what parts of it give.)"""


_LEAST_SHOWN = 0.1
"""What the recogniser says of blur when there may be some: less of all 71 sharp photographs of Kodak, McMaster and
LIVE1, more of all 72 of Kodak that were shaken or defocused at severities 0.3, 0.5 and 0.8. To blind deconvolution the
textures of 8 of 24 sharp ones, 320 px large, look shaken."""


class AsSrgb:
    """A canvas as the network is to see it: in sRGB, and without the colours of what is wholly transparent."""

    def __init__(self, canvas: Canvas) -> None:
        self._canvas, self.size = canvas, canvas.size
        self.space = read_colour_space(None if canvas.grey else canvas.tags.icc)

    def pixels(self, window: Window) -> Pixels:
        """H×W×3 sRGB in [0, 1]."""
        pixels = self._canvas.pixels(window)
        if self.space:
            pixels = np.clip(self.space.to_srgb(pixels), 0, 1)
        alpha = self._canvas.alpha(window)
        return pixels if alpha is None else fill_hidden(pixels, alpha)

    def relax(self) -> None:
        """Let go of the memory of what was read."""
        self._canvas.relax()


def restore_pixels(
    pipeline: DefusionPipeline,
    pixels: Pixels,
    tokens: Tensor,
    steps: int = 1,
    seed: int = 0,
    tile: int | None = None,
    on_progress: Callable[[float], None] | None = None,
    reduction: int = 1,
    nature: Nature = UNKNOWN,
) -> Pixels:
    """The photograph without the damage that the instruction shows.

    Parameters
    ----------
    pixels
        H×W×3 float32 in [0, 1], of any size from 1×1.
    tokens
        Instruction tokens, 1×K×D (`DefusionPipeline.encode_instruction`).
    steps
        Denoising steps, 1 … 1000.
    seed
        Decides y_T, together with the position of each pixel.
    tile
        Side of a tile in pixels, 128 or more; None chooses one for the free memory. Smaller pictures are done whole.
    on_progress
        Called with the finished share of the work, in (0, 1].
    reduction
        The whole number by which the picture is reduced for the network (`defusion_cli.restore.reduction`).
    nature
        What is known of the damage: of sparse damage what is faint is left alone, a blur that is the same all over is
        first looked for by itself (`defusion_cli.restore.deconvolution`), and of what may not be there a share is left.

    Returns
    -------
    ndarray
        H×W×3 float32 in [0, 1]. The same arguments give the same pixels on the same kind of machine.
    """
    if not nature.share:
        return pixels.copy()
    restored: Pixels = np.empty(pixels.shape, np.float32)
    look = Estimator(pipeline, ArrayPhoto(pixels), tokens, steps, seed, nature.refinement)
    _, bands = _damage(look, reduction, tile, on_progress, nature)
    for rows, damage in bands:
        restored[rows] = np.clip(pixels[rows] - damage, 0.0, 1.0)
    return restored


def restore_canvas(
    pipeline: DefusionPipeline,
    canvas: Canvas,
    tokens: Tensor,
    steps: int = 1,
    seed: int = 0,
    tile: int | None = None,
    on_progress: Callable[[float], None] | None = None,
    reduction: int = 1,
    nature: Nature = UNKNOWN,
) -> UniformBlur | None:
    """As `restore_pixels`, in place, row by row, for pictures of any size and colour space.

    What is wholly transparent keeps its colours. Returned is the blur that was undone, if one was to be looked for and
    was found.
    """
    if not nature.share:
        return None
    photo = AsSrgb(canvas)
    look = Estimator(pipeline, photo, tokens, steps, seed, nature.refinement)
    blur, bands = _damage(look, reduction, tile, on_progress, nature)
    for rows, damage in bands:
        for band in row_bands(rows.stop - rows.start, canvas.size[1]):
            window = slice(rows.start + band.start, rows.start + band.stop), slice(None)
            pixels, alpha = canvas.pixels(window), canvas.alpha(window)
            part = damage[band] if alpha is None else damage[band] * (alpha > 0)[..., None]
            canvas.put(window, photo.space.subtract(pixels, part) if photo.space else pixels - part)
        canvas.relax()
    return blur


def fill_hidden(pixels: Pixels, alpha: NDArray[Any]) -> Pixels:
    """The colours of wholly transparent pixels replaced by those of the nearest visible ones; 0.5 if there are none.

    They are arbitrary, black in most files, and would reach across the edge into what is seen.
    """
    hidden = alpha == 0
    if not hidden.any():
        return pixels
    if hidden.all():
        return np.full_like(pixels, 0.5)
    mask = np.ascontiguousarray(hidden, np.uint8)
    labels = cv2.distanceTransformWithLabels(mask, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)[1]
    visible = np.zeros((int(labels.max()) + 1, 3), np.float32)
    visible[labels[~hidden]] = pixels[~hidden]
    filled: Pixels = np.where(hidden[..., None], visible[labels], pixels)
    return filled


class Estimator:
    """The damage that a model sees in tiles of one photograph, as the photograph shows it.

    Parameters
    ----------
    pipeline, tokens
        The model and what it is told to remove.
    photo
        Where tiles are read from.
    steps, seed
        As for `restore_pixels`.
    refinement
        As for `DefusionPipeline.damage`.
    """

    def __init__(
        self,
        pipeline: DefusionPipeline,
        photo: Photo,
        tokens: Tensor,
        steps: int = 1,
        seed: int = 0,
        refinement: Refinement = UNCHANGED,
    ) -> None:
        self.pipeline, self.steps, self.seed, self.refinement = pipeline, steps, seed, refinement
        self.photo: Photo = photo
        self.device = pipeline.device  # asked once: diffusers looks through all modules for hooks, 1 ms each time
        self.tokens = tokens.to(self.device)
        self._grain = self._read_grain()
        self._thumbnail = make_thumbnail(_to_tensor([reduced(photo, _GLANCE_PX)], self.device))

    def at(self, reduction: int) -> Estimator:
        """The same for the photograph reduced by a whole number."""
        return self.of(ReducedPhoto(self.photo, reduction)) if reduction > 1 else copy(self)

    def of(self, photo: Photo) -> Estimator:
        """The same for the same photograph in another state; at a glance both look alike."""
        other = copy(self)
        other.photo = photo
        other._grain = other._read_grain()
        return other

    def _read_grain(self) -> Tensor | None:
        return grain_of(self.photo).to(self.device) if self.pipeline.sees_grain else None

    def told(self, tokens: Tensor) -> Estimator:
        """The same with another instruction."""
        other = copy(self)
        other.tokens = tokens.to(self.device)
        return other

    def __call__(self, tiles: list[Tile], on_step: Callable[[int], None] | None = None) -> Pixels:
        """N×h×w×3, in units of the [0, 1] picture, of N tiles of one size."""
        device = self.device
        # At t = T, where one step begins and ends, the network is shown nothing of y_T (`precondition`); drawing it
        # would take a fortieth of the time of the rest, and more on a faster machine.
        noise = (
            torch.zeros((len(tiles), 3, tiles[0].height, tiles[0].width), device=device)
            if self.steps == 1
            else _to_tensor([draw_noise(t, self.seed) for t in tiles], device)
        )
        with torch.inference_mode():
            estimate = self.pipeline.damage(
                _to_tensor([self.photo.pixels(t.window) for t in tiles], device),
                self.tokens,
                noise,
                self.steps,
                self._thumbnail,
                on_step,
                torch.tensor([t.box(*self.photo.size) for t in tiles], device=device),
                self._grain,
                self.refinement,
            )
        damage: Pixels = estimate.permute(0, 2, 3, 1).cpu().numpy()
        return damage


def _damage(
    look: Estimator, reduction: int, tile: int | None, on_progress: Callable[[float], None] | None, nature: Nature
) -> tuple[UniformBlur | None, Iterator[tuple[slice, Pixels]]]:
    """The blur that is undone, and finished rows from top to bottom, with their estimated damage h×W×3.

    What was handed out is not read again, so that it may be replaced.
    """
    seen = look.at(reduction)
    blur = None
    if nature.uniform_blur and shows(seen, nature.blurs):
        blur = find_blur(seen.photo, nature.uniform_blur, seen.device)
    if blur is None:
        bands = _damage_in_tiles(seen, tile, on_progress)
    else:
        bands = _damage_after_deconvolution(seen, blur, tile, on_progress)
    if reduction > 1:
        bands = enlarge(look.photo, reduction, bands)
    if nature.faintest:
        faintest = nature.faintest
        bands = ((rows, without_faint(damage, faintest)) for rows, damage in bands)
    if nature.share < 1:
        bands = ((rows, damage * np.float32(nature.share)) for rows, damage in bands)
    return blur, bands


def shows(look: Estimator, kinds: Sequence[str]) -> bool:
    """Whether the photograph may have such damage; True if the model cannot tell."""
    if not kinds or look.pipeline.find_recogniser is None:
        return True
    seen = recognise(look.pipeline.find_recogniser(), look.photo)
    return sum(share for kind, share in seen.probabilities if kind in kinds) >= _LEAST_SHOWN


def _damage_after_deconvolution(
    look: Estimator, blur: UniformBlur, tile: int | None, on_progress: Callable[[float], None] | None
) -> Iterator[tuple[slice, Pixels]]:
    """As `_damage_in_tiles`: what deconvolution takes away, and a part of what the network takes away after it."""
    sharper = DeconvolvedPhoto(look.photo, blur, look.device)
    for rows, damage in _damage_in_tiles(look.of(sharper), tile, on_progress):
        for band in row_bands(rows.stop - rows.start, look.photo.size[1]):
            window = slice(rows.start + band.start, rows.start + band.stop), slice(None)
            damage[band] *= _AFTER_DECONVOLUTION
            damage[band] += look.photo.pixels(window) - sharper.pixels(window)
        sharper.keep_above(rows.stop)
        yield rows, damage


def without_faint(damage: Pixels, faintest: tuple[float, float]) -> Pixels:
    """Damage of sparse kinds, h×W×3, without what is too faint to tell from none.

    Where there may be a faint streak or none, the least-squares estimate is a little of it, everywhere. From the first
    to the second of `Degradation.faintest` it is let in by and by. (docs/decisions.md has what this gives.)
    """
    none, clear = (np.float32(level / 255) for level in faintest)
    strength = np.abs(damage).max(axis=2, keepdims=True)
    kept: Pixels = damage * np.clip((strength - none) / (clear - none), 0, 1)
    return kept


def _damage_in_tiles(
    look: Estimator, tile: int | None, on_progress: Callable[[float], None] | None
) -> Iterator[tuple[slice, Pixels]]:
    device, backbone = look.device, type(look.pipeline.unet).__name__
    height, width = look.photo.size
    side = tile or choose_tile(backbone, device, height * width)
    tiles = cut_tiles(height, width, side)
    rows = sorted({t.top for t in tiles})
    above, finished = np.zeros((0, width, 3), np.float32), 0
    most = choose_batch(backbone, device, side)
    for top in rows:
        row = [t for t in tiles if t.top == top]
        # A sum of its own for each row of tiles: at most two tiles meet in a pixel, and their order does not matter.
        total = np.zeros((row[0].height, width, 3), np.float32)
        for group in batches(row, most):
            share = _share(on_progress, finished, len(group), look.steps, len(tiles))
            finished += len(group)
            for t, part in zip(group, look(group, share), strict=True):
                total[:, t.window[1]] += part * blend_weights(t, height, width)
        total[: len(above)] += above
        last = top == rows[-1]
        stop = height if last else top + row[0].height - row[0].overlap
        above = total[stop - top :]
        yield slice(top, stop), total[: stop - top]


def _share(
    on_progress: Callable[[float], None] | None, finished: int, group: int, steps: int, tiles: int
) -> Callable[[int], None] | None:
    """What `Estimator` shall call after each step on a group of tiles, with `finished` before it."""
    if on_progress is None:
        return None
    return lambda step: on_progress((finished + group * step / steps) / tiles)


def _to_tensor(pictures: list[Pixels], device: torch.device) -> Tensor:
    """H×W×3 arrays of one size as N×3×H×W, channels last in memory, as they already are."""
    stacked = pictures[0][None] if len(pictures) == 1 else np.stack(pictures)
    return torch.from_numpy(np.ascontiguousarray(stacked)).permute(0, 3, 1, 2).to(device)
