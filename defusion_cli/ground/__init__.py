"""Visual grounds: test charts that show what a degradation does, and nothing of any scene.

A ground holds one element each of four categories (regular texture, stochastic texture, standard colours, natural
objects) drawn from pools and put together at random (Defusion, CVPR 2025, supplement section 6). The residual of a
degradation applied to a ground is the *visual instruction*.
"""

from defusion_cli.ground.assembly import (
    CATEGORIES,
    GROUND_KINDS,
    MAX_SIZE,
    MIN_SIZE,
    Placement,
    compose_ground,
    draw_ground,
)
from defusion_cli.ground.files import MOST_ON_SHEET, SHEET, GroundSet, write_ground, write_sheet
from defusion_cli.ground.instruction import (
    INSTRUCTION_PX,
    decode_residual,
    draw_instruction,
    encode_residual,
    named_residuals,
)
from defusion_cli.ground.natural import natural_pool
from defusion_cli.plugins.contract import Image

__all__ = [
    "CATEGORIES",
    "GROUND_KINDS",
    "INSTRUCTION_PX",
    "MAX_SIZE",
    "MIN_SIZE",
    "MOST_ON_SHEET",
    "SHEET",
    "GroundSet",
    "Image",
    "Placement",
    "compose_ground",
    "decode_residual",
    "draw_ground",
    "draw_instruction",
    "encode_residual",
    "named_residuals",
    "natural_pool",
    "write_ground",
    "write_sheet",
]
