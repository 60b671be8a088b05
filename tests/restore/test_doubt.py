"""What is named is evidence, not proof, where a photograph may seem to have it by nature."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result
from skimage import data
from typer.testing import CliRunner

from defusion_cli.api import degrade, restore
from defusion_cli.app import app
from defusion_cli.canvas import ArrayPhoto, Canvas
from defusion_cli.diffusion import DefusionPipeline
from defusion_cli.images import to_uint8, write_image
from defusion_cli.plugins import Degradation, installed_plugins
from defusion_cli.restore.instruction import Doubt, Instructor, Nature
from defusion_cli.restore.model import load_pipeline
from defusion_cli.restore.pixels import restore_canvas, restore_pixels
from defusion_cli.restore.scale import plan_passes
from defusion_cli.training.validation import psnr

CLEAN = (data.astronaut()[:320, 60:380] / np.float32(255)).astype(np.float32)


def test_the_share_is_the_probability_after_bayes() -> None:
    doubt = Doubt("haze", 300.0)
    assert doubt.probability(0.0) == 0 and doubt.probability(1.0) == 1
    assert doubt.probability(1 / 301) == pytest.approx(0.5)
    assert Doubt("haze", 1.0).probability(0.3) == pytest.approx(0.3)


def test_only_what_may_be_mistaken_is_doubted_and_not_if_the_user_insists(pipeline: DefusionPipeline) -> None:
    plugins = installed_plugins()
    doubted = {part.nature.doubt for part in Instructor(pipeline, plugins).by_parts(["rain", "haze", "noise"])}
    assert doubted == {None, Doubt("haze", plugins["haze"].odds_when_named or 0)}
    insisting = Instructor(pipeline, plugins, insist=True).by_parts(["haze", "motion-blur"])
    assert [(part.nature.doubt, part.nature.blurs) for part in insisting] == [(None, ())] * 2


def test_a_model_without_recogniser_believes(pipeline: DefusionPipeline) -> None:
    assert pipeline.find_recogniser is None
    (one,) = plan_passes(pipeline, ArrayPhoto(CLEAN), Instructor(pipeline, installed_plugins()).by_parts(["haze"]))
    assert one.nature.share == 1


def test_a_share_of_the_estimate_is_taken_away(pipeline: DefusionPipeline, tokens: torch.Tensor) -> None:
    small = 0.25 + 0.5 * CLEAN[:48, :64]
    whole, half, none = (
        small - restore_pixels(pipeline, small, tokens, nature=Nature(share=share)) for share in (1.0, 0.5, 0.0)
    )
    assert np.abs(whole).max() > 0.001 and not none.any()
    np.testing.assert_allclose(half, whole / 2, atol=1e-6)
    samples = to_uint8(small)
    restore_canvas(pipeline, Canvas(samples), tokens, nature=Nature(share=0.0))
    assert np.array_equal(samples, to_uint8(small))


def test_the_default_model_recognises_all_that_is_doubted() -> None:
    recogniser = load_pipeline().find_recogniser
    assert recogniser is not None
    plugins: dict[str, Degradation] = dict(installed_plugins())
    assert {name for name, plugin in plugins.items() if plugin.odds_when_named} <= set(recogniser().ids)


@pytest.mark.parametrize("name", ["low-light", "haze"])
def test_a_clean_photograph_is_left_alone_and_a_damaged_one_is_not(name: str) -> None:
    lq = degrade(CLEAN, name, severity=0.5, seed=1)
    kept, changed = (psnr(restore(CLEAN, name, insist=insist), CLEAN) for insist in (False, True))
    assert kept > 40 and kept > changed + 1
    restored, insisted = restore(lq, name), restore(lq, name, insist=True)
    assert psnr(restored, CLEAN) > psnr(lq, CLEAN) + 3
    assert np.abs(restored - insisted).max() < 0.05


def _restore(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["restore", *map(str, arguments)])


def test_the_command_says_what_it_doubted(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_image(tmp_path / "in" / "clean.png", CLEAN)
    result = _restore(tmp_path / "in", tmp_path / "out", "--degradation", "low-light")
    assert "clean.png: low-light is hardly to be seen" in result.output and "--insist" in result.output
    result = _restore(tmp_path / "in", tmp_path / "out", "--degradation", "low-light", "--json")
    (one,) = json.loads(result.stdout)["files"]
    assert one["state"] == "skipped" and one["shares"]["low-light"] < 0.5
    result = _restore(tmp_path / "in", tmp_path / "out", "--degradation", "low-light", "--insist", "--json")
    (one,) = json.loads(result.stdout)["files"]
    assert one["state"] == "restored" and one["shares"] is None
