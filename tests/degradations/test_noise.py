"""Noise: does it measure what its parameters say, and does it resemble a camera's?"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from defusion_cli.plugins import check_degradation
from defusion_cli.plugins.kernels import look_up
from degradations.noise import NOISE, NoiseParams, _tone_table

CAMERA = NoiseParams(kind="camera", shot=1e-3, read=0.0, grain_px=0.0, chroma_grain_px=0.0)
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def flat(value: float, size: int = 256) -> np.ndarray:
    return np.full((size, size, 3), value, np.float32)


def residual(image: np.ndarray, params: NoiseParams, seed: int = 0) -> np.ndarray:
    return NOISE.apply(image, params, np.random.default_rng(seed)) - image


def correlation(noise: np.ndarray, lag: int = 1) -> float:
    return float(np.corrcoef(noise[:, :-lag].ravel(), noise[:, lag:].ravel())[0, 1])


def test_contract() -> None:
    check_degradation(NOISE)


@pytest.mark.parametrize("sigma", [1.0, 10.0, 25.0])
def test_sigma_is_what_was_asked_for(sigma: float) -> None:
    noise = residual(flat(0.5), NoiseParams(sigma=sigma)) * 255
    assert noise.std() == pytest.approx(sigma, rel=0.01)
    assert abs(noise.mean()) < 0.01 * sigma


def test_gaussian_noise_is_white_and_normal() -> None:
    noise = residual(flat(0.5), NoiseParams(sigma=20.0))
    standard = noise / noise.std()
    assert (standard**4).mean() == pytest.approx(3.0, abs=0.05)
    for level, share in ((1.0, 0.3173), (2.0, 0.0455), (3.0, 0.0027)):
        assert (np.abs(standard) > level).mean() == pytest.approx(share, rel=0.12)
    assert abs(correlation(noise[..., 0])) < 0.015
    assert abs(correlation(noise[..., 0].T)) < 0.015
    assert np.abs(np.corrcoef(noise.reshape(-1, 3).T) - np.eye(3)).max() < 0.015


def test_variance_is_the_square_of_sigma() -> None:
    as_variance = NoiseParams(sigma=625.0, unit="variance")
    assert np.array_equal(residual(flat(0.5), as_variance), residual(flat(0.5), NoiseParams(sigma=25.0)))


def test_seeds_are_unrelated() -> None:
    first, second = (residual(flat(0.5), NoiseParams(), seed) for seed in (1, 2))
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.01


def light_variance(light: float, params: NoiseParams) -> float:
    """Variance of the green channel, in linear light, over a flat patch of that light."""
    grey = float(look_up(np.float32([light]), _tone_table(True))[0])
    out = NOISE.apply(flat(grey), params, np.random.default_rng(3))
    return float(look_up(out, _tone_table(False))[..., 1].var())


def test_photon_noise_grows_with_the_light() -> None:
    dark = light_variance(0.1, CAMERA)
    assert light_variance(0.2, CAMERA) == pytest.approx(2 * dark, rel=0.03)
    assert light_variance(0.4, CAMERA) == pytest.approx(4 * dark, rel=0.03)
    assert light_variance(0.2, replace(CAMERA, shot=2e-3)) == pytest.approx(4 * dark, rel=0.03)


def test_read_noise_does_not() -> None:
    read = replace(CAMERA, shot=0.0, read=1e-5)
    assert light_variance(0.4, read) == pytest.approx(light_variance(0.1, read), rel=0.03)
    assert light_variance(0.2, replace(read, read=4e-5)) == pytest.approx(4 * light_variance(0.2, read), rel=0.05)


def test_camera_noise_brings_no_demosaicing_blur() -> None:
    checks = np.indices((64, 64)).sum(axis=0) % 2
    image = np.repeat(np.where(checks, 0.8, 0.2).astype(np.float32)[..., None], 3, axis=2)
    assert np.abs(residual(image, replace(CAMERA, shot=0.0, read=0.0))).max() < 1e-3


def test_smoothing_of_brightness_and_of_colour_are_separate() -> None:
    plain = residual(flat(0.5), CAMERA)
    smooth = residual(flat(0.5), replace(CAMERA, chroma_grain_px=2.0))
    assert np.allclose(smooth @ LUMA, plain @ LUMA, atol=1e-5)
    colour, smooth_colour = (n[..., 0] - n @ LUMA for n in (plain, smooth))
    assert smooth_colour.std() < 0.6 * colour.std()
    assert correlation(smooth_colour, 2) > 0.7 > 0.4 > correlation(colour, 2)
    grainy = residual(flat(0.5), replace(CAMERA, grain_px=0.8))
    assert correlation(grainy @ LUMA) > correlation(plain @ LUMA) + 0.15
    assert np.allclose(grainy[..., 0] - grainy @ LUMA, colour, atol=1e-5)


def test_golden(golden: Any, photo: np.ndarray, rng: np.random.Generator) -> None:
    params = NoiseParams(kind="camera", shot=4e-3, read=5e-5, grain_px=0.4, chroma_grain_px=2.0)
    golden.check("noise", NOISE.apply(photo, params, rng))


@pytest.mark.skipif("DEFUSION_TEST_DATA" not in os.environ, reason="DEFUSION_TEST_DATA names no folder of photographs")
def test_range_contains_real_camera_noise() -> None:
    """PolyU (Xu et al. 2018): real noisy photographs beside the mean of hundreds of them."""
    folder = Path(os.environ["DEFUSION_TEST_DATA"]) / "val" / "polyu-20"
    pairs = list(zip(*(sorted((folder / side).iterdir()) for side in ("clean", "degraded")), strict=True))
    if not pairs:
        pytest.skip("no PolyU pairs there")
    strengths = (1e-4, 1.2e-2)
    for clean_path, noisy_path in pairs[::4]:
        clean, noisy = (cv2.imread(str(p))[..., ::-1].astype(np.float32) / 255 for p in (clean_path, noisy_path))
        real = (noisy - clean) @ LUMA
        real -= cv2.GaussianBlur(real, (0, 0), 20)
        params = [replace(CAMERA, shot=s, grain_px=0.4, chroma_grain_px=2.5) for s in strengths]
        mildest, worst = ((residual(clean, p) @ LUMA).std() for p in params)
        assert mildest < real.std() < worst, noisy_path.name
        assert 0.25 < correlation(real) < 0.85, noisy_path.name
    assert correlation(residual(clean, params[0]) @ LUMA) == pytest.approx(0.6, abs=0.15)
