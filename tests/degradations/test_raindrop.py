"""Raindrops: how many, how large, and what is seen in them."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from defusion_cli.plugins import check_degradation
from degradations.raindrop import RAINDROP, RaindropParams, _draw_drops

ROUND = RaindropParams(
    density=60, radius_px=15, spread=0.0, stretch=1.0, focus_px=0.0, sky=0.0, rim=0.0, highlight=0.0, shrink=6.0
)


def _apply(image: np.ndarray, params: RaindropParams, seed: int = 0) -> np.ndarray:
    return RAINDROP.apply(image, params, np.random.default_rng(seed))


def _wet(params: RaindropParams, seed: int, size: int = 400) -> np.ndarray:
    """Where the drops are: opaque black drops over white."""
    white = np.ones((size, size, 3), np.float32)
    return _apply(white, replace(params, rim=1.0, sky=0.0), seed)[..., 1] < 0.98


def test_contract() -> None:
    check_degradation(RAINDROP)


@pytest.mark.parametrize("density", [50.0, 400.0])
def test_count_matches_density(density: float) -> None:
    params = replace(ROUND, density=density)
    inside = []
    for seed in range(20):
        drops = _draw_drops((300, 300), params, np.random.default_rng(seed), 2)
        x, y = drops[:, 0], drops[:, 1]
        inside.append(int(((x >= 0) & (x < 300) & (y >= 0) & (y < 300)).sum()))
    assert np.mean(inside) == pytest.approx(density * 0.36, rel=0.1)


def test_radius_follows_its_distribution() -> None:
    params = RaindropParams(density=2000, radius_px=12, spread=0.4)
    radius = 2 * _draw_drops((300, 300), params, np.random.default_rng(0), 2)[:, 2]
    assert np.median(radius) == pytest.approx(12, rel=0.08)
    assert np.log(radius).std() == pytest.approx(0.4, rel=0.2)


@pytest.mark.parametrize("radius_px", [10.0, 25.0])
def test_radius_of_a_lone_drop(radius_px: float) -> None:
    params = replace(ROUND, radius_px=radius_px, density=16)
    areas = []
    for seed in range(20):
        image = np.random.default_rng(1).random((400, 400, 3), dtype=np.float32)
        changed = np.abs(_apply(image, params, seed) - image).max(axis=2) > 0.02
        _, _, stats, _ = cv2.connectedComponentsWithStats(changed.astype(np.uint8))
        for left, top, width, height, area in stats[1:]:
            alone = max(width, height) < 2.6 * radius_px
            if alone and left > 0 and top > 0 and left + width < 400 and top + height < 400 and area > 20:
                areas.append(area)
    assert len(areas) > 10
    # The antialiased outline counts as changed: up to one pixel more.
    assert radius_px - 0.3 < np.sqrt(np.median(areas) / np.pi) < radius_px + 1.0


def test_drops_that_touch_flow_together() -> None:
    sparse, crowded = replace(ROUND, density=30), replace(ROUND, density=700)
    pieces, areas = {}, {}
    for name, params in (("sparse", sparse), ("crowded", crowded)):
        wet = np.stack([_wet(params, seed) for seed in range(4)])
        areas[name] = wet.sum()
        pieces[name] = sum(cv2.connectedComponents(w.astype(np.uint8))[0] - 1 for w in wet)
    assert areas["crowded"] / pieces["crowded"] > 1.4 * areas["sparse"] / pieces["sparse"]


def test_scene_is_upside_down_inside() -> None:
    ramp = np.linspace(0.1, 0.9, 400, dtype=np.float32)[:, None, None].repeat(400, 1).repeat(3, 2)
    out = _apply(ramp, replace(ROUND, radius_px=30, density=40, shrink=3.0), 3)
    slope = np.gradient(cv2.GaussianBlur(out[..., 1], (0, 0), 2), axis=0)
    changed = np.abs(out - ramp)[..., 1] > 1e-3
    core = cv2.erode(changed.astype(np.uint8), np.ones((25, 25), np.uint8)) > 0
    assert core.sum() > 200
    assert np.median(slope[core]) < -1.5 * 0.8 / 400
    assert np.median(slope[~changed]) == pytest.approx(0.8 / 400, rel=0.05)


def test_defocus_softens_but_keeps_the_light() -> None:
    white = np.ones((400, 400, 3), np.float32)
    dark = replace(ROUND, rim=1.0, density=60, radius_px=20)
    sharp, soft = _apply(white, dark, 1), _apply(white, replace(dark, focus_px=10.0), 1)
    steepest = [np.abs(np.diff(image[..., 1], axis=1)).max() for image in (sharp, soft)]
    assert steepest[1] < 0.25 * steepest[0]
    light = [float(np.mean(image**2.2)) for image in (sharp, soft)]
    assert light[1] == pytest.approx(light[0], abs=0.01)


@pytest.mark.parametrize(("name", "brighter"), [("rim", False), ("highlight", True), ("sky", True)])
def test_light_inside_drops(name: str, brighter: bool) -> None:
    image = np.full((300, 300, 3), 0.3, np.float32)
    image[:100] = 0.8
    plain, lit = _apply(image, ROUND), _apply(image, replace(ROUND, **{name: 0.9}))
    assert (lit.mean() > plain.mean()) == brighter
    assert np.abs(lit - plain).max() > 0.1
    dry = np.abs(lit - plain).max(axis=2) < 1e-4
    assert 0.5 < dry.mean() < 0.99


def test_film_veils_the_glass_between_drops() -> None:
    image = np.zeros((200, 200, 3), np.float32)
    image[:, ::2] = 1.0
    out = _apply(image, RaindropParams(density=0.0, film=0.2))
    contrast = out[:, ::2].mean() ** 2.2 - out[:, 1::2].mean() ** 2.2
    assert 0.6 < contrast < 0.95


def test_severity_sets_the_wet_share() -> None:
    shares = []
    for severity in (0.0, 0.5, 1.0):
        wet = [
            _wet(replace(RAINDROP.sample(np.random.default_rng(i), severity), focus_px=0.0, film=0.0), i).mean()
            for i in range(12)
        ]
        shares.append(float(np.mean(wet)))
    assert shares[0] < 0.06
    assert 0.15 < shares[1] < 0.4
    assert 0.3 < shares[2] < 0.65


def test_realisation_is_the_same_on_every_picture() -> None:
    rng = np.random.default_rng(0)
    masks = []
    for _ in range(2):
        image = rng.random((160, 200, 3), dtype=np.float32)
        masks.append(np.abs(_apply(image, ROUND, 5) - image).max(axis=2) > 0.02)
    assert np.mean(masks[0] != masks[1]) < 0.02
