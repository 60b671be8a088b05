"""Damage that has a name: the mixed sets of papers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from defusion_cli.degrade.plan import Damage
from defusion_cli.errors import UsageError

RECIPES: Mapping[str, Damage] = {
    # Supplement of Defusion, section 7: rain, snow and noise superimposed on WED in all six orders, size and speed of
    # streaks and flakes random, "the variance of the noise is 25". Read as the field does, sigma = 25 of 255: a
    # variance of 25 would be five grey levels, invisible beside rain. `--set noise.unit=variance` takes it literally.
    # Whether each picture appears in one order or in all is not said: in all, of one realisation.
    "mixed-wed": Damage(
        ids=("rain", "snow", "noise"),
        overrides={"noise": {"kind": "gaussian", "sigma": 25.0, "unit": "sigma"}},
        orders="all",
    ),
}


def named_damage(name: str, changes: Damage) -> Damage:
    """The damage of a recipe, with seed, severity, variants and parameters of `changes`.

    Raises
    ------
    UsageError
        If there is no such recipe, or `changes` names plugins or orders, which the recipe fixes.
    """
    if name not in RECIPES:
        raise UsageError("There is no such recipe.", found=name, accepted=f"{', '.join(RECIPES)}, or a manifest file")
    if changes.ids or changes.orders != "given":
        raise UsageError(f"The recipe {name} fixes the plugins and their orders.", accepted="no --plugin, no --orders")
    recipe = RECIPES[name]
    overrides = {
        i: {**recipe.overrides.get(i, {}), **changes.overrides.get(i, {})}
        for i in {*recipe.overrides, *changes.overrides}
    }
    return replace(recipe, overrides=overrides, severity=changes.severity, seed=changes.seed, variants=changes.variants)
