"""Rain: do the streaks measure what their parameters say?"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from defusion_cli.ground.instruction import NAMED_SEVERITY, draw_instruction, named_residuals
from defusion_cli.plugins import Scene, check_degradation
from degradations.rain import RAIN, RainParams, streak_layer

PLAIN = RainParams(
    density=2000.0, length_px=30.0, width_px=2.0, wind_deg=0.0, jitter_deg=0.0, depth_range=1.0, gusts=0.0, space="srgb"
)
GREY = np.full((64, 80, 3), 0.4, np.float32)


def layer(params: RainParams, seed: int = 0, size: int = 400) -> np.ndarray:
    return streak_layer((size, size), params, np.random.default_rng(seed))


def tensor(image: np.ndarray) -> tuple[float, float]:
    """Slant from the vertical in degrees (to the right), and coherence in [0, 1], of the streaks."""
    gx, gy = cv2.Sobel(image, -1, 1, 0), cv2.Sobel(image, -1, 0, 1)
    cos, sin, total = (gx * gx - gy * gy).mean(), 2 * (gx * gy).mean(), (gx * gx + gy * gy).mean()
    return float(-np.rad2deg(0.5 * np.arctan2(sin, cos))), float(np.hypot(cos, sin) / total)


def boxes(image: np.ndarray) -> np.ndarray:
    """Width and height of every isolated streak that lies inside the picture."""
    found = cv2.connectedComponentsWithStats((image > 0.02).astype(np.uint8))[2][1:]
    h, w = image.shape
    inside = (found[:, 0] > 0) & (found[:, 1] > 0) & (found[:, :2] + found[:, 2:4] < (w, h)).all(axis=1)
    return found[inside, 2:4]


def test_contract() -> None:
    check_degradation(RAIN)


@pytest.mark.parametrize("wind_deg", [-40.0, -12.0, 0.0, 25.0])
def test_streaks_slant_with_the_wind(wind_deg: float) -> None:
    slant, coherence = tensor(layer(replace(PLAIN, wind_deg=wind_deg)))
    assert slant == pytest.approx(wind_deg, abs=2.0)
    assert coherence > 0.8


def test_jitter_and_directions_spread_the_slant() -> None:
    calm = tensor(layer(PLAIN))[1]
    assert tensor(layer(replace(PLAIN, jitter_deg=12.0)))[1] < calm - 0.05
    assert tensor(layer(replace(PLAIN, directions=5, spread_deg=40.0)))[1] < calm - 0.1


@pytest.mark.parametrize("length_px", [12.0, 40.0])
def test_length_and_width_are_in_pixels(length_px: float) -> None:
    sparse = replace(PLAIN, density=150.0, length_px=length_px, width_px=3.0)
    size = np.concatenate([boxes(layer(sparse, seed)) for seed in range(8)])
    assert np.median(size[:, 1]) == pytest.approx(length_px, rel=0.12)
    assert np.median(size[:, 0]) == pytest.approx(3.0, abs=1.1)


def test_density_is_per_megapixel() -> None:
    sparse = replace(PLAIN, density=300.0, length_px=3.0, width_px=1.0)
    counts = [cv2.connectedComponents((layer(sparse, s, 500) > 0.02).astype(np.uint8))[0] - 1 for s in range(10)]
    assert np.mean(counts) == pytest.approx(300.0 * 0.25, rel=0.12)


def test_mean_light_is_density_times_size_times_brightness() -> None:
    mean = np.mean([layer(replace(PLAIN, brightness=0.3), seed).mean() for seed in range(8)])
    # Streaks fade over the outer third of either half, which leaves 5/6 of their light.
    assert mean == pytest.approx(2000e-6 * 30.0 * 2.0 * 0.3 * 5 / 6, rel=0.08)


def test_near_streaks_are_longer_than_far_ones() -> None:
    sparse = replace(PLAIN, density=120.0, length_px=20.0)
    same, deep = (
        np.concatenate([boxes(layer(replace(sparse, depth_range=r), seed))[:, 1] for seed in range(10)])
        for r in (1.0, 6.0)
    )
    assert deep.max() > 1.4 * same.max()
    assert np.median(deep) == pytest.approx(np.median(same), rel=0.2)


@pytest.mark.parametrize("blend", ["additive", "screen", "occlusion"])
def test_blends(blend: str) -> None:
    params = replace(PLAIN, blend=blend, brightness=0.5, sky=0.6)
    streaks = streak_layer(GREY.shape[:2], params, np.random.default_rng(3))[..., None]
    expected = {
        "additive": np.minimum(GREY + streaks, 1.0),
        "screen": 1.0 - (1.0 - GREY) * (1.0 - np.minimum(streaks, 1.0)),
        "occlusion": 0.6 + (GREY - 0.6) * np.exp(-streaks),
    }[blend]
    out = RAIN.apply(GREY, params, np.random.default_rng(3))
    np.testing.assert_allclose(out, expected, atol=1e-5)
    assert out.max() > 0.45


def test_linear_light_shows_on_dark_rather_than_on_bright() -> None:
    params = replace(PLAIN, space="linear", brightness=0.1)
    dark, bright = (
        float((RAIN.apply(np.full_like(GREY, v), params, np.random.default_rng(0)) - np.float32(v)).mean())
        for v in (0.1, 0.8)
    )
    assert dark > 2 * bright > 0


def test_veil_follows_the_depth_it_is_given() -> None:
    depth = np.linspace(0.0, 1.0, GREY.shape[0], dtype=np.float32)[:, None].repeat(GREY.shape[1], 1)
    params = replace(PLAIN, density=0.0, veil=1.5, sky=0.9)
    out = RAIN.apply(GREY, params, np.random.default_rng(0), Scene(depth))
    np.testing.assert_allclose(out[..., 1], 0.9 + (0.4 - 0.9) * np.exp(-1.5 * depth), atol=1e-5)


def test_samples_reach_the_rain_of_rain100h() -> None:
    root = Path(os.environ.get("DEFUSION_TEST_DATA", "")) / "val" / "rain100h-15"
    if "DEFUSION_TEST_DATA" not in os.environ or not root.is_dir():
        pytest.skip("DEFUSION_TEST_DATA names no folder with val/rain100h-15")

    def added(rainy: np.ndarray, clean: np.ndarray) -> tuple[float, float]:
        light = (rainy - clean).mean(axis=2)
        return float(light.mean()), float((light > 0.1).mean())

    real, ours = [], []
    for k, path in enumerate(sorted((root / "clean").glob("*.png"))):
        pair = [cv2.imread(str(p))[..., ::-1].astype(np.float32) / 255 for p in (root / "degraded" / path.name, path)]
        real.append(added(pair[0], pair[1]))
        params = RAIN.sample(np.random.default_rng(k), 0.7 + 0.02 * k)
        ours.append(added(RAIN.apply(pair[1], params, np.random.default_rng(k)), pair[1]))
    low, high = np.min(ours, axis=0), np.max(ours, axis=0)
    assert (low < np.median(real, axis=0)).all() and (np.median(real, axis=0) < high).all()


def test_one_draw_in_four_is_of_a_fast_shutter() -> None:
    drawn = [RAIN.sample(np.random.default_rng(seed), 0.5) for seed in range(400)]
    brief = [params for params in drawn if params.length_px < 11.0 * params.width_px]
    slow = [params for params in drawn if params not in brief]
    assert 0.2 < len(brief) / len(drawn) < 0.3
    assert all(params.length_px >= 2.5 * params.width_px for params in brief)
    assert np.median([p.brightness for p in brief]) > 1.5 * np.median([p.brightness for p in slow])
    ink = [[p.density * p.length_px * p.width_px * p.brightness * 1e-6 for p in style] for style in (brief, slow)]
    assert np.median(ink[0]) == pytest.approx(np.median(ink[1]), rel=0.2)
    assert {p.soft_px > 0 for p in brief} == {True} and {p.soft_px for p in slow} == {0.0}


def test_its_name_shows_a_fast_shutter_and_a_slow_one() -> None:
    shown = [
        draw_instruction(["rain"], {"rain": RAIN}, np.random.default_rng(number), severity=NAMED_SEVERITY)[3].stages[0]
        for number in RAIN.named_draws
    ]
    brief, slow = (stage.params["length_px"] / stage.params["width_px"] for stage in shown)
    assert 2.5 < brief < 11.0 < slow
    assert (
        len(named_residuals(["rain"], {"rain": RAIN})) == 2 and len(named_residuals(["rain"], {"rain": RAIN}, 1)) == 1
    )


def test_soft_streaks_keep_their_light() -> None:
    dark = np.full((200, 200, 3), 0.1, np.float32)
    sharp, soft = (
        RAIN.apply(dark, replace(PLAIN, density=500.0, soft_px=soft_px), np.random.default_rng(0)) - dark
        for soft_px in (0.0, 1.5)
    )
    assert soft.max() < 0.8 * sharp.max()
    assert soft.mean() == pytest.approx(sharp.mean(), rel=0.03)


def test_golden(photo: np.ndarray, golden: Any) -> None:
    golden.check("rain", RAIN.apply(photo, RainParams(veil=0.3), np.random.default_rng(0)))
