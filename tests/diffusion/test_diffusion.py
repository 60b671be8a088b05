"""Backbone, schedule and pipeline: any size, identity at first, one step is the estimate, weights that move in."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from PIL import Image
from tiny import make_tiny_tokenizer

from defusion_cli.diffusion import DefusionPipeline, DegradationUNet, diffuse, make_scheduler, make_thumbnail
from defusion_cli.diffusion.backbone import init_from, make_backbone
from defusion_cli.diffusion.blocks import Condition, ConditionedBlock, ResidualBlock
from defusion_cli.diffusion.schedule import precondition
from defusion_cli.errors import DataError, UsageError
from defusion_cli.grain import GRAIN_FEATURES, read_grain
from defusion_cli.thumbnail import look_at_cells

SMALL = {"widths": (8, 16), "blocks": (1, 1), "cross_attention_dim": 32, "condition_dim": 16, "heads": 2}


@pytest.fixture(scope="module")
def pipeline() -> DefusionPipeline:
    tokenizer = make_tiny_tokenizer()
    unet = DegradationUNet(**SMALL).eval()
    torch.nn.init.normal_(unet.conv_out.weight, std=0.02)
    return DefusionPipeline(unet, tokenizer, make_scheduler(), 3.0)


def test_a_fresh_backbone_sees_no_damage_and_no_noise():
    unet = DegradationUNet(**SMALL)
    tokens, lq = torch.randn(2, 9, 32), torch.rand(2, 3, 24, 24)
    out = unet(torch.cat([torch.randn_like(lq), lq], 1), torch.tensor([999, 10]), tokens).sample
    assert out.shape == lq.shape and not out.any()
    torch.nn.init.normal_(unet.conv_out.weight)
    one, two = (
        unet(torch.cat([torch.randn_like(lq), lq], 1), torch.tensor([999, 10]), tokens).sample for _ in range(2)
    )
    assert one.any() and torch.equal(one, two)  # whatever y_t is


def test_the_output_depends_on_instruction_time_and_thumbnail():
    torch.manual_seed(0)
    unet = DegradationUNet(**SMALL)
    for parameter in unet.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    sample, tokens, time = torch.randn(1, 6, 16, 16), torch.randn(1, 9, 32), torch.tensor([999])
    thumbnail = {"thumbnail": torch.zeros(1, 3, 256, 256)}
    base = unet(sample, time, tokens, thumbnail).sample
    for other in (
        unet(sample, time, torch.randn(1, 9, 32), thumbnail).sample,
        unet(sample, torch.tensor([1]), tokens, thumbnail).sample,
        unet(sample, time, tokens, {"thumbnail": torch.ones(1, 3, 256, 256)}).sample,
    ):
        assert not torch.allclose(base, other)


def test_one_instruction_alone_calibrates_to_finite_features():
    unet = DegradationUNet(**SMALL)
    tokens = torch.randn(1, 9, 32)
    unet.calibrate(tokens)
    assert torch.equal(unet.instruction.deviation, torch.ones_like(unet.instruction.deviation))
    assert unet.instruction(tokens).isfinite().all()


def test_calibration_sets_instructions_apart():
    unet = DegradationUNet(**SMALL)
    common = torch.randn(1, 9, 32)
    tokens = 10 * common + 0.01 * torch.randn(16, 9, 32)
    unet.calibrate(tokens)
    standard = (unet.instruction._statistics(tokens) - unet.instruction.mean) / unet.instruction.deviation
    assert standard.mean(0).abs().max() < 1e-2
    assert 0.3 < standard.std(0).mean() < 1.1
    assert {"instruction.mean", "instruction.deviation"} <= set(unet.state_dict())  # they travel with the weights


def test_output_heads_are_mixed_by_the_instruction():
    torch.manual_seed(0)
    unet = DegradationUNet(**SMALL, output_heads=3)
    assert unet.conv_out.weight.shape[0] == 3 * 12
    sample, time = torch.randn(2, 6, 16, 16), torch.tensor([999])
    assert not unet(sample, time, torch.randn(2, 9, 32)).sample.any()  # still the identity at first
    torch.nn.init.normal_(unet.conv_out.weight)
    torch.nn.init.normal_(unet.gate.weight)
    same = sample[:1].expand(2, -1, -1, -1)
    tokens = torch.randn(2, 9, 32)
    one, other = unet(same, time, tokens).sample
    assert not torch.allclose(one, other)
    # A picture by itself goes through mixed weights, and in place where no gradient is wanted.
    with torch.no_grad():
        alone = [unet(sample[:1], time, instruction[None]).sample[0] for instruction in tokens]
    torch.testing.assert_close(torch.stack(alone), torch.stack([one, other]), rtol=1e-4, atol=1e-4)


def test_a_kernel_depends_on_the_condition_and_is_shared_by_neighbours():
    torch.manual_seed(0)
    block = ConditionedBlock(4, 6, experts=3)
    x, condition = torch.randn(5, 4, 7, 9), Condition(torch.randn(3, 6), [2, 2, 1])
    plain = ResidualBlock(4, 6)
    plain.load_state_dict(block.state_dict(), strict=False)
    for each in (block, plain):
        torch.manual_seed(1)
        torch.nn.init.normal_(each.film.weight)
        torch.nn.init.normal_(each.film.bias)
    alike = plain(x, condition)
    torch.testing.assert_close(block(x, condition), alike)  # kernels of its own only once an expert learns
    for conv in (block.conv1, block.conv2):
        for expert in conv.experts:
            torch.nn.init.normal_(expert, std=0.3)
    result = block(x, condition)
    for n, told in enumerate(condition.of_each(condition.values)):
        for conv, own in ((block.conv1, plain.conv1), (block.conv2, plain.conv2)):
            shares = conv.gate(told) / 3**0.5
            mixed = conv.weight + sum(share * expert for share, expert in zip(shares, conv.experts, strict=True))
            own.weight.data.copy_(mixed)
        expected = plain(x[n : n + 1], Condition(told[None], [1]))[0]
        torch.testing.assert_close(result[n], expected, rtol=1e-4, atol=1e-4)
    assert (result - alike).abs().max() > 0.1
    result.square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in block.parameters())


def test_what_concerns_whole_photographs_is_given_once_for_their_crops():
    torch.manual_seed(0)
    options = {"output_heads": 3, "coarse": True, "grain": True, "late": True, "sharpen": True, "experts": (2,)}
    unet = DegradationUNet(**SMALL, **options).eval()
    for parameter in unet.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    sample, box = torch.randn(6, 6, 24, 40), torch.tensor([[0.0, 0.0, 0.5, 0.5]]).repeat(6, 1)
    tokens, thumbnail, grain = torch.randn(2, 9, 32), torch.rand(2, 3, 256, 256), torch.rand(2, GRAIN_FEATURES)
    times = torch.tensor([999, 999, 400, 400, 999, 20])

    def run(of: list[int], views: list[int]) -> torch.Tensor:
        seen = {"thumbnail": thumbnail[views], "grain": grain[views], "box": box[of]}
        return unet(sample[of], times[of], tokens[views], added_cond_kwargs=seen).sample

    with torch.no_grad():
        shared = run([0, 1, 2, 3, 4, 5], [0, 1])
        torch.testing.assert_close(run([0, 1, 2, 3, 4, 5], [0, 0, 0, 1, 1, 1]), shared, rtol=1e-4, atol=1e-5)
        for n in range(6):
            torch.testing.assert_close(run([n], [n // 3])[0], shared[n], rtol=1e-4, atol=1e-5)
        with pytest.raises(ValueError, match="5 samples cannot be those of 2 photographs"):
            run([0, 1, 2, 3, 4], [0, 1])


def test_the_coarse_branch_gives_a_tile_its_part_of_the_whole():
    torch.manual_seed(0)
    unet = DegradationUNet(**SMALL, coarse=True)
    lq, thumbnail, tokens, time = (
        torch.rand(1, 3, 40, 56),
        torch.rand(1, 3, 256, 256),
        torch.randn(1, 9, 32),
        torch.tensor([999]),
    )
    seen = {"thumbnail": thumbnail}
    assert not unet(torch.cat([lq, lq], 1), time, tokens, seen).sample.any()  # still the identity at first
    branch = unet.coarse_branch
    torch.nn.init.normal_(branch.conv_out.weight)
    grid = branch(look_at_cells(thumbnail), torch.randn(1, 64), read_grain(lq))
    whole = branch.apply_maps(grid, lq, torch.tensor([[0.0, 0.0, 1.0, 1.0]]))
    box = torch.tensor([[14 / 56, 8 / 40, 42 / 56, 1.0]])
    tile = branch.apply_maps(grid, lq[..., 8:, 14:42], box)
    assert whole.std() > 0.1
    assert torch.allclose(tile, whole[..., 8:, 14:42], atol=1e-4)
    # Crops of one photograph share its cells.
    assert torch.equal(
        *(
            unet(torch.cat([lq, lq], 1), time, tokens, whole).sample
            for whole in (seen, {"cells": look_at_cells(thumbnail)})
        )
    )
    # Without a branch for the coarse the place of the tile means nothing; with one it does.
    one, other = (unet(torch.cat([lq, lq], 1), time, tokens, seen | {"box": b}).sample for b in (box, 1 - box))
    assert not torch.allclose(one, other)


def test_a_cell_is_seen_by_its_mean_and_its_extremes():
    thumbnail = torch.full((1, 3, 256, 256), 0.5)
    thumbnail[0, 1, 8, 11], thumbnail[0, 1, 9, 10] = -1.0, 1.0
    mean, darkest, brightest = look_at_cells(thumbnail)[0].split(3)
    assert (darkest[1, 2, 2], brightest[1, 2, 2]) == (-1.0, 1.0)
    assert mean[1, 2, 2] == pytest.approx((14 * 0.5 - 1 + 1) / 16)
    assert all((seen != 0.5).sum() == 1 for seen in (mean, darkest, brightest))


def test_only_the_whole_photograph_teaches_the_coarse_branch():
    torch.manual_seed(0)
    unet = DegradationUNet(**SMALL, coarse=True)
    torch.nn.init.normal_(unet.coarse_branch.conv_out.weight)
    torch.nn.init.normal_(unet.conv_out.weight)
    lq, tokens, time = torch.rand(2, 3, 32, 32), torch.randn(2, 9, 32), torch.tensor([999])
    y0, coarse = unet(torch.cat([lq, lq], 1), time, tokens, return_dict=False)
    assert coarse.shape == (2, 3, 64, 64)
    of_branch = list(unet.coarse_branch.parameters())
    y0.square().sum().backward(retain_graph=True)
    assert all(p.grad is None for p in of_branch) and unet.conv_in.weight.grad.any()
    unet.zero_grad()
    coarse.square().sum().backward()
    assert all(p.grad is not None for p in of_branch)
    assert sum(p.grad is not None for p in unet.parameters()) == len(of_branch)
    unet.eval()
    assert len(unet(torch.cat([lq, lq], 1), time, tokens, return_dict=False)) == 1


def test_the_coarse_map_is_affine_in_the_colours():
    torch.manual_seed(0)
    branch = DegradationUNet(**SMALL, coarse=True).coarse_branch
    torch.nn.init.normal_(branch.conv_out.weight)
    grid = branch(torch.rand(1, 9, 64, 64), torch.randn(1, 64), read_grain(torch.rand(1, 3, 48, 48)))
    box = torch.tensor([[0.2, 0.2, 0.7, 0.9]])
    dark, light = torch.zeros(1, 3, 24, 24), torch.rand(1, 3, 24, 24)
    at = [branch.apply_maps(grid, x, box) for x in (dark, light, (dark + light) / 2)]
    assert torch.allclose(at[2], (at[0] + at[1]) / 2, atol=1e-4)
    assert at[0].std() > 0.01 and not torch.allclose(at[0], at[1])


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (16, 16), (37, 41)])
def test_any_size_goes_in_and_comes_out(pipeline, size):
    lq = torch.rand(1, 3, *size)
    damage = pipeline.damage(lq, torch.randn(1, 4, 32), torch.randn_like(lq), steps=2)
    assert damage.shape == lq.shape and torch.isfinite(damage).all()


def test_the_schedule_ends_in_pure_noise_and_keeps_variance():
    scheduler = make_scheduler()
    y0, noise = torch.randn(4, 3, 64, 64), torch.randn(4, 3, 64, 64)
    at = diffuse(scheduler, y0, noise, torch.tensor([0, 300, 700, 999]))
    assert torch.equal(at[3], noise[3])
    assert torch.allclose(at[0], y0[0], atol=0.2)
    assert torch.allclose(at.std(dim=(1, 2, 3)), torch.ones(4), atol=0.05)


def test_the_network_sees_nothing_of_pure_noise():
    scheduler, y = make_scheduler(), torch.randn(3, 3, 8, 8)
    seen = precondition(scheduler, y, torch.tensor([0, 500, 999]))
    assert not seen[2].any() and torch.allclose(seen[0], y[0], atol=1e-3)
    assert 0.1 < float(seen[1].std() / y[1].std()) < 0.9


def test_one_step_is_the_networks_estimate_and_steps_are_reported(pipeline):
    lq, tokens = torch.rand(1, 3, 16, 16), torch.randn(1, 4, 32)
    noise, seen = torch.randn_like(lq), []
    damage = pipeline.damage(lq, tokens, noise, steps=1, on_step=seen.append)
    direct = pipeline._predict(
        torch.cat([torch.zeros_like(lq), 2 * lq - 1], 1),
        torch.tensor([999]),
        tokens,
        {"thumbnail": 2 * make_thumbnail(lq) - 1},
    )
    assert torch.allclose(damage, direct / 2, atol=1e-6)
    pipeline.damage(lq, tokens, noise, steps=5, on_step=seen.append)
    assert seen == [1, 1, 2, 3, 4, 5]


def test_the_oracle_is_sampled_exactly(pipeline, monkeypatch):
    """With a network that knows y₀, DDIM arrives at y₀ from any noise, in any number of steps."""
    truth = torch.rand(1, 3, 8, 8) - 0.5
    monkeypatch.setattr(pipeline, "_predict", lambda *_: 2 * truth)
    for steps in (1, 2, 7, 50):
        damage = pipeline.damage(torch.rand(1, 3, 8, 8), torch.zeros(1, 1, 32), torch.randn(1, 3, 8, 8), steps)
        assert torch.allclose(damage, truth, atol=1e-5)


def test_the_pipeline_takes_and_gives_pictures(pipeline):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8))
    instruction = np.zeros((224, 224, 3), np.float32)
    out = [pipeline(picture, instruction, generator=torch.Generator().manual_seed(1)).images[0] for _ in range(2)]
    assert out[0].size == picture.size and out[0].tobytes() == out[1].tobytes()
    tokens = pipeline.encode_instruction(instruction)
    assert tokens.shape == (1, 196, 32)
    assert pipeline(torch.rand(2, 3, 8, 8), tokens, output_type="pt").images.shape == (2, 3, 8, 8)


def test_a_foreign_unet_moves_in(tmp_path):
    options = {
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": 8,
        "norm_num_groups": 4,
    }
    foreign = UNet2DConditionModel(in_channels=6, out_channels=6, cross_attention_dim=24, **options)
    foreign.save_pretrained(tmp_path / "unet")
    model = make_backbone("unet2d", {**options, "cross_attention_dim": 32})
    report = init_from(model, tmp_path)
    assert "conv_in.weight" in report.loaded or "conv_in.weight" in report.adapted
    assert {"conv_out.weight", "conv_out.bias"} <= set(report.adapted)
    assert any("attn2.to_k" in name for name in report.adapted)
    assert len(report.loaded) > 50 and not report.fresh and not report.unused
    assert torch.equal(model.conv_out.weight, foreign.conv_out.weight[:3])
    assert "re-initialised" in str(report)


@pytest.mark.parametrize(
    ("more", "fresh"),
    [
        ({"blocks": (2, 1)}, {"down.0.1", "up.0.1"}),
        ({"experts": (2, 0)}, {"down.0.0", "up.0.0"}),
        ({"sharpen": True}, {"sharpening", "coarse_in"}),
    ],
    ids=["blocks", "experts", "sharpen"],
)
def test_a_finished_model_is_given_more_and_goes_on_from_what_it_is(tmp_path, more, fresh):
    torch.manual_seed(0)
    model = make_backbone("small", SMALL)
    for weights in model.parameters():
        torch.nn.init.normal_(weights, std=0.1)
    model.save_pretrained(tmp_path / "unet")
    larger = make_backbone("small", SMALL | more)
    report = init_from(larger, tmp_path)
    assert {next(part for part in fresh if name.startswith(part)) for name in report.fresh} == fresh
    sample, tokens = torch.randn(1, 6, 16, 24), torch.randn(1, 4, 32)
    with torch.no_grad():
        before, after = (net.eval()(sample, torch.tensor([999]), tokens).sample for net in (model, larger))
    assert before.std() > 0.1
    torch.testing.assert_close(after, before, rtol=0, atol=1e-5)


def test_weights_that_cannot_move_in_are_explained(tmp_path):
    model = make_backbone("small", SMALL)
    with pytest.raises(DataError, match="no U-Net"):
        init_from(model, tmp_path)
    (tmp_path / "diffusion_pytorch_model.safetensors").write_bytes(b"\x80\x04 a pickle is not read")
    with pytest.raises(DataError, match="cannot be read"):
        init_from(model, tmp_path)
    with pytest.raises(UsageError, match="do not fit"):
        make_backbone("small", {"width": 3})
