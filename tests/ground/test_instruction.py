"""The instruction is what the very recipe does to the ground."""

from __future__ import annotations

import numpy as np
import pytest

from defusion_cli.errors import UsageError
from defusion_cli.ground import decode_residual, draw_ground, draw_instruction, encode_residual
from defusion_cli.plugins import apply_recipe, installed_plugins


def test_residual_is_degraded_minus_ground() -> None:
    plugins = installed_plugins()
    ground, degraded, residual, recipe = draw_instruction(["jpeg", "noise"], plugins, np.random.default_rng(0))
    assert recipe.ids == ("jpeg", "noise")  # as given, not in physical order
    assert np.array_equal(residual, degraded - ground)
    assert np.array_equal(apply_recipe(ground, recipe, plugins), degraded)
    assert residual.dtype == np.float32
    assert 0.005 < residual.std() < 1
    assert np.array_equal(ground, draw_ground(np.random.default_rng(0)))


def test_same_state_same_instruction() -> None:
    plugins = installed_plugins()
    first, second = (draw_instruction(["noise"], plugins, np.random.default_rng(4)) for _ in range(2))
    assert np.array_equal(first[2], second[2])
    assert first[3] == second[3]


def test_nothing_to_show_is_zero() -> None:
    ground, degraded, residual, recipe = draw_instruction([], installed_plugins(), np.random.default_rng(0), size=64)
    assert not residual.any()
    assert np.array_equal(ground, degraded)
    assert recipe.stages == ()


def test_severity_that_is_not_given_is_drawn_and_visible() -> None:
    plugins = installed_plugins()
    sizes = []
    for seed in range(12):
        residual = draw_instruction(["noise"], plugins, np.random.default_rng(seed), size=64)[2]
        sizes.append(float(residual.std()))
    weak = [
        float(draw_instruction(["noise"], plugins, np.random.default_rng(s), "visual", 0.0, 64)[2].std())
        for s in range(12)
    ]
    assert min(sizes) > np.mean(weak)
    assert max(sizes) > 1.2 * min(sizes)


def test_overrides_and_severity_reach_the_recipe() -> None:
    plugins = installed_plugins()
    overrides = {"jpeg": {"quality": "7"}}
    recipe = draw_instruction(["jpeg"], plugins, np.random.default_rng(0), size=32, overrides=overrides)[3]
    assert recipe.stages[0].params["quality"] == 7
    with pytest.raises(UsageError, match="quality"):
        draw_instruction(["jpeg"], plugins, np.random.default_rng(0), size=32, overrides={"jpeg": {"quality": 700}})


def test_encoding_is_grey_where_nothing_changed() -> None:
    residual = np.linspace(-1, 1, 3 * 64, dtype=np.float32).reshape(8, 8, 3)
    picture = encode_residual(residual)
    assert picture.min() >= 0
    assert picture.max() <= 1
    assert encode_residual(np.zeros((1, 1, 3), np.float32)).tolist() == [[[0.5, 0.5, 0.5]]]
    assert np.allclose(decode_residual(picture), residual, atol=1e-6)
