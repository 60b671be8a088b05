"""Manners at the terminal: completion, encodings, widths, colours, suggestions."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy as np
import pytest

from defusion_cli.commands.plugin_options import METRICS, complete_metrics
from defusion_cli.images import write_image
from defusion_cli.plugins import installed_plugins
from defusion_cli.scoring.metrics import find_metrics
from defusion_cli.scoring.protocols import find_protocol


def complete(words: str) -> list[str]:
    """What bash is offered after `words`."""
    count = len(words.split()) - (0 if words.endswith(" ") else 1)
    environment = {**os.environ, "_DEFUSION_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(count)}
    done = subprocess.run(
        [sys.executable, "-m", "defusion_cli"], env=environment, capture_output=True, text=True, check=False
    )
    return done.stdout.split()


def test_plugins_and_metrics_are_completed():
    assert set(complete("defusion restore a b --degradation ra")) == {"rain", "raindrop"}
    assert complete("defusion degrade --plugin rain,sn") == ["rain,snow"]
    assert set(complete("defusion train --plugin ")) >= set(installed_plugins())
    assert "psnr,lpips" in complete("defusion score a b --metrics psnr,l")
    assert complete_metrics("psnr,ps") == ["psnr,psnry"]


def test_metrics_that_are_completed_exist():
    pytest.importorskip("pyiqa", reason="needs pyiqa")
    assert len(find_metrics(",".join(METRICS), find_protocol("pyiqa", None), True)) == len(METRICS)


@pytest.mark.parametrize("columns", ["40", "100"])
def test_lists_fit_the_terminal(columns):
    environment = {**os.environ, "COLUMNS": columns, "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-m", "defusion_cli", "degrade", "--list"]
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=True)
    assert max(map(len, done.stdout.splitlines())) <= int(columns)
    shown = re.sub(r"[^a-z-]", " ", done.stdout).split()
    assert {"rain", "noise"} <= set(shown)


@pytest.mark.parametrize("columns", [20, 40, 60, 80, 200])
def test_tables_of_scores_are_whole_in_any_width(columns, tmp_path, photo, rng):
    for name in ("out", "in", "ref"):
        for index in range(2):
            noise = 0 if name == "ref" else rng.normal(0, 0.05, photo.shape)
            write_image(tmp_path / f"{name}/{index}.png", (photo + noise).astype(np.float32))
    environment = {**os.environ, "COLUMNS": str(columns), "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-m", "defusion_cli", "score", "out", "ref", "--baseline", "in", "--metrics", "psnr,mae"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, encoding="utf-8", check=True)
    assert "…" not in done.stdout and max(map(len, done.stdout.splitlines())) <= columns
    assert ("┏" in done.stdout) == ("┓" in done.stdout) == (columns >= 80), "no column is cut off"
    shown = " ".join(re.sub("[^ -~±↑]", " ", done.stdout).split())
    for number in ("psnr ↑", "mae", r"\d\d\.\d\d ± \d\.\d\d", r"[+-]\d\.\d\d ± \d\.\d\d", "whole picture"):
        assert re.search(number, shown) or (columns == 80 and number == "whole picture"), number


def test_a_locale_without_utf8_and_no_colour(tmp_path):
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    environment |= {"NO_COLOR": "1", "FORCE_COLOR": "", "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    for arguments in (["degrade", "--list"], ["degrade", "--plugin", "rian"], ["data", "list"]):
        command = [sys.executable, "-m", "defusion_cli", *arguments]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True)
        assert b"Traceback" not in done.stderr and b"\x1b" not in done.stdout + done.stderr
    assert b"did you mean rain?" in subprocess.run(
        [sys.executable, "-m", "defusion_cli", "degrade", "--plugin", "rian"],
        env=environment, cwd=tmp_path, capture_output=True,
    ).stderr  # fmt: skip


def test_names_of_written_files_exist_on_windows(tmp_path):
    command = [sys.executable, "-m", "defusion_cli"]
    for arguments in (
        ["degrade", "--plugin", "rain", "--plugin", "noise"],
        ["make-ground", "--plugin", "jpeg", "--size", "32", "grounds"],
        ["plugin", "new", "lens-flare"],
    ):
        subprocess.run([*command, *arguments], cwd=tmp_path, check=True, capture_output=True)
    names = [part for path in tmp_path.rglob("*") for part in path.relative_to(tmp_path).parts]
    assert len(names) > 8
    assert [name for name in names if re.search(r'[<>:"\\|?*]|[. ]$', name)] == []
