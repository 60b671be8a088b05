"""Snow: do the flakes measure what their parameters say?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest

from defusion_cli.plugins import Scene, check_degradation
from degradations.snow import SNOW, SnowParams, flake_layer

STILL = SnowParams(
    small=0.0, medium=0.0, large=0.0, motion_px=0.0, jitter_deg=0.0, roughness=0.0, opacity=0.9, space="srgb"
)
GREY = np.full((64, 80, 3), 0.4, np.float32)


def layer(params: SnowParams, seed: int = 0, size: int = 500) -> np.ndarray:
    return flake_layer((size, size), params, np.random.default_rng(seed))


def components(opacity: np.ndarray) -> np.ndarray:
    """Statistics (x, y, width, height, area) of the flakes at half of the mean peak opacity."""
    return cv2.connectedComponentsWithStats((opacity > 0.2).astype(np.uint8))[2][1:]


def test_contract() -> None:
    check_degradation(SNOW)


@pytest.mark.parametrize(("size", "density"), [("small", 400.0), ("medium", 200.0), ("large", 30.0)])
def test_density_is_per_megapixel(size: str, density: float) -> None:
    params = replace(STILL, **{size: density}, radius_px=1.5)
    mean = np.mean([len(components(layer(params, seed))) for seed in range(8)])
    radius = 1.5 * {"small": 1.0, "medium": 2.6, "large": 6.5}[size]
    seen = (500 + 1.4 * radius) ** 2 * 1e-6  # flakes at the border are seen from outside too
    assert mean == pytest.approx(density * seen, rel=0.15)


def test_flakes_have_three_sizes() -> None:
    widths = [
        np.median(components(layer(replace(STILL, **{size: density}, radius_px=1.5), 1))[:, 2])
        for size, density in (("small", 400.0), ("medium", 200.0), ("large", 40.0))
    ]
    assert widths[0] == pytest.approx(3.0, abs=1.0)
    assert widths[1] == pytest.approx(2.6 * 3.0, rel=0.25)
    assert widths[2] == pytest.approx(6.5 * 3.0, rel=0.3)


@pytest.mark.parametrize("wind_deg", [-30.0, 0.0, 45.0])
def test_moving_flakes_are_smeared_along_the_wind(wind_deg: float) -> None:
    opacity = layer(replace(STILL, small=3000.0, motion_px=10.0, wind_deg=wind_deg))
    gx, gy = cv2.Sobel(opacity, -1, 1, 0), cv2.Sobel(opacity, -1, 0, 1)
    slant = -np.rad2deg(0.5 * np.arctan2(2 * (gx * gy).mean(), (gx * gx - gy * gy).mean()))
    assert slant == pytest.approx(wind_deg, abs=3.0)


def test_path_is_in_pixels() -> None:
    heights = [
        np.median(components(layer(replace(STILL, medium=100.0, motion_px=path, wind_deg=0.0), 2))[:, 3])
        for path in (0.0, 8.0)
    ]
    # The faint ends of a path count less than its length.
    assert 0.5 * 8.0 * 2.6 < heights[1] - heights[0] < 1.1 * 8.0 * 2.6


def test_roughness_breaks_the_round_outline() -> None:
    def roundness(roughness: float) -> float:
        mask = (layer(replace(STILL, large=20.0, radius_px=3.0, roughness=roughness), 4) > 0.2).astype(np.uint8)
        shapes = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
        whole = [s for s in shapes if cv2.contourArea(s) > 200]
        return float(np.median([4 * np.pi * cv2.contourArea(s) / cv2.arcLength(s, True) ** 2 for s in whole]))

    assert roundness(1.0) < roundness(0.0) - 0.05


def test_opacity_bounds_single_flakes_and_overlaps_screen() -> None:
    sparse = layer(replace(STILL, large=10.0, opacity=0.5))
    assert 0.25 < sparse.max() <= 0.5
    dense = layer(replace(STILL, large=800.0, medium=6000.0, opacity=0.5))
    assert 0.5 < dense.max() < 1.0


def test_flakes_cover_in_proportion_to_their_opacity() -> None:
    params = replace(STILL, small=5000.0, medium=800.0, large=50.0, light=0.9)
    opacity = flake_layer(GREY.shape[:2], params, np.random.default_rng(5))[..., None]
    out = SNOW.apply(GREY, params, np.random.default_rng(5))
    np.testing.assert_allclose(out, GREY * (1 - opacity) + 0.9 * opacity, atol=1e-5)
    assert out.max() > 0.7


def test_flakes_as_bright_as_the_picture_are_invisible() -> None:
    params = replace(STILL, small=5000.0, medium=800.0, light=0.8)
    white = np.full_like(GREY, 0.8)
    np.testing.assert_allclose(SNOW.apply(white, params, np.random.default_rng(0)), white, atol=1e-5)


def test_veil_follows_the_depth_it_is_given() -> None:
    depth = np.linspace(0.0, 1.0, GREY.shape[0], dtype=np.float32)[:, None].repeat(GREY.shape[1], 1)
    out = SNOW.apply(GREY, replace(STILL, veil=1.5, light=0.9), np.random.default_rng(0), Scene(depth))
    np.testing.assert_allclose(out[..., 1], 0.9 + (0.4 - 0.9) * np.exp(-1.5 * depth), atol=1e-5)


def test_sampled_veil_grows_with_the_small_flakes_that_it_continues() -> None:
    drawn = [SNOW.sample(np.random.default_rng(seed), severity) for seed in range(300) for severity in (0.3, 1.0)]
    veiled = [params for params in drawn if params.veil > 0]
    assert 0.3 < len(veiled) / len(drawn) < 0.5
    for params in veiled:
        area = np.pi * params.radius_px**2 + 2 * params.radius_px * params.motion_px
        stretch = params.small * 1e-6 * area * params.opacity * 0.675  # the optical depth that small flakes have
        assert 1.9 * stretch < params.veil < 8.5 * stretch


def test_golden(photo: np.ndarray, golden: Any) -> None:
    golden.check("snow", SNOW.apply(photo, SnowParams(veil=0.3), np.random.default_rng(0)))
