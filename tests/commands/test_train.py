"""The `train` command: it resolves, refuses what does not fit, and writes nothing on a dry run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from defusion_cli.tokenizer import InstructionTokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    cv2.imwrite(str(tmp_path / "photos" / "a.png"), np.zeros((80, 80, 3), np.uint8))
    torch.manual_seed(0)
    InstructionTokenizer(
        block_out_channels=(8, 8, 8, 8, 8),
        layers_per_block=1,
        attention_levels=0,
        latent_channels=8,
        codebook_size=16,
        embed_dim=32,
        norm_num_groups=4,
    ).save_pretrained(tmp_path / "tokenizer")
    return tmp_path


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "defusion_cli", "train", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def test_a_dry_run_prints_the_recipe_and_writes_nothing(folder):
    before = sorted(folder.rglob("*"))
    done = run(folder, "--preset", "paper", "--data", "photos", "--tokenizer", "tokenizer", "--gpus", "8", "--dry-run")
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert (plan["processes"], plan["global_batch"], plan["config"]["steps"]) == (8, [32], 600_000)
    assert plan["photographs"] == 1 and "rain" in plan["plugins"]
    assert sorted(folder.rglob("*")) == before


def test_a_run_can_start_from_the_default_model(folder):
    done = run(folder, "--data", "photos", "--init-from", "default", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert (Path(json.loads(done.stdout)["init_from"]) / "unet" / "config.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--tokenizer", "tokenizer"], 2, "nothing to train on"),
        (["--data", "nowhere", "--tokenizer", "tokenizer"], 3, "does not exist"),
        (["--data", "photos", "--init-from", "nowhere", "--gpus", "2"], 3, "no U-Net in nowhere"),
        (["--data", "photos", "--tokenizer", "nowhere"], 3, "no tokenizer"),
        (["--data", "photos", "--tokenizer", "tokenizer", "--plugin", "rian"], 2, "rain"),
        (["--data", "photos", "--tokenizer", "tokenizer", "--preset", "papr"], 2, "no such preset"),
        (["--data", "photos", "--tokenizer", "tokenizer", "--set", "stepz=3"], 2, "steps"),
        (["--data", "photos", "--tokenizer", "tokenizer", "--nodes", "2"], 2, "--rdzv-endpoint"),
        (["--data", "photos", "--gpus", "8", "--dry-run"], 2, "--set phases=64x32@0.5,96x16@0.75,128x16@0.9,192x16@1"),
        (["--data", "photos", "--set", "backbone_options.foo=1", "--dry-run"], 2, "backbone options"),
        (["--data", "photos", "--set", "refinement.hase=1", "--dry-run"], 2, "haze"),
    ],
)
def test_what_does_not_fit_is_explained(folder, arguments, code, words):
    done = run(folder, *arguments)
    assert done.returncode == code and words in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "runs").exists()
