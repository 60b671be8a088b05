"""JPEG: is it libjpeg's quantisation, with true colours and grids where they should be?"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from defusion_cli.plugins import check_degradation
from degradations.jpeg import JPEG, JpegParams

FIRST_ROW = np.array([16, 11, 10, 16, 24, 40, 51, 61])  # of the luminance table, ITU-T T.81, annex K


def save(image: np.ndarray, **params: Any) -> np.ndarray:
    return JPEG.apply(image, JpegParams(**params), np.random.default_rng(0))


def grey_texture(size: int = 64) -> np.ndarray:
    grey = np.random.default_rng(0).random((size, size), dtype=np.float32)
    return np.repeat((0.2 + 0.6 * cv2.GaussianBlur(grey, (0, 0), 0.7))[..., None], 3, axis=2)


def test_contract() -> None:
    check_degradation(JPEG)


@pytest.mark.parametrize(("quality", "scale"), [(5, 1000), (10, 500), (25, 200), (40, 125)])
def test_coefficients_are_multiples_of_the_scaled_table(quality: int, scale: int) -> None:
    steps = np.clip((scale * FIRST_ROW + 50) // 100, 1, 255)
    out = save(grey_texture(), quality=quality, subsampling="4:4:4")[..., 0] * 255 - 128
    blocks = out.reshape(8, 8, 8, 8).swapaxes(1, 2).reshape(-1, 8, 8)
    rows = np.stack([cv2.dct(block)[0] for block in blocks])
    off = np.abs(rows - steps * np.round(rows / steps))
    assert (np.abs(rows[:, 1:]) > 8).any()
    assert off.max() < 4  # the decoder rounds to 8 bits, which moves a coefficient by about 0.3
    assert off.mean() < 0.5


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_colours_do_not_shift(subsampling: str) -> None:
    for colour in ((0.8, 0.2, 0.1), (0.1, 0.7, 0.3), (0.2, 0.3, 0.9), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)):
        image = np.full((24, 40, 3), colour, np.float32)
        assert np.abs(save(image, quality=95, subsampling=subsampling) - image).max() < 3 / 255


def test_mean_colour_of_a_photograph_stays(photo: np.ndarray) -> None:
    out = save(photo, quality=30)
    assert np.abs(out.mean(axis=(0, 1)) - photo.mean(axis=(0, 1))).max() < 0.01


@pytest.mark.parametrize(
    ("subsampling", "columns", "rows"), [("4:4:4", True, True), ("4:2:2", False, True), ("4:2:0", False, False)]
)
def test_subsampling_takes_colour_detail(subsampling: str, columns: bool, rows: bool) -> None:
    stripe = np.arange(32)[None, :, None] % 2
    image = np.where(stripe, np.float32([0.7, 0.3, 0.3]), np.float32([0.3, 0.504, 0.3])) * np.ones((32, 1, 1))
    for picture, kept in ((image, columns), (image.swapaxes(0, 1), rows)):
        out = save(np.ascontiguousarray(picture, np.float32), quality=95, subsampling=subsampling)
        contrast = float((out[..., 0] - out[..., 1]).std())
        assert contrast > 0.25 if kept else contrast < 0.1


def test_quality_100_is_the_picture_itself(photo: np.ndarray) -> None:
    assert np.array_equal(save(photo, quality=100), photo)


def test_saving_again_on_the_same_grid_changes_little(photo: np.ndarray) -> None:
    once = save(photo, quality=30, subsampling="4:4:4")
    aligned = save(photo, quality=30, first_quality=30, subsampling="4:4:4")
    shifted = save(photo, quality=30, first_quality=30, shift_x=4, shift_y=4, subsampling="4:4:4")
    assert np.sqrt(np.mean((aligned - once) ** 2)) < 0.004
    assert np.sqrt(np.mean((shifted - once) ** 2)) > 0.01


@pytest.mark.parametrize("shift", [0, 3, 6])
def test_the_first_grid_lies_where_the_shift_says(shift: int, photo: np.ndarray) -> None:
    first_quality = {"quality": 95, "first_quality": 8}
    for out in (
        save(photo, **first_quality, shift_x=shift),
        save(photo, **first_quality, shift_y=shift).swapaxes(0, 1),
    ):
        steps = np.abs(np.diff(out, axis=1)).mean(axis=(0, 2))  # between columns x and x + 1
        by_phase = [steps[phase::8].mean() for phase in range(8)]
        assert (int(np.argmax(by_phase)) + 1 + shift) % 8 == 0


def test_severity_runs_from_95_to_5() -> None:
    for seed in range(20):
        mild, worst = (JPEG.sample(np.random.default_rng(seed), severity) for severity in (0.0, 1.0))
        assert min(mild.quality, mild.first_quality) == 95
        assert min(worst.quality, worst.first_quality) == 5


def test_golden(golden: Any, photo: np.ndarray) -> None:
    # Decoders may differ by a level or two in how they interpolate chroma.
    golden.check("jpeg", save(photo, quality=15), tolerance=6 / 255)
