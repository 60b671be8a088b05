"""How much of what the network adds to its first estimate of the whole photograph is followed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage import data
from tiny import copy_with_index

from defusion_cli.api import degrade
from defusion_cli.diffusion import DefusionPipeline
from defusion_cli.diffusion.refinement import FAINT, UNCHANGED, Refinement
from defusion_cli.errors import DataError
from defusion_cli.plugins import Blur, installed_plugins
from defusion_cli.restore.instruction import Instructor
from defusion_cli.restore.model import load_pipeline
from defusion_cli.restore.pixels import restore_pixels
from defusion_cli.restore.psf import blur_between

PHOTO = (data.astronaut()[:96, 100:228] / np.float32(255)).astype(np.float32)


@pytest.fixture(scope="module")
def default() -> DefusionPipeline:
    return load_pipeline()


def test_a_part_of_what_is_added_is_followed_in_one_step(default: DefusionPipeline) -> None:
    lq = torch.from_numpy(0.3 + 0.6 * PHOTO).permute(2, 0, 1)[None]
    tokens, noise = default.encode_names(["haze"], installed_plugins()), torch.zeros_like(lq)
    parts = [Refinement(factor, factor) for factor in (0.0, 0.5, 1.0)]
    none, half, whole = (default.damage(lq, tokens, noise, refinement=part) for part in parts)
    assert none.abs().max() > 0.01 and (whole - none).abs().max() > 0.01
    torch.testing.assert_close(half, (none + whole) / 2, atol=2e-3, rtol=0)
    further = [default.damage(lq, tokens, noise, steps=2, refinement=part) for part in parts[1:]]
    assert torch.equal(*further)
    assert torch.equal(default.damage(lq, tokens, noise, steps=2, refinement=parts[0]), none)


def test_the_model_says_how_much_for_which_name(default: DefusionPipeline) -> None:
    assert default.refinement_of("haze").nothing and default.refinement_of("rain") == UNCHANGED
    assert default.refinement_of("noise").faint > default.refinement_of("noise").strong == 1
    named = {name: Instructor(default, installed_plugins()).by_parts([name])[0] for name in ("haze", "rain")}
    assert named["haze"].nature.refinement.nothing and named["rain"].nature.refinement == UNCHANGED
    lq = 0.3 + 0.6 * PHOTO
    called = default(lq, "haze", output_type="np").images[0]
    restored = restore_pixels(default, lq, named["haze"].tokens, nature=named["haze"].nature)
    np.testing.assert_allclose(called, restored, atol=0.005)


def test_it_is_kept_in_the_model_folder(model_folder: Path, tmp_path: Path) -> None:
    folder = copy_with_index(model_folder, tmp_path / "model", refinement={"haze": 0.25})
    for pipeline in (load_pipeline(str(folder)), DefusionPipeline.from_pretrained(folder)):
        pipeline.save_pretrained(tmp_path / "again")
        for each in (pipeline, load_pipeline(str(tmp_path / "again"))):
            assert each.config["refinement"] == {"haze": 0.25}


def test_a_backbone_without_first_estimate_is_followed_whatever_the_index_says(
    model_folder: Path, pipeline: DefusionPipeline, tmp_path: Path
) -> None:
    odd = load_pipeline(str(copy_with_index(model_folder, tmp_path / "model", refinement={"haze": 0.0})))
    assert not odd.estimates_first and odd.refinement_of("haze") == UNCHANGED
    lq, noise = torch.rand(2, 1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    haze = [each.encode_names(("haze",), installed_plugins(), None) for each in (odd, pipeline)]
    damages = [
        each.damage(lq, tokens, noise, refinement=each.refinement_of("haze"))
        for each, tokens in zip((odd, pipeline), haze, strict=True)
    ]
    assert torch.equal(*damages) and damages[0].any()


def test_the_factor_goes_from_faint_to_strong_with_the_size_of_what_is_added() -> None:
    refine, signs = Refinement(strong=1.0, faint=1.3), torch.ones(1, 3, 40, 70)
    signs[..., ::2] = -1
    for size, factor in ((FAINT / 100, 1.3), (FAINT, 1.15), (100 * FAINT, 1.0)):
        torch.testing.assert_close(refine(size * signs), factor * size * signs, atol=1e-4 * size, rtol=1e-3)
    both = torch.cat([FAINT / 100 * signs, 100 * FAINT * signs], dim=3)  # as near by as this, each by itself
    followed = refine(both) / both
    assert abs(float(followed[..., :30].mean()) - 1.3) < 0.05 and abs(float(followed[..., -30:].mean()) - 1) < 0.01


@pytest.mark.parametrize("key", ["refinement", "faint_refinement"])
@pytest.mark.parametrize("refinement", [{"haze": 2.1}, {"haze": -0.1}, {"haze": "much"}, {"haze": True}, [0.3], 0.3])
def test_other_values_are_refused(model_folder: Path, tmp_path: Path, refinement: Any, key: str) -> None:
    with pytest.raises(DataError, match=f"^{key} in"):
        load_pipeline(str(copy_with_index(model_folder, tmp_path / "model", **{key: refinement})))


def test_an_example_of_haze_is_taken_for_haze(default: DefusionPipeline) -> None:
    clean = (data.astronaut()[:320, 60:380] / np.float32(255)).astype(np.float32)
    for name, expected in (("haze", Refinement(0.0, 0.0)), ("rain", UNCHANGED)):
        damaged = degrade(clean, name, severity=0.6, seed=1)
        (part,) = Instructor(default, installed_plugins()).example(damaged, clean)
        assert part.nature.refinement == expected


def test_a_short_path_in_an_example_is_not_taken_for_a_disk(default: DefusionPipeline) -> None:
    clean = (data.astronaut()[:400, 60:460] / np.float32(255)).astype(np.float32)
    shaken = degrade(clean, "motion-blur", severity=0.4, seed=7)
    assert blur_between(shaken, clean) == Blur.DISK  # as round as one
    (part,) = Instructor(default, installed_plugins()).example(shaken, clean)
    assert part.nature.uniform_blur == Blur.PATH
