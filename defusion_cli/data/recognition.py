"""Labelled views for the recogniser: photographs, damaged or not, and what was done to them.

What a photograph has anyway is not to be taken for damage: its exposure and tones, a little grain, a slightly soft
lens, sharpening, the rounding to eight bits and a save as JPEG of good quality come to clean and damaged views alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from defusion_cli.canvas import JPEG_BLOCK_PX
from defusion_cli.data.sources import PhotoSource, draw_photo
from defusion_cli.images import read_pixels
from defusion_cli.plugins import Image, Recipe, apply_recipe, draw_recipe, draw_seed, physical_order
from defusion_cli.plugins.compose import Plugins

_MOST_IN_A_MIXTURE = 3


@dataclass(frozen=True)
class RecognitionConfig:
    """How labelled views are drawn.

    Attributes
    ----------
    view_px
        Longest side of a view.
    crop_px
        Side of the crops cut from it.
    crops
        Crops of a view.
    views_per_photo
        Views made of one photograph once it is read, each with damage of its own.
    downscale
        Range of the factor by which a photograph is first reduced; hides the artefacts of its own compression.
    clean_share, mixture_share
        Shares of views without damage, and with two or three kinds of it.
    severity
        Range of the severity of each kind; what is fainter than its lower end is no reason to call anything present.
    faintest
        Its lower end for single kinds, by id: those that photographs have a little of without being damaged.
    tone_share, gamma, black, white
        Share of views that are darker, brighter or flatter from the start than the photograph they are cut from, the
        range of the exponent of its values, and the most that black is raised and white is lowered, of 1.
    tint
        The most that red and blue are amplified against green in these, or weakened, of 1.
    soft_share, soft_px
        Share of views that are a little unsharp from the start, and the most they are (sigma of a Gaussian, pixels).
    sharpened_share, sharpened
        Share of views that are then sharpened as cameras do, and the most of the detail below 1 px that is added.
    grain_share, grain
        Share of views with a little noise from the start, smooth or not, and the most it is (standard deviation, of
        255).
    grey_share
        Share of views without colour, in the end.
    saved_share, saved_quality
        Share of views that are saved as JPEG in the end, as nearly all photographs are, and the least quality that is
        not yet damage (IJG scale).
    shifted_share
        Share of views whose crops do not begin where the blocks of JPEG do, as in pictures that were trimmed later.
    """

    view_px: int = 448
    crop_px: int = 128
    crops: int = 4
    views_per_photo: int = 4
    downscale: tuple[float, float] = (0.45, 0.95)
    clean_share: float = 0.2
    mixture_share: float = 0.4
    severity: tuple[float, float] = (0.12, 1.0)
    faintest: dict[str, float] = field(
        default_factory=lambda: {"low-light": 0.3, "haze": 0.2, "defocus-blur": 0.2, "motion-blur": 0.2}
    )
    tone_share: float = 0.4
    gamma: tuple[float, float] = (0.7, 2.0)
    black: float = 0.05
    white: float = 0.2
    tint: float = 0.1
    soft_share: float = 0.4
    soft_px: float = 0.9
    sharpened_share: float = 0.2
    sharpened: float = 0.6
    grain_share: float = 0.4
    grain: float = 2.0
    grey_share: float = 0.06
    saved_share: float = 0.5
    saved_quality: int = 85
    shifted_share: float = 0.15


class LabelledView(NamedTuple):
    """Crops K×c×c×3 and the whole view 64×64×3, in [0, 1], and which of the ids are present (P, 0 or 1)."""

    crops: NDArray[np.float32]
    whole: Image
    present: NDArray[np.float32]


class LabelledViews:
    """Draws labelled views; a plain object that could travel to data-loader workers."""

    def __init__(
        self, sources: Sequence[PhotoSource], ids: Sequence[str], plugins: Plugins, config: RecognitionConfig
    ) -> None:
        self.sources, self.ids, self.plugins, self.config = list(sources), list(ids), plugins, config

    def draw(self, rng: np.random.Generator, thumbnail_px: int) -> list[LabelledView]:
        """``views_per_photo`` views of one photograph, determined by `rng`."""
        photo = self._reduced(read_pixels(draw_photo(self.sources, rng).clean), rng)
        return [self._view(photo, rng, thumbnail_px) for _ in range(self.config.views_per_photo)]

    def _reduced(self, pixels: Image, rng: np.random.Generator) -> Image:
        height, width = pixels.shape[:2]
        factor = max(float(rng.uniform(*self.config.downscale)), self.config.crop_px / min(height, width))
        size = (max(self.config.crop_px, round(width * factor)), max(self.config.crop_px, round(height * factor)))
        return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)

    def _view(self, photo: Image, rng: np.random.Generator, thumbnail_px: int) -> LabelledView:
        config = self.config
        top, left = (int(rng.integers(max(side - config.view_px, 0) + 1)) for side in photo.shape[:2])
        view = np.clip(photo[top : top + config.view_px, left : left + config.view_px], 0, 1)
        if rng.random() < 0.5:
            view = np.ascontiguousarray(view[:, ::-1])
        damage = self._draw_damage(rng)
        view = self._as_taken(view, rng)
        view = apply_recipe(view, self._draw_recipe(damage, rng), self.plugins)
        if rng.random() < self.config.grey_share:
            view = cv2.cvtColor(cv2.cvtColor(view, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        view = self._as_saved(np.rint(view * np.float32(255)).astype(np.uint8), rng)
        crops = np.stack([self._crop(view, rng) for _ in range(config.crops)])
        whole = cv2.resize(view, (thumbnail_px, thumbnail_px), interpolation=cv2.INTER_AREA)
        return LabelledView(crops, whole, np.array([i in damage for i in self.ids], np.float32))

    def _draw_damage(self, rng: np.random.Generator) -> list[str]:
        kind, most = rng.random(), min(len(self.ids), _MOST_IN_A_MIXTURE)
        if kind < self.config.clean_share:
            return []
        mixed = most > 1 and kind < self.config.clean_share + self.config.mixture_share
        count = int(rng.integers(2, most + 1)) if mixed else 1
        damage = [self.ids[k] for k in rng.choice(len(self.ids), count, replace=False)]
        return physical_order(damage, self.plugins)

    def _draw_recipe(self, damage: Sequence[str], rng: np.random.Generator) -> Recipe:
        """Each kind of damage with a severity of its own."""
        faintest, least, most = self.config.faintest, *self.config.severity
        drawn = [draw_recipe([i], self.plugins, rng, rng.uniform(faintest.get(i, least), most)) for i in damage]
        return Recipe(tuple(stage for recipe in drawn for stage in recipe.stages), draw_seed(rng))

    def _as_taken(self, view: Image, rng: np.random.Generator) -> Image:
        """`view` as a decent camera may have taken it."""
        config = self.config
        if rng.random() < config.tone_share:
            view = self._in_other_tones(view, rng)
        if rng.random() < config.soft_share:
            view = cv2.GaussianBlur(view, (0, 0), rng.uniform(0.1, config.soft_px))
        if rng.random() < config.sharpened_share:
            view = view + np.float32(rng.uniform(0, config.sharpened)) * (view - cv2.GaussianBlur(view, (0, 0), 1.0))
        if rng.random() < config.grain_share:
            grain = rng.standard_normal(view.shape, np.float32)
            if rng.random() < 0.5:
                grain = cv2.GaussianBlur(grain, (0, 0), rng.uniform(0.3, 1.2))
                grain /= grain.std()
            view = view + np.float32(rng.uniform(0, config.grain) / 255) * grain
        return np.clip(view, 0, 1)

    def _in_other_tones(self, view: Image, rng: np.random.Generator) -> Image:
        """`view` in another light, or developed otherwise."""
        config = self.config
        tint = 1 + np.float32(rng.uniform(-config.tint, config.tint)) * np.array([1, 0, -1], np.float32)
        least, most = np.log(config.gamma)
        black, white = rng.uniform(0, config.black), 1 - rng.uniform(0, config.white)
        tones = cv2.pow(np.clip(view * tint, 0, 1), np.exp(rng.uniform(least, most)))
        return np.asarray(black + (white - black) * tones, np.float32)

    def _as_saved(self, view: NDArray[np.uint8], rng: np.random.Generator) -> Image:
        """8 bits to [0, 1], through a file of good quality or not."""
        if rng.random() < self.config.saved_share:
            subsampling = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420)
            options = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(self.config.saved_quality, 101))]
            options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, subsampling[int(rng.integers(2))]]
            # Channels as they are would be compressed as if red were blue, which JPEG treats otherwise.
            file = cv2.imencode(".jpg", np.ascontiguousarray(view[..., ::-1]), options)[1]
            view = np.asarray(cv2.imdecode(file, cv2.IMREAD_COLOR))[..., ::-1]
        return view.astype(np.float32) / np.float32(255)

    def _crop(self, view: Image, rng: np.random.Generator) -> Image:
        side = self.config.crop_px
        step = 1 if rng.random() < self.config.shifted_share else JPEG_BLOCK_PX
        top, left = (int(rng.integers((length - side) // step + 1)) * step for length in view.shape[:2])
        return view[top : top + side, left : left + side]
