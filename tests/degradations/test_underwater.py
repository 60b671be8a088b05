"""Underwater: the equation, the waters, and what becomes of colours with distance and depth."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from defusion_cli.plugins import Scene, check_degradation
from defusion_cli.plugins.kernels import srgb_to_linear
from degradations.underwater import ATTENUATION, UNDERWATER, UnderwaterParams, ambient, water_colour

RAMP = Scene(np.linspace(0, 1, 128, dtype=np.float32)[None].repeat(96, axis=0))
PLAIN = UnderwaterParams(near=0.2, top_light=0.0, blur_px=0.0)


def _flat(value: float) -> np.ndarray:
    return np.full((96, 128, 3), value, np.float32)


def _apply(image: np.ndarray, params: UnderwaterParams, scene: Scene | None = RAMP) -> np.ndarray:
    return UNDERWATER.apply(image, params, np.random.default_rng(0), scene)


def test_contract() -> None:
    check_degradation(UNDERWATER)


@pytest.mark.parametrize("water", ["I", "III", "7C"])
def test_equation_at_given_distance(water: str) -> None:
    params = replace(PLAIN, water=water, far_m=3.0, depth_m=2.0, scatter=0.2, backscatter=1.3, exposure=0.0)
    k = np.array(ATTENUATION[water])
    beta = k + 0.2
    z = 3.0 * (0.2 + 0.8 * RAMP.depth[..., None])
    clean = float(srgb_to_linear(np.float32([0.6]))[0])
    veil = 0.7 * 0.2 / beta * (1 - np.exp(-1.3 * beta * z))
    expected = np.exp(-k * 2.0) * (clean * np.exp(-beta * z) + veil)
    np.testing.assert_allclose(srgb_to_linear(_apply(_flat(0.6), params)), expected, atol=2e-4)


def test_red_goes_first_and_blue_last_in_clear_water() -> None:
    far = srgb_to_linear(_apply(_flat(0.8), replace(PLAIN, water="I", far_m=10.0)))[0, -1]
    assert far[0] < far[1] < far[2]
    coastal = water_colour(replace(PLAIN, water="9C", scatter=0.5))
    assert coastal[1] > coastal[2], "coastal water is green"


def test_endless_water_has_its_colour_only() -> None:
    params = replace(PLAIN, far_m=50.0, near=1.0, scatter=0.5)
    for value in (0.1, 0.9):
        out = srgb_to_linear(_apply(_flat(value), params))
        np.testing.assert_allclose(out[40, 40], water_colour(params), atol=1e-3)


def test_camera_makes_good_the_light_that_depth_takes() -> None:
    deep = replace(PLAIN, depth_m=10.0)
    assert ambient(replace(deep, exposure=1.0)).mean() == pytest.approx(1.0)
    assert ambient(replace(deep, exposure=0.0)).mean() < 0.5
    np.testing.assert_allclose(ambient(replace(deep, depth_m=0.0)), 1.0)


def test_veil_is_brighter_above() -> None:
    lit = srgb_to_linear(_apply(_flat(0.0), replace(PLAIN, top_light=0.5)))[..., 2]
    even = srgb_to_linear(_apply(_flat(0.0), PLAIN))[..., 2]
    assert lit[0, 64] == pytest.approx(1.5 * even[0, 64], rel=0.02)
    assert lit[-1, 64] == pytest.approx(0.5 * even[-1, 64], rel=0.02)


def test_scattering_blurs_what_is_far() -> None:
    stripes = _flat(0.2)
    stripes[::4] = stripes[1::4] = 0.8
    sharp, blurred = (_apply(stripes, replace(PLAIN, near=0.0, blur_px=b)) for b in (0.0, 2.0))
    np.testing.assert_allclose(blurred[:, 0], sharp[:, 0], atol=1e-3)
    assert blurred[:, -1, 1].std() < 0.4 * sharp[:, -1, 1].std()


def test_without_depth_it_guesses_one() -> None:
    assert _apply(_flat(0.5), replace(PLAIN, near=0.0, far_m=8.0), None).std(axis=(0, 1)).max() > 0.02


def test_severity_reaches_the_stated_optical_depths() -> None:
    for severity, optical_depth in ((0.0, 0.35), (1.0, 1.9)):
        params = [UNDERWATER.sample(np.random.default_rng(i), severity) for i in range(200)]
        reached = [p.far_m * (np.mean(ATTENUATION[p.water]) + p.scatter) for p in params]
        assert np.median(reached) == pytest.approx(optical_depth, rel=0.1)
        assert {p.water for p in params} == set(ATTENUATION)


def test_golden(golden: Any, photo: np.ndarray, rng: np.random.Generator) -> None:
    golden.check("underwater", UNDERWATER.apply(photo, UnderwaterParams(water="III"), rng, None))
