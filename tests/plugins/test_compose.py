from __future__ import annotations

import json

import numpy as np
import pytest

from defusion_cli.errors import DataError, PluginError, UsageError
from defusion_cli.ground import draw_instruction
from defusion_cli.plugins import (
    Recipe,
    Scene,
    apply_recipe,
    draw_recipe,
    draw_seed,
    installed_plugins,
    instruction_residual,
    physical_order,
)

IDS = ["rain", "snow", "noise"]


def draw(seed=0, ids=IDS, **options):
    return draw_recipe(ids, installed_plugins(), np.random.default_rng(seed), **options)


def test_a_recipe_survives_json_and_makes_the_same_pixels(photo):
    recipe = draw(severity=0.6)
    back = Recipe.from_json(json.loads(json.dumps(recipe.to_json())), installed_plugins())
    assert back == recipe
    plugins = installed_plugins()
    np.testing.assert_array_equal(apply_recipe(photo, back, plugins), apply_recipe(photo, recipe, plugins))


def test_the_seed_decides(photo):
    assert draw(3) == draw(3)
    assert draw(3) != draw(4)


def test_a_further_stage_does_not_move_the_others():
    assert draw(ids=["rain", "snow"]).stages == draw().stages[:2]


def test_all_orders_apply_the_same_realisations(photo):
    recipe = draw(severity=0.6)
    orders = list(recipe.orders())
    assert len(orders) == 6
    assert orders[0] == recipe
    assert len({order.ids for order in orders}) == 6
    assert all(set(map(id, order.stages)) == set(map(id, recipe.stages)) for order in orders)
    plugins = installed_plugins()
    first, last = apply_recipe(photo, orders[0], plugins), apply_recipe(photo, orders[-1], plugins)
    assert not np.array_equal(first, last)


def test_keep_leaves_stages_out_and_the_rest_as_it_was(photo):
    plugins = installed_plugins()
    recipe = draw(ids=["rain", "noise"], severity=0.6)
    assert np.array_equal(apply_recipe(photo, recipe, plugins, keep=[]), photo)
    assert np.array_equal(apply_recipe(photo, recipe, plugins, keep=IDS), apply_recipe(photo, recipe, plugins))
    alone = Recipe(recipe.stages[1:], recipe.depth_seed)
    assert np.array_equal(apply_recipe(photo, recipe, plugins, keep=["noise"]), apply_recipe(photo, alone, plugins))


def test_overrides_are_used_and_checked():
    recipe = draw(overrides={"rain": {"wind_deg": 7}})
    assert recipe.stages[0].params["wind_deg"] == 7
    assert recipe.stages[1:] == draw().stages[1:]
    with pytest.raises(UsageError, match="no parameter"):
        draw(overrides={"rain": {"wnid_deg": 7}})


def test_physical_order_runs_from_the_scene_to_the_file():
    mixed = ["jpeg", "noise", "raindrop", "rain", "haze", "defocus-blur"]
    ordered = physical_order(mixed, installed_plugins())
    positions = [installed_plugins()[i].position for i in ordered]
    assert positions == sorted(positions)
    assert ordered[-1] == "jpeg"
    assert sorted(ordered) == sorted(mixed)


def test_a_depth_map_reaches_the_plugins_that_use_it(photo):
    plugins = installed_plugins()
    recipe = draw(ids=["haze"], severity=0.7)
    near = Scene(np.zeros(photo.shape[:2], np.float32))
    far = Scene(np.ones(photo.shape[:2], np.float32))
    damage = [np.abs(apply_recipe(photo, recipe, plugins, s) - photo).mean() for s in (near, far)]
    assert damage[1] > damage[0]


def test_instruction_is_the_residual(photo):
    plugins, recipe = installed_plugins(), draw(severity=0.5)
    np.testing.assert_array_equal(
        instruction_residual(photo, recipe, plugins), apply_recipe(photo, recipe, plugins) - photo
    )
    assert not instruction_residual(photo, Recipe(()), plugins).any()


def test_a_plugin_that_raises_is_named(photo, registry_with):
    plugins = registry_with("raising")
    rng = np.random.default_rng(0)
    with pytest.raises(PluginError, match="'raising' failed") as error:
        apply_recipe(photo * 0.1, draw_recipe(["raising"], plugins, rng), plugins)
    assert "too dark for me" in error.value.found
    with pytest.raises(PluginError, match="no picture of the same size"):
        apply_recipe(photo, draw_recipe(["shapeless"], plugins, rng), plugins)


