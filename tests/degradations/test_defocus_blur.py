"""Defocus: is the spread of a point the aperture, and does light add up?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from defusion_cli.plugins import Scene, check_degradation
from defusion_cli.plugins.kernels import srgb_to_linear
from degradations.defocus_blur import DEFOCUS_BLUR, DefocusBlurParams, aperture_psf

POLYGON = DefocusBlurParams(radius_px=12.0, aperture="polygon", blades=6)


def blurred(image: np.ndarray, params: DefocusBlurParams, scene: Scene | None = None) -> np.ndarray:
    return DEFOCUS_BLUR.apply(image, params, np.random.default_rng(0), scene)


def moments(psf: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre (x, y) and covariance of a PSF about its middle pixel."""
    half = psf.shape[0] // 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    points = np.stack([x.ravel(), y.ravel()])
    centre = points @ psf.ravel()
    return centre, (points * psf.ravel()) @ points.T - np.outer(centre, centre)


def lamp(size: int = 65, half: int = 1) -> np.ndarray:
    image = np.zeros((size, size, 3), np.float32)
    middle = slice(size // 2 - half, size // 2 + half + 1)
    image[middle, middle] = 1.0
    return image


def test_contract() -> None:
    check_degradation(DEFOCUS_BLUR)


@pytest.mark.parametrize("radius", [0.3, 1.0, 2.5, 7.0, 20.0])
def test_disk_has_its_radius(radius: float) -> None:
    psf = aperture_psf(DefocusBlurParams(radius_px=radius))
    centre, covariance = moments(psf)
    assert psf.sum() == pytest.approx(1.0, abs=1e-5)
    assert np.abs(centre).max() < 1e-4
    if radius >= 2:
        # A disk's variance along an axis is r²/4; the soft edge adds a little.
        assert np.allclose(np.diag(covariance), radius**2 / 4, rtol=0.06)
        assert (psf > psf.max() / 2).sum() == pytest.approx(np.pi * radius**2, rel=0.1)


@pytest.mark.parametrize("blades", [5, 6, 7, 8, 9])
def test_polygon_has_its_corners(blades: int) -> None:
    params = replace(POLYGON, blades=blades, rotation_deg=20.0)
    psf = aperture_psf(params)
    centre, _ = moments(psf)
    assert psf.sum() == pytest.approx(1.0, abs=1e-5)
    assert np.abs(centre).max() < 0.03
    area = blades / 2 * 12.0**2 * np.sin(2 * np.pi / blades)
    assert (psf > psf.max() / 2).sum() == pytest.approx(area, rel=0.05)
    whole_turn = aperture_psf(replace(params, rotation_deg=20.0 + 360 / blades))
    half_turn = aperture_psf(replace(params, rotation_deg=20.0 + 180 / blades))
    assert np.allclose(whole_turn, psf, atol=1e-6)
    assert np.abs(half_turn - psf).max() > 0.3 * psf.max()


def test_light_is_neither_lost_nor_made() -> None:
    for params in (DefocusBlurParams(radius_px=6.0), replace(POLYGON, radius_px=6.0)):
        assert srgb_to_linear(blurred(lamp(), params)).sum() == pytest.approx(27.0, rel=0.01)


def test_highlights_are_brighter_than_white() -> None:
    plain = srgb_to_linear(blurred(lamp(), DefocusBlurParams(radius_px=6.0)))
    bright = srgb_to_linear(blurred(lamp(), DefocusBlurParams(radius_px=6.0, highlights=3.0)))
    assert bright.sum() == pytest.approx(4 * plain.sum(), rel=0.01)
    grey = np.full((20, 20, 3), 0.6, np.float32)
    assert np.allclose(blurred(grey, DefocusBlurParams(highlights=3.0)), grey, atol=1e-3)


def test_light_adds_up_in_linear_space() -> None:
    edge = np.zeros((9, 40, 3), np.float32)
    edge[:, 20:] = 1.0
    middle = {s: blurred(edge, DefocusBlurParams(radius_px=5.0, space=s))[4, 19:21].mean() for s in ("linear", "srgb")}
    assert middle["srgb"] == pytest.approx(0.5, abs=0.01)
    assert middle["linear"] == pytest.approx(0.735, abs=0.01)


def test_depth_leaves_the_focus_sharp(photo: np.ndarray) -> None:
    depth = np.zeros(photo.shape[:2], np.float32)
    depth[:, 80:] = 1.0
    params = DefocusBlurParams(radius_px=5.0, layers=5, focus=0.1)
    out = blurred(photo, params, Scene(depth=depth))
    # Layer 0 is centred on depth 0.1, the focus; the middle of the last is 0.8 / 0.9 of the way to the far end.
    assert np.abs(out[:, :70] - photo[:, :70]).max() < 2e-3
    far = blurred(photo, replace(params, layers=1, radius_px=5.0 * 0.8 / 0.9))
    assert np.abs(out[:, 90:] - far[:, 90:]).max() < 2e-3
    assert np.array_equal(blurred(photo, params), blurred(photo, replace(params, layers=1)))


def test_depth_keeps_a_flat_wall_flat(rng: np.random.Generator) -> None:
    wall = np.full((40, 50, 3), 0.5, np.float32)
    depth = rng.random((40, 50), dtype=np.float32)
    out = blurred(wall, DefocusBlurParams(radius_px=6.0, layers=8), Scene(depth=depth))
    assert np.abs(out - wall).max() < 2e-3


def test_golden(golden: Any, photo: np.ndarray) -> None:
    golden.check("defocus_blur", blurred(photo, replace(POLYGON, radius_px=5.0, highlights=4.0)))
