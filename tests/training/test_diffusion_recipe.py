"""The recipe of `defusion train`: it learns, it resumes bit for bit, two processes compute what one does."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage
import torch
from tiny import make_tiny_tokenizer

from defusion_cli.data.loader import Batch, view_batches
from defusion_cli.data.sources import parse_source
from defusion_cli.data.synthesis import SynthesisConfig, ViewMaker
from defusion_cli.diffusion.schedule import precondition, restoring_steps
from defusion_cli.errors import DataError, DefusionError, UsageError
from defusion_cli.plugins import installed_plugins
from defusion_cli.scoring.perceptual import lpips_network
from defusion_cli.thumbnail import look_at_cells
from defusion_cli.tokenizer import InstructionTokenizer
from defusion_cli.training.balance import Balance
from defusion_cli.training.checkpoint import latest_checkpoint, load_checkpoint
from defusion_cli.training.diffusion import train_diffusion
from defusion_cli.training.diffusion_config import PRESETS, DiffusionConfig, Phase
from defusion_cli.training.diffusion_state import DiffusionRun, DiffusionTraining, _Given
from defusion_cli.training.export import export
from defusion_cli.training.launch import Rank
from defusion_cli.training.losses import crop_losses
from defusion_cli.training.noise import draw_noise
from defusion_cli.training.setup import diffusion_config

ALONE = Rank(0, 1, torch.device("cpu"))
TINY = DiffusionConfig(
    backbone_options={"widths": (8, 8), "blocks": (1, 1), "condition_dim": 16, "heads": 2, "cross_attention_dim": 32},
    steps=6,
    phases=(Phase(0.5, 32, 8), Phase(1.0, 48, 4)),
    warmup=2,
    instruction_slots=2,
    log_every=1,
    save_every=3,
    validate_every=6,
    lr=2e-3,
    workers=0,
    synthesis=SynthesisConfig(view_px=64, crops_per_view=2, downscale=(0.9, 1.0)),
)


@pytest.fixture(scope="module")
def tokenizer() -> InstructionTokenizer:
    return make_tiny_tokenizer()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    photo = cv2.imread(str(Path(skimage.data_dir) / "astronaut.png"))
    for number in range(3):
        cv2.imwrite(str(folder / f"{number}.png"), photo[90 * number : 90 * number + 120, 100:260])
    return folder


def make_run(
    out: Path, photos: Path, tokenizer: InstructionTokenizer, ids: tuple[str, ...] = ("noise", "haze")
) -> DiffusionRun:
    validation = sorted(photos.iterdir())[:1]
    return DiffusionRun(out, [parse_source(str(photos))], ids, installed_plugins(), tokenizer, validation)


def losses(run: Path) -> list[float]:
    with (run / "metrics.csv").open() as file:
        return [float(row["value"]) for row in csv.DictReader(file) if row["name"] == "loss"]


def test_a_run_leaves_a_pipeline_metrics_and_pictures(tmp_path, photos, tokenizer):
    folder = train_diffusion(TINY, make_run(tmp_path / "run", photos, tokenizer), ALONE)
    index = json.loads((folder / "model_index.json").read_text())
    assert index["damage_scale"] == TINY.damage_scale
    assert {path.name for path in folder.iterdir()} == {"model_index.json", "unet", "tokenizer", "scheduler"}
    assert (tmp_path / "run" / "curve.png").stat().st_size > 1000
    assert (tmp_path / "run" / "pictures" / "step-00000006.jpg").exists()
    with (tmp_path / "run" / "metrics.csv").open() as file:
        names = {row["name"] for row in csv.DictReader(file)}
    assert {"loss", "lr", "grad_norm", "samples_per_s", "waiting", "gain/noise", "gain/haze"} <= names


def test_training_lowers_the_loss(tmp_path, photos, tokenizer):
    config = replace(TINY, steps=40, phases=(Phase(1.0, 32, 16),), save_every=40, validate_every=1000)
    train_diffusion(config, make_run(tmp_path, photos, tokenizer, ("haze",)), ALONE)
    curve = losses(tmp_path)
    assert np.mean(curve[-8:]) < 0.85 * np.mean(curve[:8])


def test_an_interrupted_run_continues_to_the_same_weights(tmp_path, photos, tokenizer):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train_diffusion(TINY, make_run(whole, photos, tokenizer), ALONE)
    train_diffusion(TINY, make_run(broken, photos, tokenizer), ALONE)
    last = latest_checkpoint(broken / "checkpoints")
    assert last is not None and last.name == "step-00000006"
    for path in sorted(last.iterdir()):
        path.unlink()
    last.rmdir()  # as if the run had been killed between the third step and the sixth
    train_diffusion(TINY, make_run(broken, photos, tokenizer), ALONE)
    _, one = load_checkpoint(latest_checkpoint(whole / "checkpoints"))
    _, two = load_checkpoint(latest_checkpoint(broken / "checkpoints"))
    for part in ("model", "ema"):
        for name, tensor in one[part].items():
            assert torch.equal(tensor, two[part][name]), name
    assert losses(whole) == losses(broken)


def test_micro_batches_give_the_same_gradient(tmp_path, photos, tokenizer):
    curves = []
    for micro in (0, 2):
        out = tmp_path / str(micro)
        train_diffusion(replace(TINY, micro_batch=micro, steps=3, muon_lr=0.0), make_run(out, photos, tokenizer), ALONE)
        curves.append(losses(out))
    assert np.allclose(*curves, atol=0.02)


@pytest.mark.parametrize(("muon_lr", "learns"), [(0.0, "all"), (0.0, "trunk"), (0.006, "all")])
def test_two_processes_compute_what_one_does(tmp_path, photos, tokenizer, muon_lr, learns):
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    widths = "8,8"
    common = [
        "train", "--data", str(photos), "--tokenizer", str(tmp_path / "tokenizer"),
        "--plugin", "noise", "--plugin", "haze",
        "--set", "phases=32x8", "--set", "steps=5", "--set", "warmup=1", "--set", "log_every=1", "--set", "workers=0",
        "--set", "synthesis.view_px=64", "--set", "synthesis.crops_per_view=2", "--set", "instruction_slots=2",
        "--set", f"backbone_options.widths={widths}", "--set", "backbone_options.blocks=1,1",
        "--set", "backbone_options.cross_attention_dim=32", "--set", "backbone_options.condition_dim=16",
        "--set", f"muon_lr={muon_lr}", "--set", "coarse_steps=1", "--set", "coarse_views=4",
        "--set", f"learns={learns}",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment.pop("RANK", None)
    for name, extra in (("one", []), ("two", ["--gpus", "2"])):
        command = [sys.executable, "-m", "defusion_cli", *common, "--out", str(tmp_path / name), *extra]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(one) == 5
    assert np.allclose(one, two, rtol=0.02, atol=0.02), (one, two)
    if muon_lr:
        return  # it blows the rounding of bfloat16 up where there is next to no gradient: equal curves, other weights
    _, a = load_checkpoint(latest_checkpoint(tmp_path / "one" / "checkpoints"))
    _, b = load_checkpoint(latest_checkpoint(tmp_path / "two" / "checkpoints"))
    for name, tensor in a["model"].items():
        assert torch.allclose(tensor, b["model"][name], atol=5e-3), name


def three_steps(training: DiffusionTraining, run: DiffusionRun) -> list[set[str]]:
    """Take them; the names of what each has changed in the network."""
    config, changed = training.config, []
    maker = ViewMaker(run.sources, run.ids, run.plugins, config.synthesis)
    for batch in view_batches(maker, 0, range(3), config.crop_px, lambda step: slice(0, config.views(step))):
        before = {name: tensor.clone() for name, tensor in training.model.state_dict().items()}
        training.train_step(batch)
        after = training.model.state_dict()
        changed.append({name for name, tensor in after.items() if not torch.equal(tensor, before[name])})
    return changed


def test_the_coarse_branch_learns_alone_at_first(tmp_path, photos, tokenizer):
    options = TINY.backbone_options | {"coarse": True}
    run = make_run(tmp_path, photos, tokenizer)
    config = replace(TINY, backbone_options=options, coarse_steps=2, coarse_views=4, steps=10)
    changed = three_steps(DiffusionTraining(config, run, ALONE), run)
    assert changed[0] | changed[1]
    assert {name.split(".")[0] for name in changed[0] | changed[1]} == {"coarse_branch"}
    assert "conv_out.weight" in changed[2]


def test_the_trunk_learns_and_the_branches_stay_what_they_are(tmp_path, photos, tokenizer):
    options = TINY.backbone_options | {"coarse": True, "sharpen": True}
    run = make_run(tmp_path, photos, tokenizer)
    config = replace(TINY, backbone_options=options, learns="trunk", coarse_steps=1, coarse_views=4, steps=5)
    alone, *together = three_steps(DiffusionTraining(config, run, ALONE), run)
    assert {name.split(".")[0] for name in alone} == {"coarse_branch"}
    assert all("conv_out.weight" in names for names in together)
    assert not {"coarse_branch", "sharpening"} & {name.split(".")[0] for names in together for name in names}


def test_the_sharpening_branch_learns_alone(tmp_path, photos, tokenizer):
    options = TINY.backbone_options | {"coarse": True, "sharpen": True}
    run = make_run(tmp_path, photos, tokenizer, ("motion-blur", "noise"))
    training = DiffusionTraining(replace(TINY, backbone_options=options, learns="sharpening"), run, ALONE)
    for names in three_steps(training, run):
        assert names and {name.split(".")[0] for name in names} == {"sharpening"}
    with pytest.raises(UsageError, match="sharpening branch"):
        replace(TINY, learns="sharpening")


@pytest.mark.parametrize("shown", [("motion-blur",), ("motion-blur", "noise"), ("noise",), ()])
def test_sharpening_is_an_error_where_no_blur_is_shown(tmp_path, photos, tokenizer, shown):
    """However near it comes to what must go."""
    options = TINY.backbone_options | {"sharpen": True}
    run = make_run(tmp_path, photos, tokenizer, ("motion-blur", "noise"))
    training = DiffusionTraining(replace(TINY, backbone_options=options, learns="sharpening"), run, ALONE)
    batch = next(batches_of(training, photos))
    torch.nn.init.normal_(training.model.sharpening.lifter, std=1.6)
    part = range(1)
    with torch.no_grad():
        crops = 2 * batch.lq[: TINY.synthesis.crops_per_view] - 1
        made = training.model.sharpening_estimate(crops, training.bank.tokens([shown], [0]), batch.grain[:1])
    assert made.any()
    target = batch.lq.clone()
    target[: len(made)] -= made / 2
    exact = batch._replace(shown=(shown,), slots=(0,), target=target, damage=torch.ones_like(batch.damage))
    loss = float(training._sharpening_loss(exact, part).detach())
    assert (loss < 0) == ("motion-blur" in shown)


def test_the_coarse_branch_learns_alone_at_last(tmp_path, photos, tokenizer):
    options = TINY.backbone_options | {"coarse": True}
    run = make_run(tmp_path, photos, tokenizer)
    config = replace(TINY, backbone_options=options, coarse_last=2, coarse_views=4, steps=3)
    changed = three_steps(DiffusionTraining(config, run, ALONE), run)
    assert "conv_out.weight" in changed[0]
    assert [{name.split(".")[0] for name in names} for names in changed[1:]] == [{"coarse_branch"}] * 2


def test_later_steps_learn_and_one_step_stays_what_it_is(tmp_path, photos, tokenizer):
    options = TINY.backbone_options | {"coarse": True, "late": True}
    run = make_run(tmp_path, photos, tokenizer)
    first = DiffusionTraining(replace(TINY, backbone_options=options), run, ALONE)
    for name, weights in first.ema.shadow.items():
        if name.endswith(("film.weight", "conv_out.weight")):  # zero in a fresh network
            weights.normal_(std=0.1, generator=torch.Generator().manual_seed(0))
    config = replace(
        TINY, backbone_options=options, learns="late", lr=0.1, warmup=0, ema_decay=0.1, coarse_steps=2, coarse_last=9
    )
    training = DiffusionTraining(config, replace(run, init_from=export(first.pipeline(), tmp_path / "all")), ALONE)
    photo = torch.rand((1, 3, 40, 56), generator=torch.Generator().manual_seed(0))
    tokens = training.bank.tokens([("noise",)], [0])

    def restored(steps: int) -> torch.Tensor:
        noise = torch.randn(photo.shape, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            return training.pipeline().damage(photo, tokens, noise, steps)

    before = restored(1), restored(3)
    three_steps(training, run)
    assert torch.equal(restored(1), before[0])
    assert not torch.allclose(restored(3), before[1])
    with pytest.raises(UsageError, match=r"backbone_options\.late"):
        replace(TINY, learns="late")


def test_without_a_coarse_branch_there_is_nothing_to_learn_alone():
    with pytest.raises(UsageError, match="coarse branch"):
        replace(TINY, coarse_steps=3)


def test_another_recipe_in_the_same_folder_is_refused(tmp_path, photos, tokenizer):
    train_diffusion(replace(TINY, steps=3), make_run(tmp_path, photos, tokenizer), ALONE)
    with pytest.raises(UsageError, match="other settings"):
        train_diffusion(replace(TINY, lr=1e-3), make_run(tmp_path, photos, tokenizer), ALONE)


def test_a_run_that_goes_on_with_other_photographs_says_so(tmp_path, photos, tokenizer, capsys):
    fewer, run = tmp_path / "fewer", tmp_path / "run"
    shutil.copytree(photos, tmp_path / "moved" / "photos")
    train_diffusion(replace(TINY, steps=3), make_run(run, photos, tokenizer), ALONE)
    train_diffusion(replace(TINY, steps=4), make_run(run, tmp_path / "moved" / "photos", tokenizer), ALONE)
    assert "others than before" not in capsys.readouterr().err
    shutil.copytree(photos, fewer)
    (fewer / "2.png").unlink()
    train_diffusion(TINY, make_run(run, fewer, tokenizer), ALONE)
    told = " ".join(capsys.readouterr().err.split())
    assert "the photographs are others than before (3 files" in told and "now 2 files" in told


def test_a_diverging_run_stops_with_advice(tmp_path, photos, tokenizer):
    training = DiffusionTraining(TINY, make_run(tmp_path, photos, tokenizer), ALONE)
    with pytest.raises(DefusionError, match="diverged"):
        for _ in range(20):
            training._update(torch.tensor(float("nan")))


def test_a_gradient_far_longer_than_usual_is_not_followed(tmp_path, photos, tokenizer):
    training = DiffusionTraining(TINY, make_run(tmp_path, photos, tokenizer), ALONE)
    weights = training.model.conv_in.weight

    def moved(norm: float) -> bool:
        for parameter in training.model.parameters():
            parameter.grad = torch.ones_like(parameter)
        before = weights.detach().clone()
        training._update(torch.tensor(norm))
        training.step += 1
        return not torch.equal(before, weights)

    assert moved(100.0)  # nobody knows yet what is usual
    assert all(moved(norm) for norm in [1.0, 3.0, 2.0, 0.5] * 30)
    assert not moved(1000.0) and not moved(float("inf"))
    assert moved(2.0)
    other = DiffusionTraining(TINY, make_run(tmp_path, photos, tokenizer), ALONE)
    other.load_state(training.step, training.state())
    assert not other.guard.accepts(1000.0) and other.guard.accepts(2.0)


def test_learning_rate_rises_holds_and_falls():
    config = DiffusionConfig(steps=1000, lr=1e-3, lr_min=1e-6, warmup=100, hold=0.5)
    assert config.learning_rate(0) == pytest.approx(1e-5)
    assert config.learning_rate(100) == config.learning_rate(499) == 1e-3
    assert config.learning_rate(750) == pytest.approx((1e-3 + 1e-6) / 2, rel=1e-3)
    assert config.learning_rate(1000) == pytest.approx(1e-6)


def test_the_coarse_branch_has_a_learning_rate_of_its_own():
    options = {"coarse": True}
    config = DiffusionConfig(backbone_options=options, steps=1000, coarse_steps=200, coarse_lr=4e-3, warmup=100)
    assert config.learning_rate(0) == pytest.approx(4e-3 / 10, rel=1e-3)
    assert config.learning_rate(100) == pytest.approx(2e-3) and config.learning_rate(199) < 1e-5
    assert config.learning_rate(200) == pytest.approx(config.lr / 100)
    assert (config.views(199), config.views(200)) == (64, config.phases[0].batch // config.synthesis.crops_per_view)
    config = replace(config, coarse_steps=0, coarse_last=200, phases=(Phase(0.5, 32, 32), Phase(1.0, 48, 8)))
    assert config.learning_rate(799) == pytest.approx(config.lr_min, rel=0.1)
    assert config.learning_rate(800) == pytest.approx(config.lr / 10, rel=1e-3)
    assert config.learning_rate(900) == pytest.approx(config.lr / 2) and config.learning_rate(999) < 1e-7
    assert (config.crop_px(399), config.crop_px(400)) == (32, 48)  # phases are those of the learning together
    assert (config.views(799), config.views(800)) == (8 // config.synthesis.crops_per_view, 64)


def test_the_coarse_branch_is_shown_damage_of_its_own_choice():
    shares = {"snow": 2.0}
    synthesis = SynthesisConfig(emphasis={"noise": 3.0}, coarse_emphasis=shares)
    config = DiffusionConfig(backbone_options={"coarse": True}, steps=100, coarse_last=10, synthesis=synthesis)
    assert config.synthesis_at(50).emphasis == {"noise": 3.0} and config.synthesis_at(95).emphasis == shares
    assert replace(synthesis, coarse_emphasis={}).coarse().emphasis == {"noise": 3.0}


def test_paper_preset_is_the_supplement_to_the_letter():
    paper = PRESETS["paper"]
    assert (paper.steps, paper.betas, paper.lr, paper.lr_min) == (600_000, (0.9, 0.99), 1e-4, 1e-6)
    assert paper.phases == (Phase(1.0, 256, 32),)
    assert paper.synthesis.blind_share == 0.1
    assert paper.learning_rate(0) == 1e-4
    assert paper.learning_rate(300_000) == pytest.approx((1e-4 + 1e-6) / 2)


def test_the_paper_backbone_trains(tmp_path, photos, tokenizer):
    tiny_unet = {
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "cross_attention_dim": 32,
        "attention_head_dim": 8,
        "norm_num_groups": 4,
    }
    config = replace(
        PRESETS["paper"],
        backbone_options=tiny_unet,
        steps=2,
        phases=(Phase(1.0, 32, 4),),
        instruction_slots=1,
        log_every=1,
        workers=0,
        synthesis=replace(PRESETS["paper"].synthesis, view_px=32),
    )
    train_diffusion(config, make_run(tmp_path, photos, tokenizer), ALONE)
    index = json.loads((tmp_path / "model" / "model_index.json").read_text())
    assert index["unet"] == ["diffusers", "UNet2DConditionModel"]


@pytest.mark.parametrize(
    ("setting", "field", "value"),
    [
        ("steps=77", "steps", 77),
        ("betas=0.8,0.95", "betas", (0.8, 0.95)),
        ("loss=mse", "loss", "mse"),
        ("muon_lr=0", "muon_lr", 0.0),
    ],
)
def test_settings_reach_the_recipe(setting, field, value):
    assert getattr(diffusion_config("default", [setting]), field) == value


def test_emphasis_is_set_by_name():
    config = diffusion_config("default", ["synthesis.emphasis.motion-blur=2.5"])
    assert config.synthesis.emphasis["motion-blur"] == 2.5


def test_settings_that_allow_one_another_come_in_any_order():
    settings = ["backbone=unet2d", "backbone_options.coarse=false", "coarse_steps=0", "coarse_last=0"]
    for order in (settings, settings[::-1]):
        assert diffusion_config("default", order).backbone == "unet2d"
    late = ["learns=late", "backbone_options.late=true"]
    assert diffusion_config("default", late) == diffusion_config("default", late[::-1])


def test_phases_and_batch_settings():
    config = diffusion_config("default", ["phases=64x32@0.6,192x8@1"])
    assert config.phases == (Phase(0.6, 64, 32), Phase(1.0, 192, 8))
    assert {phase.batch for phase in diffusion_config("paper", ["batch=8"]).phases} == {8}


@pytest.mark.parametrize(
    "setting", ["stepz=1", "steps=many", "batch=-1", "phases=64by3", "steps", "loss=l7", "batch=3"]
)
def test_bad_settings_are_explained(setting):
    with pytest.raises(UsageError):
        diffusion_config("default", [setting])


def test_batches_that_cannot_be_shared_are_refused():
    with pytest.raises(UsageError, match="shared"):
        Rank(0, 3, torch.device("cpu")).share(8)


def test_missing_folders_are_explained(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        parse_source(str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="no pictures"):
        parse_source(str(tmp_path))


def test_a_relative_loss_hears_faint_damage_and_weighs_the_crops_of_a_view_by_their_squares():
    y0 = torch.zeros(4, 3, 8, 8)
    estimate = torch.tensor([0.3, 0.1, 0.02, 0.0])[:, None, None, None].expand(4, 3, 8, 8)
    strong = crop_losses(estimate, y0, torch.full((4,), 0.4), "relative")
    faint = crop_losses(estimate, y0, torch.full((4,), 0.1), "relative")
    assert float(strong[0] / strong[1]) == pytest.approx(9, rel=0.02)
    assert float(faint[2] / strong[2]) == pytest.approx(4)
    # But an error larger than the damage itself counts no more than in proportion.
    assert float(faint[0] / faint[1]) < 6
    # Where nothing is to be removed, even a little counts.
    nothing = crop_losses(estimate, y0, torch.zeros(4), "relative")
    assert float(nothing[2]) > 3 * float(faint[2]) and float(nothing[0] / nothing[1]) < 4


def test_a_balanced_loss_counts_an_error_against_what_is_usual():
    y0 = torch.zeros(3, 3, 8, 8)
    estimate = torch.tensor([0.1, 0.1, 0.1])[:, None, None, None].expand(3, 3, 8, 8)
    sizes = torch.tensor([0.4, 0.4, 0.0])
    usual = torch.tensor([0.05, 0.0125, 9.0])
    once, fourfold, nothing = crop_losses(estimate, y0, sizes, "balanced", usual).tolist()
    assert fourfold == pytest.approx(4 * once) and once == pytest.approx(0.01 / 0.4 / 0.05, rel=0.02)
    unasked = crop_losses(estimate, y0, sizes, "relative")[2]
    assert nothing == pytest.approx(2.5 * float(unasked))  # whatever is said to be usual there


@pytest.mark.parametrize("kind", ["relative", "balanced"])
def test_a_change_where_nothing_was_damaged_counts_for_more(kind):
    y0 = torch.zeros(2, 3, 8, 8)
    y0[:, 1, :4] = 0.2  # the upper half is damaged, in one channel
    touched, alone = y0.clone(), y0.clone()
    touched[:, :, :4] += 0.02
    alone[:, :, 4:] += 0.02
    sizes, usual = torch.tensor([0.1, 0.0]), torch.tensor([0.1, 0.1])
    for weight in (0.0, 0.03):
        untouched = torch.full((2,), weight)
        above, below = (crop_losses(x, y0, sizes, kind, usual, untouched) for x in (touched, alone))
        ratio = (below / above).tolist()
        # (0.02² + weight · 0.02) / 0.02², but for the floor under errors; nothing new where all of it is needless.
        assert ratio == pytest.approx([1 if not weight else 2.0, 1.0], abs=0.01)


@pytest.mark.parametrize(
    ("shown", "matters"), [(("rain",), True), (("rain", "noise"), False), (("noise",), False), ((), False)]
)
def test_what_was_left_alone_matters_where_only_sparse_damage_is_shown(tmp_path, photos, tokenizer, shown, matters):
    """Noise too leaves a pixel alone now and then, but by accident."""
    run = make_run(tmp_path, photos, tokenizer, ("rain", "noise"))
    heard, deaf = (DiffusionTraining(replace(TINY, untouched_weight=w), run, ALONE) for w in (0.5, 0.0))
    y0 = torch.zeros(2, 3, 8, 8)
    y0[:, :, :4] = 0.2
    change, sizes = y0 + 0.01, torch.tensor([0.14, 0.14])
    with_weight, without = (float(t._crop_loss(change, y0, sizes, [shown])) for t in (heard, deaf))
    assert (with_weight > 1.5 * without) == matters and (matters or with_weight == without)


def test_what_was_left_alone_is_not_looked_at_without_a_weight(tmp_path, photos, tokenizer, monkeypatch):
    training = DiffusionTraining(replace(TINY, untouched_weight=0.0), make_run(tmp_path, photos, tokenizer), ALONE)
    monkeypatch.setattr("defusion_cli.training.losses._change_of_untouched", lambda *given: pytest.fail("looked at"))
    training._crop_loss(torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, 8, 8), torch.zeros(2), [("rain",)])


def test_a_run_goes_on_with_what_it_found_usual(tmp_path, photos, tokenizer):
    config = replace(TINY, loss="balanced")
    run = make_run(tmp_path, photos, tokenizer)
    training = DiffusionTraining(config, run, ALONE)
    batch = next(batches_of(training, photos))
    for _ in range(2):
        training.train_step(batch)
    seen = training.balance.seen
    assert float(seen.sum()) == 2 * config.phases[0].batch and not torch.equal(
        training.balance.usual, Balance(run.ids, 0.2).usual
    )
    again = DiffusionTraining(config, run, ALONE)
    again.load_state(2, training.state())
    assert torch.equal(again.balance.usual, training.balance.usual) and torch.equal(again.balance.seen, seen)


def test_later_steps_learn_from_own_estimates_and_the_first_from_none():
    config = replace(TINY, pure_noise_share=0.5, own_share=0.6)
    _, paths = draw_noise(config, 0, range(200), torch.Size((400, 3, 2, 2)))
    later = [path for path in paths if path != [999]]
    own = [path for path in later if len(path) > 1]
    assert len(later) == pytest.approx(200, abs=25) and len(own) / len(later) == pytest.approx(0.6, abs=0.1)
    assert all(len(path) == 2 and path[0] == 999 for path in own)

    config = replace(config, own_steps=3, own_share=1.0)
    _, paths = draw_noise(config, 0, range(200), torch.Size((400, 3, 2, 2)))
    plans = [restoring_steps(steps) for steps in (2, 3, 4)]
    assert {tuple(path) for path in paths} == {(999,)} | {tuple(p[:n]) for p in plans for n in range(2, len(p) + 1)}


def test_own_estimates_are_those_of_restoring(tmp_path, photos, tokenizer):
    training = DiffusionTraining(TINY, make_run(tmp_path, photos, tokenizer), ALONE)
    torch.nn.init.normal_(training.model.conv_out.weight, std=0.02)
    training.ema.shadow["conv_out.weight"].copy_(training.model.conv_out.weight)
    batch = next(batches_of(training, photos))
    lq = 2 * batch.lq - 1
    thumbnail = torch.rand(len(batch.cells), 3, 256, 256, generator=torch.Generator().manual_seed(1))
    tokens = training.bank.tokens(batch.shown, batch.slots)
    given = _Given(lq, batch.boxes, tokens, look_at_cells(2 * thumbnail - 1), batch.grain)
    noise, truth = torch.randn(2, *lq.shape, generator=torch.Generator().manual_seed(0))
    y_t, plan = truth.clone(), restoring_steps(3)
    paths = [[7], plan[:2], plan] + [[999]] * (len(lq) - 3)
    training._walk(y_t, noise, paths, given)
    assert all(torch.equal(y_t[n], truth[n]) for n, path in enumerate(paths) if len(path) == 1)

    restored, asked = training.pipeline(), []
    original = restored._predict

    def predict(sample, *rest):
        asked.append(sample)
        return original(sample, *rest)

    restored._predict = predict
    restored.damage(batch.lq, tokens, noise, 3, thumbnail=thumbnail, boxes=batch.boxes, grain=given.grain)
    for crop, stop in ((1, 1), (2, 2)):
        shown = precondition(training.scheduler, y_t[crop][None], torch.tensor([plan[stop]]))[0]
        torch.testing.assert_close(shown, asked[stop][crop, :3], atol=2e-3, rtol=0.02)
        assert (shown - asked[stop][crop, :3]).abs().max() < 0.1 * (shown - truth[crop]).abs().max()


def test_lpips_counts_after_the_first_step_alone(tmp_path, photos, tokenizer):
    pytest.importorskip("pyiqa")
    lpips = lpips_network(ALONE.device)
    losses = {}
    for pure in (0.0, 1.0):
        for weight in (0.0, 1.0):
            config = replace(TINY, pure_noise_share=pure, perceptual_weight=weight)
            training = DiffusionTraining(config, make_run(tmp_path, photos, tokenizer), ALONE, lpips)
            batch = next(batches_of(training, photos))
            loss = training._loss(batch, range(len(batch.numbers)))
            losses[pure, weight] = float(loss.detach())
    assert losses[1.0, 1.0] == pytest.approx(losses[1.0, 0.0], abs=1e-6)
    assert losses[0.0, 1.0] > losses[0.0, 0.0] + 0.01
    loss.backward()


def batches_of(training: DiffusionTraining, photos: Path) -> Iterator[Batch]:
    """What `training` is shown."""
    config = training.config
    maker = ViewMaker([parse_source(str(photos))], ("noise", "haze"), installed_plugins(), config.synthesis)
    return view_batches(maker, 0, range(1), lambda _: 64, lambda _: range(4), 0, lambda _: False)
