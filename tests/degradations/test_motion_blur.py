"""Motion blur: is the path as long, as steep and as centred as its parameters say?"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from defusion_cli.plugins import check_degradation
from defusion_cli.plugins.kernels import line_psf, srgb_to_linear
from degradations.motion_blur import MOTION_BLUR, MotionBlurParams, trajectory_psf


def shaken(image: np.ndarray, params: MotionBlurParams, seed: int = 0) -> np.ndarray:
    return MOTION_BLUR.apply(image, params, np.random.default_rng(seed))


def path(seed: int = 0, **params: float) -> np.ndarray:
    return trajectory_psf(MotionBlurParams(**params), np.random.default_rng(seed))  # type: ignore[arg-type]


def moments(psf: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre (x, y up) and covariance of a PSF about its middle pixel."""
    half = psf.shape[0] // 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    points = np.stack([x.ravel(), -y.ravel()])
    centre = points @ psf.ravel()
    return centre, (points * psf.ravel()) @ points.T - np.outer(centre, centre)


def direction_deg(covariance: np.ndarray) -> float:
    return float(np.rad2deg(0.5 * np.arctan2(2 * covariance[0, 1], covariance[0, 0] - covariance[1, 1])) % 180)


def test_contract() -> None:
    check_degradation(MOTION_BLUR)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("length", [1.0, 12.0, 60.0])
def test_path_has_unit_sum_its_extent_and_its_centre_of_mass_at_the_origin(seed: int, length: float) -> None:
    psf = path(seed, length_px=length, shake=seed / 5, angle_deg=30.0 * seed)
    assert psf.shape[0] == psf.shape[1] and psf.shape[0] % 2 == 1
    assert psf.min() >= 0
    assert psf.sum() == pytest.approx(1.0, abs=1e-5)
    assert np.abs(moments(psf)[0]).max() < 0.01
    rows, columns = (np.flatnonzero(psf.sum(axis=axis)) for axis in (1, 0))
    assert max(np.ptp(rows), np.ptp(columns)) == pytest.approx(length, abs=2.0)


@pytest.mark.parametrize("angle", [0.0, 35.0, 90.0, 150.0])
def test_a_calm_hand_draws_a_straight_line(angle: float) -> None:
    _, covariance = moments(path(1, length_px=40.0, shake=0.0, angle_deg=angle))
    across, along = np.linalg.eigvalsh(covariance)
    assert across < 0.3 < 50 < along
    assert direction_deg(covariance) == pytest.approx(angle, abs=1.0)


def test_shake_bends_the_path() -> None:
    def roundness(shake: float) -> float:
        values = [np.linalg.eigvalsh(moments(path(s, length_px=40.0, shake=shake))[1]) for s in range(20)]
        return float(np.mean([np.sqrt(across / along) for across, along in values]))

    assert roundness(0.0) < 0.1 < roundness(0.1) < roundness(0.8)


@pytest.mark.parametrize(("length", "angle"), [(5.0, 0.0), (21.0, 30.0), (40.0, 90.0), (33.3, 120.0)])
def test_line_has_its_length_and_angle(length: float, angle: float) -> None:
    psf = line_psf(length, angle)
    centre, covariance = moments(psf)
    assert psf.sum() == pytest.approx(1.0, abs=1e-5)
    assert np.abs(centre).max() < 1e-3
    assert np.sqrt(12 * np.linalg.eigvalsh(covariance)[1]) == pytest.approx(length, abs=1.0)
    assert direction_deg(covariance) == pytest.approx(angle, abs=1.0)


@pytest.mark.parametrize("kind", ["shake", "linear"])
def test_the_picture_does_not_move(kind: str) -> None:
    image = np.zeros((81, 81, 3), np.float32)
    image[40, 40] = 1.0
    params = MotionBlurParams(kind=kind, length_px=20.0, angle_deg=25.0, shake=0.6, softness_px=0.8, space="srgb")
    centre, _ = moments(shaken(image, params, 3)[..., 0])
    assert np.abs(centre).max() < 0.02


def test_light_adds_up_and_lamps_leave_trails() -> None:
    image = np.zeros((61, 61, 3), np.float32)
    image[29:32, 29:32] = 1.0
    line = MotionBlurParams(kind="linear", length_px=20.0, space="linear")
    plain, bright = (srgb_to_linear(shaken(image, replace(line, highlights=h))) for h in (0.0, 3.0))
    assert plain.sum() == pytest.approx(27.0, rel=0.01)
    assert bright.sum() == pytest.approx(4 * plain.sum(), rel=0.01)
    in_srgb = shaken(image, replace(line, space="srgb"))
    assert in_srgb.sum() == pytest.approx(27.0, rel=0.01)


def test_softness_widens_the_line() -> None:
    image = np.zeros((61, 61, 3), np.float32)
    image[30, 30] = 1.0
    line = MotionBlurParams(kind="linear", length_px=20.0, space="srgb")
    sharp, soft = (moments(shaken(image, replace(line, softness_px=s))[..., 0])[1][1, 1] for s in (0.0, 1.5))
    assert soft - sharp == pytest.approx(1.5**2, rel=0.1)


def test_golden(golden: Any, photo: np.ndarray) -> None:
    golden.check("motion_blur", shaken(photo, MotionBlurParams(length_px=14.0, shake=0.2, softness_px=0.5), 5))


@pytest.mark.skipif("DEFUSION_TEST_DATA" not in os.environ, reason="DEFUSION_TEST_DATA names no folder of photographs")
def test_range_contains_real_camera_shake() -> None:
    """Levin et al. 2009: photographs blurred by a real shaking camera."""
    folder = Path(os.environ["DEFUSION_TEST_DATA"]) / "val" / "levin-8"
    pairs = list(zip(*(sorted((folder / side).iterdir()) for side in ("clean", "degraded")), strict=True))
    if not pairs:
        pytest.skip("no pairs there")

    def error(first: np.ndarray, second: np.ndarray) -> float:
        return float(np.sqrt(np.mean((first - second)[20:-20, 20:-20] ** 2)))

    for clean_path, real_path in pairs[::2]:
        clean, real = (cv2.imread(str(p))[..., ::-1].astype(np.float32) / 255 for p in (clean_path, real_path))
        clean = np.ascontiguousarray(clean)
        mild, hard = (
            np.mean([error(shaken(clean, MOTION_BLUR.sample(np.random.default_rng(s), v), s), clean) for s in range(4)])
            for v in (0.05, 0.9)
        )
        assert mild < error(real, clean) < hard, real_path.name
