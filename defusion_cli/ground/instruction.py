"""The visual instruction: what the given degradations do to a ground, v = D(g) − g."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from defusion_cli.ground.assembly import draw_ground
from defusion_cli.plugins.compose import Recipe, Stage, apply_recipe, draw_recipe, draw_seed
from defusion_cli.plugins.contract import Degradation, Image

INSTRUCTION_PX = 224
"""Side of the instructions that models are given when they restore."""

NAMED_SEVERITY = 0.6
"""Strength of the damage that stands for a name: clearly visible, not the worst of its kind."""

_LEAST_SEVERITY = 0.5

_GROUNDS_OF_SEVERAL = 12


def draw_instruction(
    ids: Sequence[str],
    plugins: Mapping[str, Degradation[Any]],
    rng: np.random.Generator,
    kind: str = "visual",
    severity: float | None = None,
    size: int = 224,
    natural: Sequence[Image] | None = None,
    overrides: Mapping[str, Mapping[str, object]] | None = None,
) -> tuple[Image, Image, NDArray[np.float32], Recipe]:
    """Draw a ground, damage it, and return ground, damaged ground, residual and recipe.

    Parameters
    ----------
    ids
        Plugins in order of application; none gives the null instruction, a residual of zeros.
    severity
        In [0, 1], for every stage. None draws one in U(0.5, 1) for each: an instruction that shows nothing
        instructs nothing.
    kind, size, natural
        As for `draw_ground`.
    overrides
        Parameters to force, by plugin id.

    Returns
    -------
    ground, degraded
        size×size×3 float32 in [0, 1].
    residual
        v = D(g) − g, size×size×3 float32 in [−1, 1].
    recipe
        Regenerates `degraded` from `ground` bit for bit.
    """
    ground = draw_ground(rng, kind, size, natural)
    stages: list[Stage] = []
    for plugin_id in ids:
        drawn = float(rng.uniform(_LEAST_SEVERITY, 1.0))
        stages += draw_recipe([plugin_id], plugins, rng, drawn if severity is None else severity, overrides).stages
    recipe = Recipe(tuple(stages), draw_seed(rng))
    degraded = apply_recipe(ground, recipe, plugins)
    return ground, degraded, degraded - ground, recipe


def named_residuals(
    ids: Sequence[str], plugins: Mapping[str, Degradation[Any]], grounds: int | None = None
) -> NDArray[np.float32]:
    """The instructions that stand for the name of a degradation, or of several: always the same, N×224×224×3.

    Parameters
    ----------
    ids
        In the order in which they are applied.
    grounds
        On how many grounds they are shown. None is `Degradation.named_draws` for a single degradation, and twelve for
        several: what lies on top hides the rest here and there, and one such instruction may be taken for something
        else (docs/decisions.md).
    """
    several = len(ids) > 1
    severity = None if several else NAMED_SEVERITY
    numbers: Sequence[int] = range(grounds or _GROUNDS_OF_SEVERAL)
    if not several and grounds is None:
        numbers = plugins[ids[0]].named_draws
    return np.stack(
        [
            draw_instruction(ids, plugins, np.random.default_rng(number), severity=severity, size=INSTRUCTION_PX)[2]
            for number in numbers
        ]
    )


def encode_residual(residual: NDArray[np.float32]) -> Image:
    """A residual in [−1, 1] as a picture to look at: 0.5 + v/2, so that grey means "unchanged"."""
    return np.clip(np.float32(0.5) + np.float32(0.5) * residual, 0.0, 1.0)


def decode_residual(picture: Image) -> NDArray[np.float32]:
    """The residual 2·p − 1 of what `encode_residual` gave; from an 8-bit file exact to 1/255."""
    return np.float32(2) * picture - np.float32(1)
