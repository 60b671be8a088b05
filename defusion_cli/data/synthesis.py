"""Training samples made on the fly: what is damaged, what is shown, and what must therefore go.

A *view* is a piece of a photograph up to some 320 pixels wide. It is damaged as a whole, so that depth, wind and
airlight are those of one scene; several crops are then cut from it. The instruction may show only part of the
damage, and the target keeps the rest: the very same streaks or noise, with the shown stages left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from defusion_cli.bounds import COUNT, NOT_NEGATIVE, SHARE, all_at_least, check_bounds, is_range, within
from defusion_cli.canvas import JPEG_BLOCK_PX
from defusion_cli.data.sources import Photo, PhotoSource, draw_photo
from defusion_cli.errors import DataError, UsageError
from defusion_cli.grain import read_grain
from defusion_cli.images import read_pixels
from defusion_cli.plugins import Image, Scene, apply_recipe, draw_recipe, needs_depth, physical_order, pseudo_depth
from defusion_cli.plugins.compose import Plugins
from defusion_cli.thumbnail import CELLS, THUMBNAIL_PX, look_at_cells


@dataclass(frozen=True)
class SynthesisConfig:
    """How samples are drawn.

    Attributes
    ----------
    view_px
        Longest side of a view.
    crops_per_view
        Crops cut from one view.
    downscale
        Range of the factor by which a photograph is first reduced; hides the artefacts of its own compression.
    mixture_share
        Share of views with two or three kinds of damage.
    subset_share
        Of those, share in which the instruction shows only some of them.
    familiar_mixtures
        Shares of views with the very mixtures that a model is to remove in one go, all of each shown, by the names of
        their degradations: ``{"rain+snow+noise": 0.4}``. The other shares are of the rest.
    absent_share
        Share of views whose instruction shows damage that is not there: nothing must be removed.
    blind_share
        Share of views with the null instruction, that of the clean ground (p = 0.1 in the paper): all must go.
    recolour
        How much the colours of three quarters of the photographs are changed first (`recoloured`).
    turned_share
        Share of views that are turned by 90 degrees to either side before they are damaged.
    emphasis
        How often a degradation is drawn, relative to those that are not named here (1).
    coarse_emphasis
        The same in the steps in which only the coarse branch learns; empty is no difference.
    """

    view_px: int = 320
    crops_per_view: int = 4
    downscale: tuple[float, float] = (0.5, 0.9)
    mixture_share: float = 0.25
    subset_share: float = 0.6
    familiar_mixtures: Mapping[str, float] = field(default_factory=dict)
    absent_share: float = 0.12
    blind_share: float = 0.1
    recolour: float = 0.0
    turned_share: float = 0.0
    emphasis: Mapping[str, float] = field(default_factory=dict)
    coarse_emphasis: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        kinds = {"emphasis": self.emphasis, "coarse_emphasis": self.coarse_emphasis}
        shares = ("mixture_share", "subset_share", "absent_share", "blind_share", "turned_share")
        bounds = [
            ("view_px", self.view_px >= 16, "16 or more"),
            ("crops_per_view", self.crops_per_view >= 1, COUNT),
            ("downscale", is_range(self.downscale), "two numbers, rising, above 0"),
            ("recolour", self.recolour >= 0, NOT_NEGATIVE),
            *((name, all_at_least(0, weights), "numbers, 0 or more") for name, weights in kinds.items()),
            *((name, within(0, getattr(self, name), 1), SHARE) for name in shares),
        ]
        check_bounds("synthesis", self, bounds)
        self._check_mixtures()

    def _check_mixtures(self) -> None:
        shares = self.familiar_mixtures.values()
        whole = all(len(set(mixture)) == len(mixture) > 1 for mixture in self.familiar)
        if not whole or not all(isinstance(share, (int, float)) and share >= 0 for share in shares) or sum(shares) > 1:
            raise UsageError(
                "These familiar mixtures cannot be drawn.",
                found=", ".join(f"{names}={share}" for names, share in self.familiar_mixtures.items()),
                accepted="two degradations or more each, shares of views that sum up to at most 1",
                fix="--set synthesis.familiar_mixtures.rain+snow=0.2",
            )

    @property
    def familiar(self) -> list[tuple[str, ...]]:
        """The degradations of each of the familiar mixtures."""
        return [tuple(names.split("+")) for names in self.familiar_mixtures]

    def plain(self) -> SynthesisConfig:
        """The same with one kind of damage a view, all of it shown: what a fresh network learns first."""
        return replace(self, mixture_share=0.0, familiar_mixtures={}, absent_share=0.0, blind_share=0.0)

    def coarse(self) -> SynthesisConfig:
        """The same for the coarse branch, which can do nothing about grain or blur."""
        return replace(self, emphasis=self.coarse_emphasis or self.emphasis)


class Task(NamedTuple):
    """The damage of a view in order of application, and the part of it that the instruction shows."""

    damage: tuple[str, ...]
    shown: tuple[str, ...]
    removed: tuple[str, ...]
    """What the network must take away: the shown part of the damage, or all of it when nothing is shown."""


def draw_task(ids: Sequence[str], config: SynthesisConfig, plugins: Plugins, rng: np.random.Generator) -> Task:
    """Draw a task over the given plugins."""
    if familiar := _draw_familiar(ids, config, rng):
        return Task(tuple(rng.permutation(familiar).tolist()), tuple(physical_order(familiar, plugins)), familiar)
    mixed = len(ids) > 1 and rng.random() < config.mixture_share
    weights = np.array([config.emphasis.get(i, 1.0) for i in ids])
    count = min(int(np.count_nonzero(weights)), int(rng.integers(2, 4))) if mixed else 1
    damage = [ids[k] for k in rng.choice(len(ids), count, replace=False, p=weights / weights.sum())]
    if rng.random() < 0.5:
        damage = physical_order(damage, plugins)
    kind = rng.random()
    if kind < config.blind_share:
        return Task(tuple(damage), (), tuple(damage))
    others = [i for i in ids if i not in damage]
    if others and kind < config.blind_share + config.absent_share:
        shown = [others[k] for k in rng.choice(len(others), min(len(others), int(rng.integers(1, 3))), replace=False)]
        return Task(tuple(damage), tuple(physical_order(shown, plugins)), ())
    shown = damage
    if count > 1 and rng.random() < config.subset_share:
        part = rng.choice(count, int(rng.integers(1, count)), replace=False)
        shown = [damage[k] for k in sorted(part)]
    return Task(tuple(damage), tuple(physical_order(shown, plugins)), tuple(shown))


def _draw_familiar(ids: Sequence[str], config: SynthesisConfig, rng: np.random.Generator) -> tuple[str, ...]:
    """One of the familiar mixtures of the given degradations, or nothing."""
    left = rng.random() if config.familiar_mixtures else 1.0
    for mixture, share in zip(config.familiar, config.familiar_mixtures.values(), strict=True):
        left -= share
        if left < 0:
            return mixture if set(mixture) <= set(ids) else ()
    return ()


class View(NamedTuple):
    """Crops of one damaged view.

    ``lq`` and ``target`` are K×3×c×c in [0, 1], ``boxes`` says where they lie in the view (K×4: left, top, right,
    bottom in fractions of its sides), ``cells`` is `look_at_cells` of the whole view (9×64×64, in [0, 1]), ``grain``
    (F) is what `defusion_cli.grain` says of it, ``coarse`` is what must go in the view, averaged over 64×64 cells
    (3×64×64), ``damage`` is the root mean square of what must go, ``shown`` are the ids on the instruction, ``slot``
    selects one of the instructions for them.
    """

    lq: Tensor
    target: Tensor
    boxes: Tensor
    cells: Tensor
    grain: Tensor
    coarse: Tensor
    damage: Tensor
    shown: tuple[str, ...]
    slot: int


class ViewMaker:
    """Draws views; a plain object that travels to data-loader workers."""

    def __init__(
        self, sources: Sequence[PhotoSource], ids: Sequence[str], plugins: Plugins, config: SynthesisConfig
    ) -> None:
        self.sources, self.ids, self.plugins, self.config = list(sources), list(ids), plugins, config

    def draw(self, rng: np.random.Generator, crop_px: int, config: SynthesisConfig | None = None) -> View:
        """One view with its crops, all of it determined by `rng`.

        Parameters
        ----------
        config
            Instead of `self.config`, for what damage is drawn.
        """
        config = config or self.config
        photo = draw_photo(self.sources, rng)
        if photo.damaged is None:
            lq, target, shown = self._synthesised(photo, rng, crop_px, config)
        else:
            lq, target, shown = self._paired(photo, rng, crop_px)
        if rng.random() < 0.5:
            lq, target = lq[:, ::-1], target[:, ::-1]
        crops = [_crop_origin(lq.shape, crop_px, rng, JPEG_BLOCK_PX) for _ in range(self.config.crops_per_view)]
        cut = [(lq[t : t + crop_px, x : x + crop_px], target[t : t + crop_px, x : x + crop_px]) for t, x in crops]
        height, width = lq.shape[:2]
        boxes = torch.tensor([(x / width, t / height, (x + crop_px) / width, (t + crop_px) / height) for t, x in crops])
        return View(
            _stack([a for a, _ in cut]),
            _stack([b for _, b in cut]),
            boxes,
            look_at_cells(_stack([_squeezed(lq, THUMBNAIL_PX)]))[0],
            read_grain(_stack([lq]))[0],
            _stack([_squeezed(lq - target, CELLS)])[0],
            torch.tensor(np.sqrt(np.square(lq - target).mean())),
            shown,
            int(rng.integers(2**31)),
        )

    def _synthesised(
        self, photo: Photo, rng: np.random.Generator, crop_px: int, config: SynthesisConfig
    ) -> tuple[Image, Image, tuple[str, ...]]:
        clean = self._clean_view(photo, rng, crop_px)
        task = draw_task(photo.ids or self.ids, config, self.plugins, rng)
        recipe = draw_recipe(task.damage, self.plugins, rng)
        # Input and target must share one depth map, so it is estimated here, once, from the clean view.
        scene = Scene(pseudo_depth(clean, rng) if needs_depth(recipe, self.plugins) else None)
        lq = apply_recipe(clean, recipe, self.plugins, scene)
        if not task.removed:
            return lq, lq, task.shown
        kept = [i for i in task.damage if i not in task.removed]
        target = apply_recipe(clean, recipe, self.plugins, scene, keep=kept) if kept else clean
        return lq, target, task.shown

    def _clean_view(self, photo: Photo, rng: np.random.Generator, crop_px: int) -> Image:
        """A reduced piece of the photograph."""
        pixels = read_pixels(photo.clean)
        height, width = pixels.shape[:2]
        low, high = self.config.downscale
        # Never below the size of a crop, and never enlarged unless the photo itself is too small.
        factor = max(float(rng.uniform(low, high)), crop_px / min(height, width))
        size = (max(crop_px, round(width * factor)), max(crop_px, round(height * factor)))
        if size != (width, height):
            pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)
        top, left = _crop_origin(pixels.shape, self.config.view_px, rng)
        height, width = (min(self.config.view_px, side) // JPEG_BLOCK_PX * JPEG_BLOCK_PX for side in pixels.shape[:2])
        view = np.clip(pixels[top : top + height, left : left + width], 0.0, 1.0)
        if self.config.recolour and rng.random() < 0.75:
            view = recoloured(view, self.config.recolour, rng)
        if rng.random() < self.config.turned_share:
            view = np.ascontiguousarray(np.rot90(view, rng.choice([1, 3])))
        return view

    def _paired(self, photo: Photo, rng: np.random.Generator, crop_px: int) -> tuple[Image, Image, tuple[str, ...]]:
        assert photo.damaged is not None
        clean, damaged = read_pixels(photo.clean), read_pixels(photo.damaged)
        if photo.centre_crop:
            clean = centre_crop(clean, damaged.shape)
        if clean.shape != damaged.shape:
            raise DataError(
                f"{photo.damaged} and {photo.clean} differ in size.",
                found=f"{damaged.shape[1]}×{damaged.shape[0]} and {clean.shape[1]}×{clean.shape[0]} pixels",
                accepted="pairs of equal size",
            )
        if min(clean.shape[:2]) < crop_px:
            raise DataError(
                f"{photo.damaged} is too small to train on.",
                found=f"{clean.shape[1]}×{clean.shape[0]} pixels",
                accepted=f"at least {crop_px} pixels on each side",
            )
        top, left = _crop_origin(clean.shape, self.config.view_px, rng)
        window = np.s_[top : top + self.config.view_px, left : left + self.config.view_px]
        shown = () if rng.random() < self.config.blind_share else tuple(physical_order(photo.ids, self.plugins))
        return damaged[window], clean[window], shown


def recoloured(view: Image, strength: float, rng: np.random.Generator) -> Image:
    """Another light, another white balance, another saturation, now and then with the channels exchanged.

    Haze, darkness and sea water are told from the colours of the whole picture, and a network that has seen each of
    some thousand photographs a hundred times tells them from the photograph.

    Parameters
    ----------
    view
        H×W×3 sRGB in [0, 1].
    strength
        1: gamma from 0.7 to 1.4, channels by 10 % (one deviation) brighter or darker, saturation from 0.5 to 1.5, a
        quarter of the pictures with exchanged channels.
    """
    gamma = np.exp(strength * rng.uniform(-0.35, 0.35))
    balance = np.exp(strength * rng.normal(0, 0.1, 3))
    saturation = 1 + strength * rng.uniform(-0.5, 0.5)
    order = rng.permutation(3) if rng.random() < 0.25 * strength else np.arange(3)
    view = np.power(view, np.float32(gamma))[..., order] * balance.astype(np.float32)
    grey = view.mean(axis=2, keepdims=True)
    return np.clip(grey + np.float32(saturation) * (view - grey), 0.0, 1.0)


def centre_crop(image: Image, shape: Sequence[int]) -> Image:
    """The centre of `image` of the given height and width, or as much of it as there is."""
    top, left = max(image.shape[0] - shape[0], 0) // 2, max(image.shape[1] - shape[1], 0) // 2
    return image[top : top + shape[0], left : left + shape[1]]


def _crop_origin(shape: tuple[int, ...], side: int, rng: np.random.Generator, grid: int = 1) -> tuple[int, int]:
    """Top-left corner of a random square on a grid; the origin along an axis that is shorter than the square."""
    top, left = (int(rng.integers(max(length - side, 0) // grid + 1)) * grid for length in shape[:2])
    return top, left


def _squeezed(view: Image, side: int) -> Image:
    return cv2.resize(np.ascontiguousarray(view), (side, side), interpolation=cv2.INTER_AREA)


def _stack(images: Sequence[Image]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2)))
