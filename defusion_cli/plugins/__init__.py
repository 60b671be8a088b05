"""The plugin side of defusion: what a degradation is, how it is found, combined and checked."""

from defusion_cli.plugins.checks import check_degradation
from defusion_cli.plugins.compose import (
    Recipe,
    Stage,
    apply_recipe,
    draw_recipe,
    draw_seed,
    instruction_residual,
    needs_depth,
    physical_order,
)
from defusion_cli.plugins.contract import Blur, Degradation, Image, Position, Scene, severity_or_draw
from defusion_cli.plugins.depth import pseudo_depth
from defusion_cli.plugins.host import BrokenPlugin, Registry, Source, installed_plugins, load_registry
from defusion_cli.plugins.params import build_params, describe_params, param, params_to_json, replace_params

__all__ = [
    "Blur",
    "BrokenPlugin",
    "Degradation",
    "Image",
    "Position",
    "Recipe",
    "Registry",
    "Scene",
    "Source",
    "Stage",
    "apply_recipe",
    "build_params",
    "check_degradation",
    "describe_params",
    "draw_recipe",
    "draw_seed",
    "installed_plugins",
    "instruction_residual",
    "load_registry",
    "needs_depth",
    "param",
    "params_to_json",
    "physical_order",
    "pseudo_depth",
    "replace_params",
    "severity_or_draw",
]
