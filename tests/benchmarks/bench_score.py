"""PSNR, SSIM and LPIPS of pairs of 512×512: ``defusion score`` and pyiqa's own command, timed in one run.

python tests/benchmarks/bench_score.py [PAIRS]
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch
import torchvision
from safetensors.torch import load_file
from skimage import data

from defusion_cli.scoring.engine import LPIPS_ALEX

METRICS = ("psnr", "ssim", "lpips")


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


def main() -> None:
    """Time both and print the table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100
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
    print(f"{count} pairs of 512×512, {os.cpu_count()} cores")
    for name in METRICS:
        print(f"  {name:6} ours {ours[name]['mean']:.6f}   pyiqa {theirs[name]:.6f}")
    print(f"  processor time: defusion score {ours_cpu_s:.1f} s, pyiqa {theirs_cpu_s:.1f} s")
    print(f"  defusion score {ours_s:.1f} s, pyiqa {theirs_s:.1f} s: {theirs_s / ours_s:.2f} times as fast")


if __name__ == "__main__":
    main()
