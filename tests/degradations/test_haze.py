"""Haze: the equation, its parameters, and what is measured on the sets that others made."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from defusion_cli.plugins import Scene, check_degradation
from degradations.haze import HAZE, HazeParams, transmission

RAMP = Scene(np.linspace(0, 1, 96, dtype=np.float32)[:, None].repeat(128, axis=1))


def _grey(value: float) -> np.ndarray:
    return np.full((96, 128, 3), value, np.float32)


def _apply(image: np.ndarray, params: HazeParams, scene: Scene | None = RAMP) -> np.ndarray:
    return HAZE.apply(image, params, np.random.default_rng(0), scene)


def _light(srgb: np.ndarray | float) -> np.ndarray | float:
    return ((srgb + 0.055) / 1.055) ** 2.4


def _psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((a - b) ** 2)))


def test_contract() -> None:
    check_degradation(HAZE)


@pytest.mark.parametrize(("beta", "far_m"), [(1.2, 1.0), (0.1, 12.0)])
def test_equation_at_given_depth(beta: float, far_m: float) -> None:
    params = HazeParams(beta=beta, far_m=far_m, near=0.25, airlight=0.9)
    out = _apply(_grey(0.3), params)
    distance_m = far_m * (0.25 + 0.75 * RAMP.depth[..., None])
    t = np.exp(-beta * distance_m)
    np.testing.assert_allclose(out, np.broadcast_to(0.3 * t + 0.9 * (1 - t), out.shape), atol=1e-5)


def test_linear_space_is_the_same_equation_in_light() -> None:
    out = _apply(_grey(0.2), HazeParams(beta=1.0, near=0.0, airlight=0.8, space="linear"))
    t = np.exp(-RAMP.depth)
    expected = _light(0.2) * t + _light(0.8) * (1 - t)
    np.testing.assert_allclose(_light(out[..., 1]), expected, atol=1e-3)


def test_dense_haze_is_airlight_with_its_cast() -> None:
    out = _apply(_grey(0.1), HazeParams(beta=4.0, far_m=50.0, near=1.0, airlight=0.8, cast=0.05))
    np.testing.assert_allclose(out[0, 0], [0.85, 0.8, 0.75], atol=1e-3)


def test_patches_thin_and_thicken_around_beta() -> None:
    depth = np.ones((256, 256), np.float32)
    even, patchy = HazeParams(beta=1.0, near=0.0), HazeParams(beta=1.0, near=0.0, patchiness=0.3, patch_px=64)
    assert np.ptp(transmission(depth, even, np.random.default_rng(0))) < 1e-6
    optical = np.stack([-np.log(transmission(depth, patchy, np.random.default_rng(i))) for i in range(8)])
    assert abs(optical.mean() - 1.0) < 0.08
    assert 0.15 < optical.std() < 0.4


def test_severity_reaches_the_stated_transmissions() -> None:
    draws = {s: [HAZE.sample(np.random.default_rng(i), s) for i in range(100)] for s in (0.0, 1.0)}
    thinnest, densest = (np.array([np.exp(-p.beta * p.far_m) for p in draws[s]]) for s in (0.0, 1.0))
    assert thinnest.min() > 0.75 and thinnest.max() < 0.87
    assert densest.min() > 0.02 and densest.max() < 0.12
    params = draws[1.0]
    assert {p.space for p in params} == {"srgb", "linear"}
    assert np.mean([p.space == "srgb" for p in params]) > 0.75
    assert all(0.7 <= p.airlight <= 1.0 for p in params)
    assert any(0.6 <= p.beta <= 1.8 for p in params) and any(0.04 <= p.beta <= 0.2 for p in params)


def test_clouds_stay_when_depth_becomes_known() -> None:
    params = HazeParams(beta=1.0, near=1.0, patchiness=0.5, patch_px=40)
    # near = 1 takes the depth out of the equation, so only the clouds remain.
    guessed, known = _apply(_grey(0.2), params, None), _apply(_grey(0.2), params, RAMP)
    np.testing.assert_allclose(guessed, known, atol=1e-5)


def test_without_depth_it_guesses_one() -> None:
    params = HazeParams(beta=1.5, near=0.0)
    out = _apply(_grey(0.2), params, Scene())
    assert out.std() > 0.05
    assert np.array_equal(out, _apply(_grey(0.2), params, None))


def test_neutral_is_exact() -> None:
    image = np.random.default_rng(0).random((40, 50, 3), dtype=np.float32)
    assert np.abs(_apply(image, replace(HAZE.neutral(), patchiness=1.0), None) - image).max() < 1e-6


def _sots_pairs() -> list[tuple[np.ndarray, np.ndarray]]:
    folder = Path(os.environ.get("DEFUSION_TEST_DATA", "/nonexistent")) / "val" / "sots-indoor-8"
    pairs = []
    for clean in sorted((folder / "clean").glob("*.png")):
        paths = (clean, folder / "degraded" / clean.name)
        small = [cv2.resize(cv2.imread(str(path)), (310, 230), interpolation=cv2.INTER_AREA) for path in paths]
        pairs.append((np.float32(small[0]) / 255, np.float32(small[1]) / 255))
    return pairs


@pytest.mark.skipif("DEFUSION_TEST_DATA" not in os.environ, reason="needs real photographs")
def test_covers_the_losses_of_sots_indoor() -> None:
    pairs = _sots_pairs()
    assert pairs
    for clean, hazy in pairs:
        ours = [
            _psnr(clean, HAZE.apply(clean, HAZE.sample(np.random.default_rng(i)), np.random.default_rng(i)))
            for i in range(40)
        ]
        assert min(ours) < _psnr(clean, hazy) < np.percentile(ours, 90)
