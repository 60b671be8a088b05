"""Recipes: which damage, with which parameters and seeds, in which order; enough to regenerate a picture.

The realisation of a stage (streaks, flakes, drops, noise) belongs to its seed alone, so the same recipe can be
applied in any order, or with some stages left out, and what remains is the very same damage.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from defusion_cli.errors import DataError, PluginError, UsageError, one_line
from defusion_cli.plugins.contract import Degradation, Image, Scene
from defusion_cli.plugins.depth import pseudo_depth
from defusion_cli.plugins.params import build_params, params_to_json, replace_params
from defusion_cli.plugins.patience import patience

Plugins = Mapping[str, Degradation[Any]]

_MAX_SEED = 2**63

_ROUNDING = 0.001
"""How far out of [0, 1] a picture may be: no more than float32 accounts for, far less than a step of 8 bits."""
_LARGEST_BITS = np.float32(1 + _ROUNDING).view(np.uint32)
_ACCEPTED_RANGE = "finite values in [0, 1]"
_WHOSE = "defusion degrade --list shows which package it comes from"


@dataclass(frozen=True)
class Stage:
    """One plugin at work: its id and version, its parameters as plain values, and the seed of its realisation."""

    plugin: str
    version: str
    params: Mapping[str, object]
    seed: int


@dataclass(frozen=True)
class Recipe:
    """Stages in the order in which they are applied, and the seed of the depth estimate they share."""

    stages: tuple[Stage, ...]
    depth_seed: int = 0

    @property
    def ids(self) -> tuple[str, ...]:
        """Plugin ids in order of application."""
        return tuple(stage.plugin for stage in self.stages)

    def orders(self) -> Iterator[Recipe]:
        """The same realisations in all n! orders, the given one first."""
        for stages in itertools.permutations(self.stages):
            yield replace(self, stages=stages)

    def to_json(self) -> dict[str, object]:
        """Plain JSON values; `from_json` reads them back."""
        stages = [
            {"plugin": s.plugin, "version": s.version, "params": dict(s.params), "seed": s.seed} for s in self.stages
        ]
        return {"stages": stages, "depth_seed": self.depth_seed}

    @classmethod
    def from_json(cls, value: object, plugins: Plugins) -> Recipe:
        """Read and validate what `to_json` wrote.

        Raises
        ------
        DataError
            If the value is not a recipe, or was made by another version of a plugin.
        UsageError
            If a parameter is unknown or out of range.
        """
        if not isinstance(value, Mapping) or set(value) != {"stages", "depth_seed"}:
            raise DataError("This is not a recipe.", accepted='an object with "stages" and "depth_seed"')
        if not isinstance(value["stages"], Sequence) or isinstance(value["stages"], str):
            raise DataError('"stages" of a recipe must be a list.')
        stages = tuple(_stage_from_json(stage, plugins) for stage in value["stages"])
        return cls(stages, _seed_from_json(value["depth_seed"]))


def _seed_from_json(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _MAX_SEED:
        raise DataError("A seed is not usable.", found=repr(value)[:80], accepted="a whole number from 0 to 2^63 − 1")
    return value


def _stage_from_json(value: object, plugins: Plugins) -> Stage:
    if not isinstance(value, Mapping) or set(value) != {"plugin", "version", "params", "seed"}:
        raise DataError("A stage of a recipe is malformed.", accepted='"plugin", "version", "params" and "seed"')
    plugin = plugins[str(value["plugin"])]
    if value["version"] != plugin.version:
        raise DataError(
            f"The recipe was made by another version of {plugin.id!r}.",
            found=f"version {value['version']}",
            accepted=f"version {plugin.version}, the one installed",
        )
    if not isinstance(value["params"], Mapping):
        raise DataError('"params" of a stage must be an object.')
    params = build_params(plugin.Params, value["params"], plugin.id)
    return Stage(plugin.id, plugin.version, params_to_json(params), _seed_from_json(value["seed"]))


def draw_seed(rng: np.random.Generator) -> int:
    """A fresh 63-bit seed."""
    return int(rng.integers(_MAX_SEED))


def physical_order(ids: Sequence[str], plugins: Plugins) -> list[str]:
    """`ids` sorted as light meets them: scene, air, lens, sensor, file. Ties keep their order."""
    return sorted(ids, key=lambda i: plugins[i].position)


def draw_recipe(
    ids: Sequence[str],
    plugins: Plugins,
    rng: np.random.Generator,
    severity: float | None = None,
    overrides: Mapping[str, Mapping[str, object]] | None = None,
) -> Recipe:
    """Draw parameters and seeds for the given plugins, in the given order.

    Parameters
    ----------
    severity
        In [0, 1], for every stage; None lets each stage draw its own.
    overrides
        Parameters to force, by plugin id.
    """
    stages = []
    for plugin_id in ids:
        plugin = plugins[plugin_id]
        # Each stage has a generator of its own: adding a stage must not change the others.
        stage_rng = np.random.default_rng(draw_seed(rng))
        try:
            params = plugin.sample(stage_rng, severity)
            build_params(plugin.Params, params_to_json(params), plugin_id)
        except UsageError as error:
            raise PluginError(
                f"The degradation {plugin_id!r} drew parameters out of their ranges: {error.failed}",
                found=error.found,
                accepted=error.accepted,
                fix=_WHOSE,
            ) from None
        except Exception as error:  # as in _apply_stage
            raise _failure(plugin, error) from error
        if overrides and plugin_id in overrides:
            params = replace_params(params, overrides[plugin_id], plugin_id)
        stages.append(Stage(plugin_id, plugin.version, params_to_json(params), draw_seed(stage_rng)))
    return Recipe(tuple(stages), draw_seed(rng))


def apply_recipe(
    image: Image,
    recipe: Recipe,
    plugins: Plugins,
    scene: Scene | None = None,
    *,
    keep: Collection[str] | None = None,
) -> Image:
    """`image` (H×W×3 float32 in [0, 1]) with the stages of `recipe` applied in order.

    Parameters
    ----------
    scene
        What is known of the photograph. Without a depth map, one is estimated from `image` if a stage uses it.
    keep
        Ids of the stages to apply; the others are skipped. None applies all. With the clean picture and the same
        recipe this gives "the same photo without the rain": same realisations, one stage taken away.

    Raises
    ------
    PluginError
        If a plugin raises, or returns something that is not a picture of the same size with values in [0, 1].
    DataError
        If `image` has values that are none, and a plugin hands them on.
    """
    scene = scene or Scene()
    if scene.depth is None and needs_depth(recipe, plugins, keep):
        depth = pseudo_depth(image, np.random.default_rng(recipe.depth_seed))
        scene = replace(scene, depth=depth)
    for stage in recipe.stages:
        if keep is None or stage.plugin in keep:
            image = _apply_stage(image, stage, plugins[stage.plugin], scene)
    return image


def needs_depth(recipe: Recipe, plugins: Plugins, keep: Collection[str] | None = None) -> bool:
    """Whether any stage of the recipe (any of those in `keep`) looks at a depth map."""
    stages = [stage for stage in recipe.stages if keep is None or stage.plugin in keep]
    return any(
        plugins[s.plugin].needs_depth(build_params(plugins[s.plugin].Params, s.params, s.plugin)) for s in stages
    )


def _apply_stage(image: Image, stage: Stage, plugin: Degradation[Any], scene: Scene) -> Image:
    params = build_params(plugin.Params, stage.params, plugin.id)
    try:
        with patience(image.shape[0] * image.shape[1]):
            out = plugin.apply(image, params, np.random.default_rng(stage.seed), scene)
    except Exception as error:  # a plugin is a stranger's code; its failure is named, not ours
        raise _failure(plugin, error) from error
    if not isinstance(out, np.ndarray) or out.shape != image.shape or out.dtype != np.float32:
        found = f"{out.dtype} {out.shape}" if isinstance(out, np.ndarray) else type(out).__name__
        raise PluginError(
            f"The degradation {plugin.id!r} returned no picture of the same size.",
            found=found,
            accepted=f"float32 {image.shape}",
        )
    if not _in_range(out):
        if not _in_range(image):
            raise DataError("This picture cannot be damaged.", found=_range(image), accepted=_ACCEPTED_RANGE)
        raise PluginError(
            f"The degradation {plugin.id!r} returned values that no picture has.",
            found=_range(out),
            accepted=_ACCEPTED_RANGE,
            fix=_WHOSE,
        )
    return out


def _in_range(image: Image) -> bool:
    """Whether all values are finite and in [0, 1], but for rounding."""
    # As whole numbers, floats from 0 up are in order, and negative ones, infinity and NaN lie above: one look at all
    # the values, where the smallest and the largest would take two.
    if image.size == 0 or image.view(np.uint32).max() <= _LARGEST_BITS:
        return True
    return bool(image.min() >= -_ROUNDING and image.max() <= 1 + _ROUNDING)


def _range(image: Image) -> str:
    unknown = np.count_nonzero(~np.isfinite(image))
    if unknown:
        return f"{unknown} of {image.size} values not finite"
    return f"{image.min():.4g} … {image.max():.4g}"


def _failure(plugin: Degradation[Any], error: Exception) -> PluginError:
    return PluginError(
        f"The degradation {plugin.id!r} failed.",
        found=one_line(f"{type(error).__name__}: {error}"),
        fix=_WHOSE,
    )


def instruction_residual(ground: Image, recipe: Recipe, plugins: Plugins) -> NDArray[np.float32]:
    """The visual instruction v = D(g) − g of a recipe, H×W×3 in [−1, 1]; zero for an empty recipe."""
    return apply_recipe(ground, recipe, plugins) - ground
