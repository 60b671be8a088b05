"""The model that the package ships, on pictures at the edge of what it was shown."""

from __future__ import annotations

import pytest
import torch

from defusion_cli.diffusion import DefusionPipeline
from defusion_cli.plugins import installed_plugins
from defusion_cli.restore.instruction import Instructor
from defusion_cli.restore.model import load_pipeline


@pytest.fixture(scope="module")
def default() -> DefusionPipeline:
    return load_pipeline("default")


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("level", [0.0, 0.01, 0.5, 1.0])
def test_no_damage_is_estimated_beyond_what_a_picture_can_hold(
    level: float, steps: int, default: DefusionPipeline
) -> None:
    """In training a nearly black view once sent the features of a network without normalisation into the thousands."""
    generator = torch.Generator().manual_seed(0)
    grain = torch.randn(1, 3, 64, 64, generator=generator) * 0.02
    flat, stripes = level + grain, level + grain + 0.5 * (torch.arange(64) % 16 < 8)
    pictures = torch.cat([flat, stripes]).clamp(0, 1)
    shown = Instructor(default, installed_plugins())
    for plugin_id in ("low-light", "underwater", "haze", "snow", "rain", "noise"):
        damage = default.damage(pictures, shown.named([plugin_id]), torch.zeros_like(pictures), steps)
        assert float(damage.abs().max()) < 1.3, plugin_id