@pytest.mark.parametrize(("plugin", "found"), [("hollow", "1 of 300 values not finite"), ("glaring", "… 1.5")])
def test_values_that_no_picture_has_are_refused(registry_with, plugin, found):
    plugins = registry_with("absurd")
    recipe = draw_recipe([plugin], plugins, np.random.default_rng(0))
    with pytest.raises(PluginError, match=f"{plugin!r} returned values that no picture has") as error:
        apply_recipe(np.linspace(0, 1, 300, dtype=np.float32).reshape(10, 10, 3), recipe, plugins)
    assert found in error.value.found
    assert error.value.accepted == "finite values in [0, 1]"
    with pytest.raises(PluginError):
        draw_instruction([plugin], plugins, np.random.default_rng(0), size=32)


@pytest.mark.parametrize("value", [-1e-6, -0.0, 1 + 1e-6])
def test_rounding_is_no_mistake(registry_with, value):
    plugins = registry_with("tint")
    recipe = draw_recipe(["tint"], plugins, np.random.default_rng(0), overrides={"tint": {"strength": 0}})
    image = np.full((3, 4, 3), value, np.float32)
    np.testing.assert_array_equal(apply_recipe(image, recipe, plugins), image)


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.01, 1.01])
def test_no_plugin_is_blamed_for_the_picture_it_is_given(registry_with, value):
    plugins = registry_with("tint")
    recipe = draw_recipe(["tint"], plugins, np.random.default_rng(0), overrides={"tint": {"strength": 0}})
    with pytest.raises(DataError, match="This picture cannot be damaged"):
        apply_recipe(np.full((3, 4, 3), value, np.float32), recipe, plugins)


def test_parameters_drawn_out_of_their_ranges_are_the_plugins_mistake(registry_with):
    plugins = registry_with("absurd")
    with pytest.raises(PluginError, match=r"'wild' drew parameters out of their ranges: wild\.strength") as error:
        draw_recipe(["wild"], plugins, np.random.default_rng(0), overrides={"wild": {"strength": 0.5}})
    assert error.value.found == "1.5" and "0 … 1" in error.value.accepted


def test_the_words_of_a_failing_plugin_are_plain_text_on_one_line(registry_with, photo):
    plugins = registry_with("absurd")
    with pytest.raises(PluginError) as error:
        apply_recipe(photo, draw_recipe(["blurting"], plugins, np.random.default_rng(0)), plugins)
    assert error.value.found == "ValueError: no [31mlines"


def test_seeds_have_63_bits(rng):
    seeds = [draw_seed(rng) for _ in range(1000)]
    assert 0 <= min(seeds) < 2**60
    assert 2**62 < max(seeds) < 2**63


def good_json():
    return json.loads(json.dumps(draw(ids=["noise"]).to_json()))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda r: [],
        lambda r: {**r, "extra": 1},
        lambda r: {"stages": r["stages"]},
        lambda r: {**r, "stages": "noise"},
        lambda r: {**r, "stages": [1]},
        lambda r: {**r, "depth_seed": -1},
        lambda r: {**r, "depth_seed": 2**63},
        lambda r: {**r, "depth_seed": True},
        lambda r: {**r, "depth_seed": 1.5},
        lambda r: {**r, "stages": [{**r["stages"][0], "seed": "1"}]},
        lambda r: {**r, "stages": [{**r["stages"][0], "params": []}]},
        lambda r: {**r, "stages": [{**r["stages"][0], "version": "0"}]},
        lambda r: {**r, "stages": [{**r["stages"][0], "more": 0}]},
    ],
)
def test_malformed_recipes_are_refused(spoil):
    with pytest.raises(DataError):
        Recipe.from_json(spoil(good_json()), installed_plugins())


def test_recipes_with_unknown_plugins_or_parameters_are_refused():
    recipe = good_json()
    recipe["stages"][0]["params"]["sigma"] = 1e9
    with pytest.raises(UsageError, match="out of range"):
        Recipe.from_json(recipe, installed_plugins())
    recipe["stages"][0]["plugin"] = "nosie"
    with pytest.raises(UsageError, match="no degradation named"):
        Recipe.from_json(recipe, installed_plugins())
