"""The model that the package ships, on pictures at the edge of what it was shown."""

from __future__ import annotations

import numpy as np
import pytest
import skimage
import torch

from defusion_cli.canvas import ArrayPhoto
from defusion_cli.diffusion import DefusionPipeline
from defusion_cli.plugins import installed_plugins
from defusion_cli.restore.instruction import Instructor
from defusion_cli.restore.model import load_pipeline
from defusion_cli.restore.pixels import Estimator, shows
from defusion_cli.restore.scale import restore_parts
from defusion_cli.training.validation import psnr
from degradations.motion_blur import MotionBlurParams


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


def test_a_sharp_photograph_is_not_deconvolved_whatever_it_is_told(default: DefusionPipeline) -> None:
    """To blind deconvolution some textures look shaken; the recogniser knows better."""
    rng = np.random.default_rng(2)
    sharp = (skimage.data.astronaut()[:400, :420] / np.float32(255)).astype(np.float32)
    shaken = installed_plugins()["motion-blur"].apply(
        sharp, MotionBlurParams(length_px=13.0, angle_deg=35.0, shake=0.7), rng
    )
    (part,) = Instructor(default, installed_plugins()).by_parts(["motion-blur"])
    assert shows(Estimator(default, ArrayPhoto(shaken), part.tokens), part.nature.blurs)
    assert not shows(Estimator(default, ArrayPhoto(sharp), part.tokens), part.nature.blurs)
    assert psnr(restore_parts(default, sharp, (part,)), sharp) > 38
    assert psnr(restore_parts(default, shaken, (part,)), sharp) > psnr(shaken, sharp) + 1
