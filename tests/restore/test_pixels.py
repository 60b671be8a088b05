"""One picture through the model: any size, the same with and without tiles, the same every time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from defusion_cli.diffusion import DefusionPipeline, make_scheduler
from defusion_cli.restore.memory import TILE_SIDES_PX, choose_batch, choose_tile, free_memory
from defusion_cli.restore.pixels import restore_pixels


def _picture(height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(7)
    return rng.uniform(0.2, 0.8, (height, width, 3)).astype(np.float32)


@pytest.mark.parametrize("size", [(1, 1), (1, 17), (3, 2), (37, 53), (64, 64), (65, 130)])
def test_any_size_comes_back(pipeline: DefusionPipeline, tokens: torch.Tensor, size: tuple[int, int]) -> None:
    pixels = _picture(*size)
    kept = pixels.copy()
    restored = restore_pixels(pipeline, pixels, tokens)
    assert restored.shape == pixels.shape and restored.dtype == np.float32
    assert restored.min() >= 0 and restored.max() <= 1 and np.isfinite(restored).all()
    assert not np.array_equal(restored, pixels)
    np.testing.assert_array_equal(pixels, kept)


def test_same_seed_same_pixels(pipeline: DefusionPipeline, tokens: torch.Tensor) -> None:
    pixels = _picture(70, 90)
    first = restore_pixels(pipeline, pixels, tokens, steps=3, seed=5)
    np.testing.assert_array_equal(first, restore_pixels(pipeline, pixels, tokens, steps=3, seed=5))
    assert not np.array_equal(first, restore_pixels(pipeline, pixels, tokens, steps=3, seed=6))


@pytest.mark.parametrize("steps", [1, 3])
def test_tiles_leave_no_seam(pipeline: DefusionPipeline, tokens: torch.Tensor, steps: int) -> None:
    pixels = _picture(300, 420)
    whole = restore_pixels(pipeline, pixels, tokens, steps, tile=512)
    tiled = restore_pixels(pipeline, pixels, tokens, steps, tile=192)
    effect = np.abs(whole - pixels).mean()
    assert effect > 0.01
    # The tiny net's attention starts at zero: all it does is local, and tiles may differ at their edges only, where
    # the neighbour's weight is large.
    assert np.abs(whole - tiled).max() < 0.1 * effect


def test_tiles_see_the_whole_picture(pipeline: DefusionPipeline, tokens: torch.Tensor) -> None:
    pixels = _picture(150, 420)
    changed = pixels.copy()
    changed[:, 350:] = 0
    a, b = (restore_pixels(pipeline, p, tokens, tile=128) for p in (pixels, changed))
    assert not np.array_equal(a[:, :50], b[:, :50])


def test_progress_reaches_the_end(pipeline: DefusionPipeline, tokens: torch.Tensor) -> None:
    seen: list[float] = []
    restore_pixels(pipeline, _picture(100, 300), tokens, steps=2, tile=128, on_progress=seen.append)
    assert seen == sorted(seen) and len(seen) > 2 and seen[-1] == 1


def test_a_diffusers_unet_can_be_the_backbone(pipeline: DefusionPipeline, tokens: torch.Tensor) -> None:
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel(
        in_channels=6,
        out_channels=3,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=256,
        attention_head_dim=8,
    ).eval()
    other = DefusionPipeline(unet, pipeline.tokenizer, make_scheduler())
    for size in [(1, 1), (37, 53)]:
        assert restore_pixels(other, _picture(*size), tokens, steps=2).shape == (*size, 3)


def test_tile_follows_the_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    assert free_memory(cpu) > 0 and choose_batch("DegradationUNet", cpu, 512) == 1
    chosen = []
    for megabytes in (1, 150, 500, 100_000):
        monkeypatch.setattr("defusion_cli.restore.memory.free_memory", lambda _device, mb=megabytes: mb * 2**20)
        chosen.append(choose_tile("DegradationUNet", cpu))
    assert chosen == sorted(chosen) and chosen[0] == TILE_SIDES_PX[-1] and chosen[-1] == TILE_SIDES_PX[0]
