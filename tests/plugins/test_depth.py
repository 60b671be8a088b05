"""The guessed depth: its range, its variety, and its respect for the picture's edges."""

from __future__ import annotations

import numpy as np
import pytest

from defusion_cli.plugins import pseudo_depth

GREY = np.full((96, 128, 3), 0.5, np.float32)


def _depths(image: np.ndarray, count: int) -> np.ndarray:
    return np.stack([pseudo_depth(image, np.random.default_rng(seed)) for seed in range(count)])


@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (33, 65), (300, 200), (3, 900)])
def test_shape_range_and_dtype(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).random((*shape, 3), dtype=np.float32)
    depth = pseudo_depth(image, np.random.default_rng(1))
    assert depth.shape == shape and depth.dtype == np.float32
    assert np.isfinite(depth).all() and depth.min() >= 0 and depth.max() <= 1


def test_draws_depend_on_shape_only() -> None:
    first, second = np.random.default_rng(3), np.random.default_rng(3)
    noise = np.random.default_rng(0).random(GREY.shape, dtype=np.float32)
    black, noisy = pseudo_depth(np.zeros_like(GREY), first), pseudo_depth(noise, second)
    assert first.bit_generator.state == second.bit_generator.state
    assert not np.array_equal(black, noisy)


def test_same_seed_same_depth_and_input_untouched() -> None:
    image = GREY.copy()
    assert np.array_equal(*(pseudo_depth(image, np.random.default_rng(7)) for _ in range(2)))
    assert np.array_equal(image, GREY)


def test_whole_range_is_used() -> None:
    depth = _depths(GREY, 40)
    assert (np.ptp(depth, axis=(1, 2)) > 0.6).mean() > 0.9
    assert 0.3 < depth.mean() < 0.65


def test_layouts_differ_yet_ground_is_near() -> None:
    depth = _depths(GREY, 60)
    bottom, top = depth[:, -10:].mean(axis=(1, 2)), depth[:, :30].mean(axis=(1, 2))
    assert (bottom < top).mean() > 0.7
    # Not one ramp in many disguises: rooms with a far centre and walls at the sides turn up as well.
    centre = depth[:, 40:56, 50:78].mean(axis=(1, 2))
    assert 0.1 < (centre > top).mean() < 0.9
    sideways = np.abs(depth[:, :, :20].mean(axis=(1, 2)) - depth[:, :, -20:].mean(axis=(1, 2)))
    assert (sideways > 0.2).mean() > 0.2


def test_depth_breaks_where_the_picture_does() -> None:
    picture = np.full((256, 256, 3), 0.2, np.float32)
    picture[60:190, 90:170] = 0.8
    steps = np.abs(np.diff(_depths(picture, 30), axis=2)).mean(axis=0)
    at_edge, elsewhere = steps[80:170, 89], steps[80:170, 10:60]
    assert at_edge.mean() > 5 * elsewhere.mean()


def test_smooth_where_the_picture_is() -> None:
    depth = _depths(np.full((256, 256, 3), 0.5, np.float32), 10)
    assert np.abs(np.diff(depth, axis=1)).max() < 0.1
