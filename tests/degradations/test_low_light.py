"""Low light: how dark, how noisy, and what of the picture is left."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from defusion_cli.plugins import check_degradation
from defusion_cli.plugins.kernels import linear_to_srgb, srgb_to_linear
from degradations.low_light import LOW_LIGHT, LowLightParams, remaining_light

QUIET = LowLightParams(ev=2.0, highlights=0.0, shot=0.0, read=0.0, bits=0)
GRAINLESS = replace(QUIET, grain_px=0.0, chroma_grain_px=0.0)


def _flat(value: float, size: int = 192) -> np.ndarray:
    return np.full((size, size, 3), value, np.float32)


def _apply(image: np.ndarray, params: LowLightParams, seed: int = 0) -> np.ndarray:
    return LOW_LIGHT.apply(image, params, np.random.default_rng(seed))


def test_contract() -> None:
    check_degradation(LOW_LIGHT)


@pytest.mark.parametrize("ev", [1.0, 3.0])
def test_each_stop_halves_the_light(photo: np.ndarray, ev: float) -> None:
    dark = _apply(photo, replace(QUIET, ev=ev))
    np.testing.assert_allclose(srgb_to_linear(dark), srgb_to_linear(photo) * 2.0**-ev, atol=2e-4)


def test_curve_keeps_the_hue(photo: np.ndarray) -> None:
    dark = _apply(photo, replace(QUIET, kind="curve", gamma=2.5))
    brightest = photo.max(axis=2, keepdims=True)
    np.testing.assert_allclose(dark, photo * brightest**1.5, atol=2e-3)


def test_lamps_stay_bright() -> None:
    white, grey = _flat(1.0, 8), _flat(0.5, 8)
    plain, lamps = QUIET, replace(QUIET, highlights=3.0)
    assert _apply(white, lamps).mean() == pytest.approx(1.0, abs=1e-3)
    assert _apply(white, plain).mean() < 0.6
    assert np.array_equal(_apply(grey, lamps), _apply(grey, plain))


def test_warm_light_is_red_over_blue_by_so_many_stops() -> None:
    light = remaining_light(_flat(0.5, 4), replace(QUIET, warmth=0.4))
    red, green, blue = light[0, 0]
    assert np.log2(red / blue) == pytest.approx(0.4, abs=1e-3)
    assert np.sqrt(red * blue) == pytest.approx(green, rel=1e-3)


def _variance(params: LowLightParams, light: float) -> np.ndarray:
    """Variance of each channel in linear light over a patch that the darkened picture shows at `light`."""
    grey = float(linear_to_srgb(np.float32([light * 2.0**params.ev]))[0])
    return srgb_to_linear(_apply(_flat(grey), params)).reshape(-1, 3).var(axis=0)


def test_photon_noise_is_poisson_and_balanced() -> None:
    params = replace(GRAINLESS, shot=2e-4)
    dim, bright = _variance(params, 0.05), _variance(params, 0.2)
    np.testing.assert_allclose(dim, 2e-4 * 0.05 * np.array([2.1, 1.0, 1.7]), rtol=0.05)
    np.testing.assert_allclose(bright, 4 * dim, rtol=0.05)


def test_read_noise_does_not_depend_on_light() -> None:
    params = replace(GRAINLESS, read=1e-6)
    dim, bright = _variance(params, 0.05), _variance(params, 0.2)
    np.testing.assert_allclose(dim, 1e-6 * np.array([2.1, 1.0, 1.7]) ** 2, rtol=0.08)
    np.testing.assert_allclose(bright, dim, rtol=0.08)


def test_less_light_is_a_worse_signal() -> None:
    noisy = replace(GRAINLESS, shot=2e-4)

    def signal_to_noise(ev: float) -> float:
        light = srgb_to_linear(_apply(_flat(0.6), replace(noisy, ev=ev)))[..., 1]
        return float(light.mean() / light.std())

    # Four times less light, half the ratio.
    assert signal_to_noise(1.0) / signal_to_noise(3.0) == pytest.approx(2.0, rel=0.05)


def test_file_has_as_many_levels_as_its_bits() -> None:
    ramp = np.linspace(0, 1, 4096, dtype=np.float32)[None, :, None].repeat(3, axis=2)
    levels = np.unique(_apply(ramp, replace(QUIET, ev=4.0, bits=8)))
    np.testing.assert_allclose(levels * 255, np.rint(levels * 255), atol=1e-4)
    assert len(levels) < 80 < len(np.unique(_apply(ramp, replace(QUIET, ev=4.0))))


def test_severe_draws_are_dark_and_mild_ones_are_not() -> None:
    draws = {s: [LOW_LIGHT.sample(np.random.default_rng(i), s) for i in range(100)] for s in (0.0, 1.0)}
    assert all(0.3 < p.ev < 0.9 for p in draws[0.0]) and all(3.7 < p.ev < 4.3 for p in draws[1.0])
    assert np.median([p.shot for p in draws[1.0]]) > 20 * np.median([p.shot for p in draws[0.0]])
    assert {p.kind for p in draws[1.0]} == {"exposure", "curve"}


def test_golden(golden: Any, photo: np.ndarray, rng: np.random.Generator) -> None:
    golden.check("low_light", LOW_LIGHT.apply(photo, LowLightParams(ev=2.0, warmth=0.2), rng))
