"""Settings that are out of range are refused before anything starts, all of them at once."""

from __future__ import annotations

import copy

import cv2
import numpy as np
import pytest

from defusion_cli.errors import DataError, UsageError
from defusion_cli.plugins import installed_plugins
from defusion_cli.training import setup
from defusion_cli.training.checkpoint import remember_recipe, save_checkpoint
from defusion_cli.training.settings import set_all
from defusion_cli.training.tokenizer_config import preset


@pytest.mark.parametrize(
    "setting",
    [
        *("log_every=0", "save_every=0", "validate_every=0", "instruction_slots=0", "steps=0", "steps=-5", "seed=-1"),
        *("betas=0.9", "betas=2,3", "lr=nan", "lr=-1", "lr=inf", "ema_decay=5", "pure_noise_share=7"),
        *("damage_scale=0", "refinement.haze=abc", "ground_kind=zzz", "workers=-1", "own_steps=0", "grad_clip=0"),
        *("synthesis.crops_per_view=0", "synthesis.downscale=0,0", "synthesis.downscale=0.9,0.5"),
        *("synthesis.emphasis.rain=abc", "synthesis.emphasis.rain=-1", "synthesis.blind_share=1.5"),
        *("synthesis.view_px=8", "synthesis.mixture_share=nan"),
    ],
)
def test_what_a_training_cannot_do_is_refused(setting):
    with pytest.raises(UsageError, match="out of range") as caught:
        setup.diffusion_config("default", [setting])
    assert setting.partition("=")[0].removeprefix("synthesis.").split(".")[0] in caught.value.failed
    assert caught.value.accepted and caught.value.fix


@pytest.mark.parametrize(
    ("phases", "fixed"),
    [("64x32@0.5", "192x8@1"), ("64@1", "192x8@1"), ('[{"until":1.0}]', "192x8@1"), ("640x8@1", "view_px")],
)
def test_phases_are_taught_as_they_are_written(phases, fixed):
    with pytest.raises(UsageError) as caught:
        setup.diffusion_config("default", [f"phases={phases}"])
    assert fixed in caught.value.fix
    if fixed != "view_px":
        assert setup.diffusion_config("default", [caught.value.fix.removeprefix("--set ")]).phases[1].batch == 8


def test_all_settings_out_of_range_are_told_at_once():
    with pytest.raises(UsageError) as caught:
        setup.diffusion_config("default", ["lr=0", "save_every=0"])
    assert caught.value.failed == "The settings save_every, lr of the training are out of range."
    assert caught.value.accepted == "save_every 1 or more, lr above 0" and "lr 0.0" in caught.value.found


@pytest.mark.parametrize(
    "setting",
    [
        *("latent_channels=0", "norm_num_groups=3", "norm_num_groups=0", "beta1=2", "block_out_channels="),
        *("learning_rate=inf", "mixture_share=-1", "emphasis.rain=abc", "warmup_steps=-1", "revive_until=nan"),
    ],
)
def test_what_a_tokenizer_training_cannot_do_is_refused(setting):
    with pytest.raises(UsageError, match="out of range"):
        set_all(preset("default"), [setting]).check()


@pytest.mark.parametrize("text", ["{", "[]"])
def test_settings_of_a_run_that_cannot_be_read_are_told(tmp_path, text):
    remember_recipe(tmp_path, {"lr": 1})
    save_checkpoint(tmp_path / "checkpoints", 1, {"x": 1})
    (tmp_path / "recipe.json").write_text(text)
    with pytest.raises(DataError, match=r"recipe\.json") as caught:
        remember_recipe(tmp_path, {"lr": 1})
    assert "delete" in caught.value.fix


def test_what_the_preset_names_besides_what_is_trained_need_not_be_there(tmp_path, monkeypatch):
    registry = copy.deepcopy(installed_plugins())
    registry.remove("rain")
    monkeypatch.setattr(setup, "installed_plugins", lambda: registry)
    cv2.imwrite(str(tmp_path / "photo.png"), np.zeros((64, 64, 3), np.uint8))
    given = ([str(tmp_path)], tmp_path / "run")
    _, run = setup.diffusion_setup("default", [], *given, plugin_ids=["snow"])
    assert run.ids == ["snow"]
    with pytest.raises(UsageError, match="hase"):
        setup.diffusion_setup("default", ["synthesis.familiar_mixtures.snow+hase=0.1"], *given, plugin_ids=["snow"])


def test_an_emphasis_that_leaves_nothing_to_draw_is_refused(tmp_path):
    cv2.imwrite(str(tmp_path / "photo.png"), np.zeros((64, 64, 3), np.uint8))
    for name in ("emphasis", "coarse_emphasis"):
        with pytest.raises(UsageError, match=rf"synthesis\.{name} leaves no degradation to draw"):
            settings = [f"synthesis.{name}.snow=0"]
            setup.diffusion_setup("default", settings, [str(tmp_path)], tmp_path / "run", plugin_ids=["snow"])
