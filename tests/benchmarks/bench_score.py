"""PSNR, SSIM and LPIPS of pairs of 512×512: ``defusion score`` and pyiqa's own command, timed in one run.

python tests/benchmarks/bench_score.py [--pairs 100]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torchvision
from outputs import add_outputs, leave
from safetensors.torch import load_file
from skimage import data

from defusion_cli.scoring.engine import LPIPS_ALEX

METRICS = ("psnr", "ssim", "lpips")
LEAST = 2
"""Asked for: pyiqa's processor time over ours."""


def write_pairs(folder: Path, count: int) -> None:
    """Crops of a photograph, and noisy ones."""
    photo = cv2.resize(data.astronaut(), (1024, 1024), interpolation=cv2.INTER_CUBIC)[..., ::-1]
    rng = np.random.default_rng(0)
    for name in ("out", "ref"):
        (folder / name).mkdir()
    for index in range(count):
        top, left = rng.integers(0, 512, 2)
        clean = photo[top : top + 512, left : left + 512]
        noisy = np.clip(clean + rng.normal(0, 5 + index % 40, clean.shape), 0, 255).round().astype(np.uint8)
        cv2.imwrite(str(folder / f"ref/{index:03d}.png"), clean)
        cv2.imwrite(str(folder / f"out/{index:03d}.png"), noisy)


def write_cache(home: Path) -> None:
    """The files that pyiqa's command would download, made of the weights we ship."""
    weights = load_file(LPIPS_ALEX)
    heads = {f"lin{i}.model.1.weight": weights[f"lin{i}.weight"] for i in range(5)}
    backbone = torchvision.models.alexnet(weights=None).state_dict()
    backbone |= {name: value for name, value in weights.items() if name.startswith("features.")}
    for folder, name, state in (
        ("pyiqa", "LPIPS_v0.1_alex-df73285e.pth", heads),
        ("checkpoints", "alexnet-owt-7be5be79.pth", backbone),
    ):
        (home / "hub" / folder).mkdir(parents=True)
        torch.save(state, home / "hub" / folder / name)


def timed(*command: str, home: Path) -> tuple[float, float, str]:
    """Seconds, processor seconds and stdout of a command."""
    start, before = time.perf_counter(), os.times()
    done = subprocess.run(
        [sys.executable, *command], env={**os.environ, "TORCH_HOME": str(home)}, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(done.stderr)
    after = os.times()
    processor_s = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - start, processor_s, done.stdout


def table(document: dict[str, Any]) -> str:
    """Markdown."""
    lines = ["| | s | processor time | PSNR | SSIM | LPIPS |", "|---|---|---|---|---|---|"]
    for row in document["sides"]:
        scores = " | ".join(f"{row[name]:.6f}" for name in METRICS)
        lines.append(f"| {row['side']} | {row['seconds']:.1f} | {row['processor_seconds']:.1f} s | {scores} |")
    ours, theirs = (row["processor_seconds"] for row in document["sides"])
    lines.append(f"\n{theirs / ours:.1f} times as fast in processor time; at least {LEAST} times is asked for.")
    return "\n".join(lines)


def main() -> int:
    """Time both and print the table; exit with 1 if ours is not fast enough."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=100, help="pairs of pictures, default 100")
    add_outputs(parser)
    arguments = parser.parse_args()
    count = arguments.pairs
    with tempfile.TemporaryDirectory() as temporary:
        folder, home = Path(temporary), Path(temporary, "torch")
        write_pairs(folder, count)
        write_cache(home)
        out, ref = str(folder / "out"), str(folder / "ref")
        options = ("--metrics", ",".join(METRICS), "--json", "--device", "cpu")
        ours_s, ours_cpu_s, text = timed("-m", "defusion_cli", "score", out, ref, *options, home=home)
        pyiqa_main = "import sys; from pyiqa.pyiqa_cmd import main; sys.argv[0] = 'pyiqa'; main()"
        theirs_s, theirs_cpu_s, shown = timed(
            "-c", pyiqa_main, *METRICS, "-t", out, "-r", ref, "--device", "cpu", home=home
        )
    ours = json.loads(text)["metrics"]
    theirs = {name: float(re.search(rf"'{name}': \{{'mean': (?:np.float64\()?([\d.]+)", shown)[1]) for name in METRICS}
    document = {
        "pairs": count,
        "sides": [
            {"side": "`defusion score`", "seconds": ours_s, "processor_seconds": ours_cpu_s}
            | {name: ours[name]["mean"] for name in METRICS},
            {"side": "pyiqa's own command", "seconds": theirs_s, "processor_seconds": theirs_cpu_s} | theirs,
        ],
    }
    words = (
        f"PSNR, SSIM and LPIPS of {count} pairs of 512×512, both in one run. The SSIMs may differ in the last "
        "digits: pyiqa rounds luma in single precision; see `defusion_cli/scoring/fidelity.py`."
    )
    leave(arguments, "Scoring", table(document), document, words)
    return int(theirs_cpu_s < LEAST * ours_cpu_s)


if __name__ == "__main__":
    sys.exit(main())
