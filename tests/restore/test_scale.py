"""At which size damage is estimated: what may be asked for, and what is found."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from skimage import data

from defusion_cli.canvas import ArrayPhoto, Canvas
from defusion_cli.diffusion import DefusionPipeline
from defusion_cli.errors import UsageError
from defusion_cli.plugins import installed_plugins
from defusion_cli.restore.instruction import Instructor, Part
from defusion_cli.restore.pixels import restore_pixels
from defusion_cli.restore.plan import parse_scale
from defusion_cli.restore.restorer import Restorer
from defusion_cli.restore.scale import candidates, plan_passes
from defusion_cli.restore.tiling import Tile
from defusion_cli.training.validation import psnr


@pytest.mark.parametrize(
    ("text", "factor"), [("auto", None), ("1", 1), ("0.5", 2), ("0.33", 3), ("0.25", 4), ("0.031", 32), ("1e0", 1)]
)
def test_a_scale_is_one_over_a_whole_number(text: str, factor: int | None) -> None:
    assert parse_scale(text) == factor


@pytest.mark.parametrize("text", ["0.3", "0.4", "2", "0", "-1", "nan", "inf", "0.01", "half", ""])
def test_other_scales_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no scale") as caught:
        parse_scale(text)
    assert caught.value.fix == "--scale 0.25"


def test_ordinary_photographs_are_not_reduced() -> None:
    assert [candidates(size) for size in ((1, 1), (321, 481), (512, 768), (1080, 1920))] == [[1], [1], [1], [1, 2]]
    assert candidates((3000, 4000)) == [1, 2, 4, 8] and candidates((12000, 16000)) == [1, 2, 4, 8, 16, 32]


def test_a_tile_with_its_surroundings_lies_in_the_picture() -> None:
    assert Tile(40, 50, 20, 20).grown(60, 100, 200) == Tile(20, 30, 60, 60)
    assert Tile(0, 190, 20, 10).grown(60, 100, 200) == Tile(0, 140, 60, 60)
    assert Tile(0, 0, 20, 20).grown(60, 30, 40) == Tile(0, 0, 30, 40)
    assert Tile(3, 4, 80, 90).grown(60, 100, 200) == Tile(3, 4, 80, 90)


def test_what_came_last_goes_first_but_compression_before_blur_and_each_by_itself(pipeline: DefusionPipeline) -> None:
    instructor = Instructor(pipeline, installed_plugins())
    parts = instructor.by_parts(["rain", "jpeg", "motion-blur", "haze", "noise", "rain"])
    expected = [instructor.named([name]) for name in ("noise", "rain", "haze", "jpeg", "motion-blur")]
    assert all(torch.equal(part.tokens, tokens) for part, tokens in zip(parts, expected, strict=True))
    assert [part.nature.fixed for part in parts] == [False, False, False, True, False]
    assert [bool(part.nature.faintest) for part in parts] == [False, True, False, False, False]


def test_a_scale_that_is_asked_for_is_taken(pipeline: DefusionPipeline, tokens: torch.Tensor) -> None:
    canvas = Canvas(np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8))
    quarter, whole = canvas.samples.copy(), canvas.samples.copy()
    shown, shares = (Part(tokens),), []
    remark = Restorer(pipeline, shown, reduction=4, on_progress=shares.append)(Canvas(quarter))
    assert remark.facts == {"scales": [0.25]} and shares[-1] == 1
    assert Restorer(pipeline, shown)(Canvas(whole)).facts == {"scales": [1.0]}
    assert not np.array_equal(quarter, whole)


@pytest.mark.slow
def test_large_rain_is_seen_on_a_smaller_picture_and_grain_in_the_pixels() -> None:
    from defusion_cli.restore.model import load_pipeline

    plugins, pipeline = installed_plugins(), load_pipeline()
    instructor = Instructor(pipeline, plugins)
    small = data.astronaut()[40:440, 60:460].astype(np.float32) / 255
    large = np.clip(cv2.resize(small, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC), 0, 1)
    rain, params = plugins["rain"], plugins["rain"].sample(np.random.default_rng(3), 0.5)
    params = replace(params, veil=0.0)
    as_large = replace(
        params, density=params.density / 16, length_px=4 * params.length_px, width_px=4 * params.width_px
    )
    rainy = [rain.apply(picture, p, np.random.default_rng(0)) for picture, p in ((small, params), (large, as_large))]
    shown = instructor.by_parts(["rain"])
    (found,) = plan_passes(pipeline, ArrayPhoto(rainy[1]), shown)
    assert found.reduction in (2, 4)
    native, kept = (
        psnr(restore_pixels(pipeline, lq, found.tokens, reduction=n), hq) - psnr(lq, hq)
        for lq, hq, n in ((rainy[0], small, 1), (rainy[1], large, found.reduction))
    )
    assert native > 1 and kept > 0.8 * native
    grain = np.random.default_rng(0).normal(0, 25 / 255, rainy[1].shape)
    noisy = np.clip(rainy[1] + grain, 0, 1).astype(np.float32)
    first, second = plan_passes(pipeline, ArrayPhoto(noisy), instructor.by_parts(["rain", "noise"]))
    assert first.reduction == 1 and second.reduction in (2, 4)
