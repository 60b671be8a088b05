"""The tokenizer's training: it learns, it resumes to the same bits, and it does not care how it is shared."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from defusion_cli.errors import DataError, DefusionError, UsageError
from defusion_cli.images import write_image
from defusion_cli.plugins import installed_plugins
from defusion_cli.tokenizer import load_tokenizer
from defusion_cli.training.instructions import InstructionSource, instruction_batches
from defusion_cli.training.launch import Rank
from defusion_cli.training.settings import set_all
from defusion_cli.training.tokenizer import TokenizerRun, _start_from, export_tokenizer, train_tokenizer
from defusion_cli.training.tokenizer_config import PRESETS, TokenizerRecipe, preset
from defusion_cli.training.tokenizer_setup import tokenizer_setup
from defusion_cli.training.tokenizer_state import TokenizerTraining, learning_rate

ALONE = Rank(0, 1, torch.device("cpu"))
TINY = TokenizerRecipe(
    block_out_channels=(4, 4, 8, 8, 8),
    latent_channels=8,
    norm_num_groups=2,
    discriminator_channels=4,
    ground_px=64,
    crop_px=32,
    steps=6,
    batch=4,
    bf16=False,
    warmup_steps=0,
    codebook_start=2,
    revive_every=2,
    gan_start=4,
    log_every=1,
    checkpoint_every=3,
    picture_every=3,
    probe_counts=(4, 2),
    decode_every=2,
)


def source(*ids: str) -> InstructionSource:
    """Instructions of the tiny recipe."""
    return InstructionSource(
        ids, installed_plugins(), TINY.ground_px, TINY.crop_px, TINY.clean_share, TINY.mixture_share
    )


def batch_of(source: InstructionSource, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """One batch of instructions and of what is in them."""
    return next(instruction_batches(source, 0, count, slice(0, count), range(1)))


def metrics(folder: Path) -> dict[tuple[int, str], float]:
    """Everything that was logged, but the speed."""
    with (folder / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["name"] != "samples_per_s"]
    return {(int(row["step"]), row["name"]): float(row["value"]) for row in rows}


def test_samples_do_not_depend_on_how_they_are_shared_or_where_one_starts() -> None:
    rain = source("rain", "noise", "jpeg")
    whole = list(instruction_batches(rain, 5, 4, slice(0, 4), range(2)))
    halves = [list(instruction_batches(rain, 5, 4, part, range(2))) for part in (slice(0, 2), slice(2, 4))]
    for step in range(2):
        assert torch.equal(torch.cat([half[step][0] for half in halves]), whole[step][0])
        assert torch.equal(torch.cat([half[step][1] for half in halves]), whole[step][1])
    resumed = next(instruction_batches(rain, 5, 4, slice(0, 4), range(1, 2)))
    assert torch.equal(resumed[0], whole[1][0])


def test_an_error_in_a_process_of_the_loader_is_a_sentence_not_a_traceback(tmp_path: Path) -> None:
    vanished = dataclasses.replace(source("rain"), natural_dir=tmp_path / "gone")
    for workers in (0, 1):
        with pytest.raises(DataError) as caught:
            next(instruction_batches(vanished, 0, 2, slice(0, 2), range(1), workers))
        assert str(tmp_path / "gone") in caught.value.failed and "Traceback" not in str(caught.value)


def test_samples_are_single_mixed_and_clean_in_the_asked_shares() -> None:
    mixed = dataclasses.replace(source("noise", "jpeg", "haze", "rain"), clean_share=0.2, mixture_share=0.5)
    present = np.stack([mixed.draw(np.random.default_rng(k))[1] for k in range(200)]).sum(1)
    assert (present == 0).mean() == pytest.approx(0.2, abs=0.08)
    assert (present >= 2).mean() == pytest.approx(0.5, abs=0.1)
    assert present.max() == 3


def test_clean_sample_is_exactly_zero() -> None:
    clean = dataclasses.replace(source("noise"), clean_share=1.0, mixture_share=0.0)
    residual, present = clean.draw(np.random.default_rng(0))
    assert residual.shape == (32, 32, 3)
    assert not residual.any()
    assert present.tolist() == [0.0]


def test_training_reduces_the_loss_on_a_fixed_batch() -> None:
    recipe = dataclasses.replace(TINY, steps=40, gan_weight=0.0, learning_rate=3e-3)
    training = TokenizerTraining(recipe, 0, ALONE, 2)
    instruction, present = batch_of(source("rain", "noise"), 4)
    losses = [training.train_step(instruction, present) for _ in range(40)]
    for name in ("reconstruction", "statistics", "presence", "blur"):
        assert losses[-1][name] < 0.8 * losses[0][name], name


def test_encodings_start_centred_so_that_tokens_differ() -> None:
    training = TokenizerTraining(TINY, 0, ALONE, 2)
    instruction, _ = batch_of(source("rain", "noise"), 4)
    training._centre_encodings(instruction)
    with torch.no_grad():
        encoding = training.tokenizer.latents(instruction)
    per_dimension = encoding.transpose(0, 1).flatten(1)
    assert per_dimension.mean(1).abs().max() < 1e-3
    assert per_dimension.square().mean().item() == pytest.approx(1, abs=0.01)


def test_codebook_starts_from_the_encodings_and_dead_entries_come_back() -> None:
    training = TokenizerTraining(TINY, 0, ALONE, 2)
    before = training.tokenizer.codebook.detach().clone()
    instruction, present = batch_of(source("rain", "noise"), 4)
    shares = []
    for _ in range(TINY.steps):
        values = training.metrics(training.train_step(instruction, present))
        shares.append(values.get("codebook_share"))
        if training.step == TINY.codebook_start:
            assert torch.equal(training.tokenizer.codebook, before), "the codebook rests until it starts"
            assert len(training.recent) == 2 * 4 * 4
    assert not torch.equal(training.tokenizer.codebook, before)
    assert len(training.recent) == 0
    # All 1,024 entries were replaced by encodings: of a batch of 16 tokens most now choose entries of their own.
    assert shares[-1] is not None
    assert shares[-1] >= 8 / 1024


def test_adversary_waits_for_its_start() -> None:
    training = TokenizerTraining(TINY, 0, ALONE, 2)
    instruction, present = batch_of(source("rain", "noise"), 4)
    names = [set(training.train_step(instruction, present)) for _ in range(TINY.steps)]
    assert ["discriminator" in step for step in names] == [step >= TINY.gan_start for step in range(TINY.steps)]
    assert ["adversarial" in step for step in names] == [step >= TINY.gan_start for step in range(TINY.steps)]
    assert ["vq" in step for step in names] == [step >= TINY.codebook_start for step in range(TINY.steps)]


def test_perceptual_distance_is_used_when_it_has_a_weight() -> None:
    calls = []

    def distance(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        calls.append((float(x.detach().min()), float(y.max())))
        return (x - y).square()

    recipe = dataclasses.replace(TINY, lpips_weight=0.5)
    training = TokenizerTraining(recipe, 0, ALONE, 2, distance)
    losses = training.train_step(*batch_of(source("rain", "noise"), 4))
    assert losses["lpips"] > 0
    assert 0 <= calls[0][0] <= calls[0][1] <= 1


def test_interrupted_run_continues_to_the_same_weights_bit_for_bit(tmp_path: Path) -> None:
    instructions = source("noise", "jpeg")
    whole, cut = (TokenizerRun(tmp_path / name, instructions, seed=3, workers=0) for name in ("whole", "cut"))
    train_tokenizer(TINY, whole, ALONE)
    first_half = TokenizerTraining(TINY, 3, ALONE, 2)
    _stop_after(first_half, cut, 3)
    train_tokenizer(TINY, cut, ALONE)
    expected, found = (load_tokenizer(str(run.out / "tokenizer")).state_dict() for run in (whole, cut))
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name
    later = {key: value for key, value in metrics(whole.out).items() if key[0] > 3}
    assert {key: value for key, value in metrics(cut.out).items() if key[0] > 3} == later


def test_a_run_stopped_at_any_step_leaves_what_an_unstopped_one_does(tmp_path: Path, monkeypatch) -> None:
    """Metrics that are not of every step, and the picture of the very step, are not lost."""
    instructions = source("noise", "jpeg")
    recipe = dataclasses.replace(TINY, revive_every=3, picture_every=2)
    whole, cut = (TokenizerRun(tmp_path / name, instructions, seed=3, workers=0) for name in ("whole", "cut"))
    train_tokenizer(recipe, whole, ALONE)
    real_step = TokenizerTraining.train_step

    def step_and_stop(self: TokenizerTraining, *batch: torch.Tensor) -> dict[str, torch.Tensor]:
        losses = real_step(self, *batch)
        if self.step == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return losses

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(TokenizerTraining, "train_step", step_and_stop)
        train_tokenizer(recipe, cut, ALONE)
    train_tokenizer(recipe, cut, ALONE)
    assert metrics(cut.out) == metrics(whole.out)
    files = ["tokenizer/diffusion_pytorch_model.safetensors", "checkpoints/step-00000006/tensors.safetensors"]
    for name in files + [f"pictures/step-{step:08d}.png" for step in (2, 4, 6)]:
        assert (cut.out / name).read_bytes() == (whole.out / name).read_bytes(), name


def test_a_training_that_diverges_ends_and_keeps_no_checkpoint_of_it(tmp_path: Path) -> None:
    run = TokenizerRun(tmp_path, source("noise", "jpeg"), workers=0)
    with pytest.raises(DefusionError, match=r"(?s)diverged: after step \d.*learning_rate=5e\+29"):
        train_tokenizer(dataclasses.replace(TINY, learning_rate=1e30), run, ALONE)
    assert not (tmp_path / "checkpoints").exists() and not (tmp_path / "tokenizer").exists()


def test_a_run_that_goes_on_with_other_photographs_says_so(tmp_path: Path, photo, capsys) -> None:
    write_image(tmp_path / "photos/a.png", photo)
    runs = [
        TokenizerRun(tmp_path / "run", dataclasses.replace(source("noise"), natural_dir=folder), workers=0)
        for folder in (None, tmp_path / "photos", tmp_path / "photos")
    ]
    told = []
    for run in runs:
        train_tokenizer(TINY, run, ALONE)
        told.append("photographs are others" in capsys.readouterr().err)
    assert told == [False, True, False]


def _stop_after(training: TokenizerTraining, run: TokenizerRun, steps: int) -> None:
    """What a run that was killed after its checkpoint leaves behind."""
    from defusion_cli.training.checkpoint import save_checkpoint

    for batch in instruction_batches(run.source, run.seed, TINY.batch, training.share, range(steps)):
        training.train_step(*batch)
    save_checkpoint(run.out / "checkpoints", training.step, training.state())


def test_run_leaves_model_metrics_pictures_and_recipe(tmp_path: Path) -> None:
    run = TokenizerRun(tmp_path, source("haze", "noise"), workers=0)
    result = train_tokenizer(TINY, run, ALONE)
    assert result is not None
    assert result.ids == ("haze", "noise")
    assert (tmp_path / "tokenizer" / "config.json").is_file()
    assert (tmp_path / "curve.png").is_file()
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == ["step-00000003.png", "step-00000006.png"]
    assert json.loads((tmp_path / "recipe.json").read_text())["plugins"] == ["haze", "noise"]
    assert metrics(tmp_path)[6, "perplexity"] > 1
    with pytest.raises(UsageError, match=r"other settings.*\n.*learning_rate"):
        train_tokenizer(dataclasses.replace(TINY, learning_rate=1e-5), run, ALONE)


@pytest.mark.parametrize("name", PRESETS)
def test_each_preset_takes_a_step_with_a_small_network(name: str) -> None:
    recipe = set_all(preset(name), ["block_out_channels=32,32,32,32,32", "crop_px=32", "ground_px=64", "batch=2"])
    training = TokenizerTraining(recipe, 0, ALONE, 2)
    small = dataclasses.replace(source("rain", "noise"), ground_px=64, crop_px=32)
    losses = training.train_step(*batch_of(small, 2))
    assert torch.isfinite(losses["total"])


def test_paper_preset_is_the_supplement() -> None:
    recipe = preset("paper")
    assert (recipe.learning_rate, recipe.beta1, recipe.beta2, recipe.batch) == (4.5e-6, 0.5, 0.9, 8)
    assert (recipe.commitment, recipe.gan_weight, recipe.crop_px) == (1.0, 0.8, 224)
    assert (recipe.statistics_weight, recipe.presence_weight, recipe.blur_weight) == (0.0, 0.0, 0.0)
    assert recipe.decode_every == 1
    assert learning_rate(recipe, 0) == learning_rate(recipe, 400_000) == 4.5e-6


def test_default_rate_warms_up_and_falls_to_a_hundredth() -> None:
    recipe = preset("default")
    assert learning_rate(recipe, 0) == pytest.approx(recipe.learning_rate / recipe.warmup_steps)
    assert learning_rate(recipe, recipe.warmup_steps) == pytest.approx(recipe.learning_rate)
    assert learning_rate(recipe, recipe.steps) == pytest.approx(recipe.learning_rate / 100)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["crop_px=100"], "crop_px"),
        (["stepz=5"], "steps"),
        (["steps=many"], "whole number"),
        (["steps=0"], "1 or more"),
        (["bf16=maybe"], "true or false"),
        (["companding=2"], "at most 1"),
        (["emphasis.rain=0", "emphasis.noise=0"], "leaves no degradation to draw"),
        (["emphasis.rian=3"], "did you mean rain"),
    ],
)
def test_bad_settings_are_explained(settings: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(DefusionError, match=message):
        tokenizer_setup("default", settings, tmp_path, plugin_ids=["rain", "noise"])


def test_settings_that_bound_one_another_come_in_any_order(tmp_path: Path) -> None:
    recipe, run = tokenizer_setup("default", ["ground_px=64", "crop_px=32"], tmp_path)
    assert (recipe.ground_px, recipe.crop_px) == (run.source.ground_px, run.source.crop_px) == (64, 32)


def test_bad_names_are_explained(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"accepted: default, paper"):
        tokenizer_setup("papre", [], tmp_path)
    with pytest.raises(DefusionError, match="did you mean rain"):
        tokenizer_setup("default", [], tmp_path, plugin_ids=["rian"])
    with pytest.raises(DefusionError, match=r"missing\.ckpt does not exist"):
        tokenizer_setup("paper", [], tmp_path, init_from=tmp_path / "missing.ckpt")


def test_a_tokenizer_of_ours_is_a_place_to_start_from(tmp_path: Path) -> None:
    torch.manual_seed(3)
    trained = TokenizerTraining(TINY, 3, ALONE, 2).tokenizer
    export_tokenizer(trained, tmp_path / "tokenizer")
    fresh = TokenizerTraining(TINY, 4, ALONE, 2).tokenizer
    _start_from(fresh, tmp_path / "tokenizer")
    assert all(
        torch.allclose(a, b, atol=1e-3)
        for a, b in zip(trained.state_dict().values(), fresh.state_dict().values(), strict=True)
    )
    other = TokenizerTraining(dataclasses.replace(TINY, latent_channels=16), 4, ALONE, 2).tokenizer
    with pytest.raises(DataError, match="cannot be taken over"):
        _start_from(other, tmp_path / "tokenizer")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="is no tokenizer"):
        tokenizer_setup("default", [], tmp_path, init_from=tmp_path / "empty")


def test_a_tokenizer_without_the_shape_of_blur_can_learn_it(tmp_path: Path) -> None:
    plain = TokenizerTraining(dataclasses.replace(TINY, sees_blur_shape=False), 3, ALONE, 2).tokenizer
    export_tokenizer(plain, tmp_path / "tokenizer")
    seeing = TokenizerTraining(TINY, 4, ALONE, 2).tokenizer
    _start_from(seeing, tmp_path / "tokenizer")
    residual = batch_of(source("rain", "noise"), 4)[0]
    torch.testing.assert_close(seeing.encode(residual), plain.encode(residual), atol=0.02, rtol=0)  # float16 files


def test_emphasis_shows_a_plugin_more_often() -> None:
    plugins = installed_plugins()
    source = InstructionSource(("noise", "rain", "snow"), plugins, mixture_share=0.0, emphasis={"noise": 4.0})
    rng = np.random.default_rng(0)
    share = np.mean([source._draw_ids(rng) == ["noise"] for _ in range(2000)])
    assert share == pytest.approx(0.97 * 4 / 6, abs=0.04)
    rare = dataclasses.replace(source, clean_share=0.0, mixture_share=1.0, emphasis={"noise": 0.0, "snow": 0.0})
    assert {tuple(rare._draw_ids(rng)) for _ in range(50)} == {("rain",)}, "what is never drawn is in no mixture"
    recipe, run = tokenizer_setup("default", ["emphasis.motion-blur=3"], Path("unused"))
    assert recipe.emphasis == run.source.emphasis == {"motion-blur": 3}


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path: Path) -> None:
    """The command line under torchrun with two gloo processes gives the losses of one process."""
    settings = {**dataclasses.asdict(TINY), "checkpoint_every": 100}
    flags = ["--plugin", "noise", "--plugin", "rain"]
    del settings["emphasis"]  # a table of its own; it is set by plugin, and empty here
    for name, value in settings.items():
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        flags += ["--set", f"{name}={text}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    for out, gpus in (("one", "0"), ("two", "2")):
        command = [sys.executable, "-m", "defusion_cli", "train-tokenizer", *flags]
        command += ["--out", str(tmp_path / out), "--gpus", gpus]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == str(tmp_path / out / "tokenizer")
    one, two = metrics(tmp_path / "one"), metrics(tmp_path / "two")
    assert one.keys() == two.keys()
    for key, value in one.items():
        # The adversary's verdict, of size 1, passes through zero: there only its absolute error says anything.
        assert two[key] == pytest.approx(value, rel=1e-3, abs=5e-4 if "adversarial" in key else 1e-5), key
