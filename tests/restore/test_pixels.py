"""One picture through the model: any size, the same with and without tiles, the same every time."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from profiles import SRGB_PRIMARIES, rgb_profile

from defusion_cli.canvas import Canvas, Tags, quantise
from defusion_cli.colour import read_colour_space
from defusion_cli.diffusion import DefusionPipeline, make_scheduler
from defusion_cli.images import read_pixels, write_image
from defusion_cli.restore.instruction import Nature, Part
from defusion_cli.restore.memory import TILE_SIDES_PX, choose_batch, choose_tile, free_memory
from defusion_cli.restore.pixels import fill_hidden, restore_canvas, restore_pixels
from defusion_cli.restore.plan import plan_jobs
from defusion_cli.restore.restorer import Restorer
from defusion_cli.restore.run import restore_files
from defusion_cli.shortage import is_out_of_memory


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


def test_one_step_does_not_depend_on_noise(pipeline: DefusionPipeline, tokens: torch.Tensor) -> None:
    lq = np.random.default_rng(0).random((40, 56, 3)).astype(np.float32)
    restored = restore_pixels(pipeline, lq, tokens, 1)
    x = torch.from_numpy(np.ascontiguousarray(lq.transpose(2, 0, 1)))[None]
    for seed in range(2):
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
        direct = (x - pipeline.damage(x, tokens, noise)).clamp(0, 1)[0].permute(1, 2, 0).numpy()
        np.testing.assert_allclose(restored, direct, atol=1e-5)


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


def _both(pipeline: DefusionPipeline, tokens: torch.Tensor, canvas: Canvas, **options: int) -> np.ndarray:
    """Samples after `restore_canvas`, of a copy."""
    copy = Canvas(canvas.samples.copy(), canvas.tags)
    restore_canvas(pipeline, copy, tokens, **options)
    return copy.samples


@pytest.mark.parametrize("shape", [(1, 1, 3), (70, 300, 3), (300, 70, 1), (201, 333, 3)])
def test_in_place_is_what_restore_pixels_gives(
    pipeline: DefusionPipeline, tokens: torch.Tensor, shape: tuple[int, int, int]
) -> None:
    canvas = Canvas(np.random.default_rng(0).integers(0, 65536, shape, dtype=np.uint16))
    expected = restore_pixels(pipeline, canvas.pixels(), tokens, tile=128)
    samples = _both(pipeline, tokens, canvas, tile=128)
    if not canvas.grey:
        np.testing.assert_array_equal(samples, quantise(expected, 16))
    else:
        np.testing.assert_allclose(samples[..., 0] / 65535, expected @ np.array([0.299, 0.587, 0.114]), atol=1e-4)


@pytest.mark.parametrize(("reduction", "none", "some"), [(1, 2, 8), (2, 2, 8), (1, 6, 20)])
def test_what_sparse_damage_hardly_touches_stays_what_it_is(
    pipeline: DefusionPipeline, tokens: torch.Tensor, reduction: int, none: int, some: int
) -> None:
    nature = Nature(faintest=(none, some))
    canvas = Canvas(np.random.default_rng(0).integers(0, 65536, (150, 201, 3), dtype=np.uint16))
    plain = _both(pipeline, tokens, canvas, tile=128, reduction=reduction)
    samples = _both(pipeline, tokens, canvas, tile=128, reduction=reduction, nature=nature)
    change = np.abs(plain / 257 - canvas.samples / 257).max(2)
    inside = ((plain > 0) & (plain < 65535)).all(2)  # what is clipped may have been damaged more
    faint, clear = inside & (change < none), change > some + 0.1
    assert faint.any() and clear.any()
    np.testing.assert_array_equal(samples[faint], canvas.samples[faint])
    np.testing.assert_array_equal(samples[clear], plain[clear])
    pixels = restore_pixels(pipeline, canvas.pixels(), tokens, tile=128, reduction=reduction, nature=nature)
    np.testing.assert_array_equal(samples, quantise(pixels, 16))


def test_what_is_transparent_keeps_its_colours_and_has_no_say(pipeline: DefusionPipeline, tokens: torch.Tensor) -> None:
    rng = np.random.default_rng(0)
    samples = rng.integers(60, 200, (90, 140, 4), dtype=np.uint8)
    samples[..., 3] = np.where(np.hypot(*np.ogrid[-45:45, -70:70]) < 40, 255, 0)
    samples[40:50, 60:70, 3] = 100
    other, hidden = samples.copy(), samples[..., 3] == 0
    other[hidden, :3] = 255 - other[hidden, :3] // 2  # what nobody sees differs
    one, two = (_both(pipeline, tokens, Canvas(s)) for s in (samples, other))
    np.testing.assert_array_equal(one[..., 3], samples[..., 3])
    np.testing.assert_array_equal(one[hidden], samples[hidden])
    np.testing.assert_array_equal(two[hidden], other[hidden])
    np.testing.assert_array_equal(one[~hidden], two[~hidden])
    assert (one[~hidden] != samples[~hidden]).mean() > 0.5


def test_hidden_colours_are_those_of_the_nearest_visible_ones() -> None:
    pixels = np.zeros((3, 5, 3), np.float32)
    pixels[:, 0], pixels[:, 4] = 0.25, 0.75
    alpha = np.array([[255, 0, 0, 0, 9]] * 3, np.uint8)
    np.testing.assert_array_equal(fill_hidden(pixels, alpha)[1, :, 0][[0, 1, 3, 4]], [0.25, 0.25, 0.75, 0.75])
    assert (fill_hidden(pixels, np.zeros_like(alpha)) == 0.5).all()
    assert fill_hidden(pixels, np.full_like(alpha, 1)) is pixels


def test_the_network_sees_srgb_whatever_the_file_holds(pipeline: DefusionPipeline, tokens: torch.Tensor) -> None:
    gamma = struct.pack(">4sIIH", b"curv", 0, 1, 256) + bytes(2)  # a linear profile with the primaries of sRGB
    icc = rgb_profile(SRGB_PRIMARIES, gamma)
    seen = np.random.default_rng(0).integers(60, 200, (60, 80, 3), dtype=np.uint8).astype(np.float32) / 255
    linear = np.where(seen <= 0.04045, seen / 12.92, ((seen + 0.055) / 1.055) ** 2.4).astype(np.float32)
    plain, wide = Canvas(quantise(seen, 16)), Canvas(quantise(linear, 16), Tags(icc=icc))
    space = read_colour_space(icc)
    assert space is not None
    restored = Canvas(_both(pipeline, tokens, wide))
    as_srgb = space.to_srgb(restored.pixels())
    expected = Canvas(_both(pipeline, tokens, plain)).pixels()
    assert np.abs(expected - plain.pixels()).mean() > 0.01
    assert np.abs(as_srgb - expected).max() < 2 / 255


def test_rows_that_are_done_are_not_read_again(pipeline: DefusionPipeline, tokens: torch.Tensor) -> None:
    # In place: a second look at a restored row would restore it twice.
    canvas = Canvas(np.random.default_rng(0).integers(0, 256, (500, 90, 3), dtype=np.uint8))
    expected = quantise(restore_pixels(pipeline, canvas.pixels(), tokens, tile=128), 8)
    np.testing.assert_array_equal(_both(pipeline, tokens, canvas, tile=128), expected)


def test_neither_batches_nor_their_order_change_the_pixels(
    pipeline: DefusionPipeline, tokens: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    from defusion_cli.restore import pixels as module

    picture = _picture(300, 500)
    expected = restore_pixels(pipeline, picture, tokens, tile=128)
    forwards = module.batches
    monkeypatch.setattr(module, "batches", lambda tiles, most: reversed(list(forwards(tiles, most))))
    np.testing.assert_array_equal(restore_pixels(pipeline, picture, tokens, tile=128), expected)
    monkeypatch.setattr(module, "choose_batch", lambda *_: 3)
    # Another batch may take another path through the convolutions of the library: documented as one in 4,096.
    assert np.abs(restore_pixels(pipeline, picture, tokens, tile=128) - expected).max() < 1 / 4096


@pytest.mark.parametrize("message", ["DefaultCPUAllocator: can't allocate memory", "CUDA out of memory"])
def test_short_memory_is_told_from_other_errors(message: str) -> None:
    assert is_out_of_memory(RuntimeError(message)) and is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("shape mismatch"))


def test_tiles_shrink_when_memory_is_short_and_it_is_said_once(
    pipeline: DefusionPipeline, tokens: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.png", "b.png"):
        write_image(tmp_path / "in" / name, _picture(300, 700))
    real, sizes = DefusionPipeline.damage, []

    def hungry(self: DefusionPipeline, lq: torch.Tensor, *rest: Any) -> torch.Tensor:
        sizes.append(max(lq.shape[2:]))
        if sizes[-1] > 256 or len(sizes) == 7:  # once also in the middle of a picture
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        return real(self, lq, *rest)

    monkeypatch.setattr(DefusionPipeline, "damage", hungry)
    said: list[str] = []
    restorer = Restorer(pipeline, (Part(tokens),), tile=512, say=said.append)
    jobs = plan_jobs(tmp_path / "in", tmp_path / "out")
    outcomes = restore_files(jobs, restorer, None, shrink=restorer.shrink)
    assert [outcome.state for outcome in outcomes] == ["restored", "restored"]
    assert said == ["The memory was short: tiles have 128 px from here on."]
    monkeypatch.undo()
    expected = quantise(restore_pixels(pipeline, read_pixels(jobs[1].source), tokens, tile=128), 8)
    np.testing.assert_array_equal(quantise(read_pixels(jobs[1].target), 8), expected)


def test_the_default_model_leaves_no_seam_in_a_flat_sky() -> None:
    from defusion_cli.plugins import installed_plugins
    from defusion_cli.restore.instruction import Instructor
    from defusion_cli.restore.model import load_pipeline

    height, width = 256, 330
    blue = np.linspace(0.45, 0.85, height, dtype=np.float32)[:, None, None] * np.array([0.55, 0.75, 1], np.float32)
    grain = np.random.default_rng(0).normal(0, 0.004, (height, width, 3))
    sky = (blue + grain).astype(np.float32)
    pipeline = load_pipeline()
    haze = Instructor(pipeline, installed_plugins()).named(["haze"])
    whole, tiled = (restore_pixels(pipeline, sky, haze, tile=tile) for tile in (512, 128))
    assert np.abs(whole - tiled).max() < 2 / 255
    # Nor does a line show where tiles meet: the step across is no larger there than elsewhere.
    step = np.abs(np.diff(tiled - whole, axis=1)).mean(axis=(0, 2))
    assert step.max() < 0.25 / 255


def test_a_picture_that_fits_is_done_in_one_piece(
    pipeline: DefusionPipeline, tokens: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    write_image(tmp_path / "in" / "photo.png", _picture(150, 330))
    real, sizes = DefusionPipeline.damage, []

    def watched(self: DefusionPipeline, lq: torch.Tensor, *rest: Any) -> torch.Tensor:
        sizes.append(tuple(lq.shape[2:]))
        return real(self, lq, *rest)

    monkeypatch.setattr(DefusionPipeline, "damage", watched)
    restorer = Restorer(pipeline, (Part(tokens),), tile=1024)
    restore_files(plan_jobs(tmp_path / "in", tmp_path / "out"), restorer, None)
    assert sizes == [(150, 330)]
