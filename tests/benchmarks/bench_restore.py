"""Restoring: how much of the machine the default model uses, a folder against the bare model, and the start.

    python tests/benchmarks/bench_restore.py --markdown docs/speed.md

Everything is processor time of one thread, so that what else runs on the machine matters little. The peak is that of
3×3 convolutions of PyTorch in the same number format, the best of several shapes, measured in the same run.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from outputs import add_outputs, leave
from skimage import data
from torch.utils.flop_counter import FlopCounterMode

from defusion_cli.allocator import keep_freed_memory
from defusion_cli.diffusion.pipeline import use_bfloat16
from defusion_cli.plugins import installed_plugins
from defusion_cli.restore.instruction import Instructor
from defusion_cli.restore.model import load_pipeline
from defusion_cli.restore.pixels import restore_pixels

PEAK_SHARE, FOLDER_SHARE, START_S = 0.6, 0.9, 1.5
"""Bars: of the convolution peak; of the bare model's rate; above ``import torch``."""

SIDES_PX = (256, 512, 1024)
SMALL_PX = 256
VEIL = "haze"


def least_seconds(work: Callable[[], object], turns: int) -> float:
    """Least processor time of several turns, after one that is not measured."""
    least = float("inf")
    for turn in range(turns + 1):
        start = time.process_time()
        work()
        least = min(least, time.process_time() - start) if turn else least
    return least


def peak_gflops(turns: int) -> float:
    """What 3×3 convolutions reach here, in 1e9 operations a second, a multiplication and an addition being two."""
    kind = torch.bfloat16 if use_bfloat16("cpu") else torch.float32
    best = 0.0
    for channels, side in ((64, 256), (128, 128), (192, 64), (256, 64)):
        conv = torch.nn.Conv2d(channels, channels, 3, padding=1).to(kind, memory_format=torch.channels_last)
        x = torch.randn(1, channels, side, side, dtype=kind).to(memory_format=torch.channels_last)
        with torch.inference_mode():
            seconds = least_seconds(lambda conv=conv, x=x: conv(x), turns)
        best = max(best, 2 * 9 * channels**2 * side**2 / seconds / 1e9)
    return best


def measure_model(turns: int) -> list[dict[str, float]]:
    """Rate of one whole forward pass by side of the picture, as `DefusionPipeline.damage` does it."""
    pipeline = load_pipeline()
    tokens = Instructor(pipeline, installed_plugins()).named(["noise"])
    rows = []
    for side in SIDES_PX:
        lq, noise = (torch.rand(1, side, side, 3).permute(0, 3, 1, 2) for _ in range(2))
        with FlopCounterMode(display=False) as counter:
            pipeline.damage(lq, tokens, noise)
        with torch.inference_mode():
            seconds = least_seconds(lambda lq=lq, noise=noise: pipeline.damage(lq, tokens, noise), turns)
        rows.append({"side_px": side, "seconds": seconds, "gflops": counter.get_total_flops() / seconds / 1e9})
    return rows


def measure_first_estimate(turns: int) -> float:
    """Seconds a megapixel where the model index says that the first estimate of the damage is all that is wanted."""
    pipeline, side = load_pipeline(), SIDES_PX[-1]
    tokens = Instructor(pipeline, installed_plugins()).named([VEIL])
    lq, noise = (torch.rand(1, side, side, 3).permute(0, 3, 1, 2) for _ in range(2))
    part = pipeline.refinement_of(VEIL)
    with torch.inference_mode():
        seconds = least_seconds(lambda: pipeline.damage(lq, tokens, noise, refinement=part), turns)
    return seconds / side**2 * 1e6


def measure_folder(count: int) -> dict[str, float]:
    """Pictures a second of ``defusion restore`` on a folder of small PNGs, and of the model alone on every fifth.

    Means of both, and the model alone half before and half after: the clock of a machine that others use changes by a
    tenth within minutes.
    """
    pipeline = load_pipeline()
    tokens = Instructor(pipeline, installed_plugins()).named(["noise"])
    photo, rng = data.astronaut(), np.random.default_rng(0)
    squares = [photo[y : y + SMALL_PX, x : x + SMALL_PX] for y, x in rng.integers(0, 512 - SMALL_PX, (count, 2))]
    some = [square.astype(np.float32) / np.float32(255) for square in squares[::5]]

    def alone(photos: list[Any]) -> float:
        begin = time.process_time()
        for pixels in photos:
            restore_pixels(pipeline, pixels, tokens)
        return time.process_time() - begin

    alone(some[:5])
    before = alone(some[::2])
    with tempfile.TemporaryDirectory() as scratch:
        folder, out = Path(scratch, "in"), Path(scratch, "out")
        folder.mkdir()
        for number, square in enumerate(squares):
            cv2.imwrite(str(folder / f"{number}.png"), square[..., ::-1])
        one = Path(scratch, "one")
        one.mkdir()
        (one / "0.png").write_bytes((folder / "0.png").read_bytes())
        start_up = _restore(one, Path(scratch, "out-one"))
        seconds = _restore(folder, out) - start_up
        made = len(list(out.glob("*.png")))
    bare = (before + alone(some[1::2])) / len(some)
    if made != count:
        raise RuntimeError(f"{made} pictures instead of {count}")
    return {"pictures": count, "side_px": SMALL_PX, "bare": 1 / bare, "folder": (count - 1) / seconds}


def _restore(folder: Path, out: Path) -> float:
    command = ("-m", "defusion_cli", "restore", str(folder), str(out), "--degradation", "noise", "--device", "cpu")
    return processor_seconds(*command)


def processor_seconds(*arguments: str) -> float:
    """Processor time of one run of this interpreter with one thread."""
    before = os.times()
    done = subprocess.run(
        [sys.executable, *arguments], env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def measure_start(turns: int) -> dict[str, float]:
    """Processor time of ``import torch``, and of ``defusion restore`` on a picture of 8×8 pixels; least of several."""
    torch_s = restore_s = float("inf")
    with tempfile.TemporaryDirectory() as scratch:
        cv2.imwrite(f"{scratch}/a.png", np.full((8, 8, 3), 90, np.uint8))
        for turn in range(turns):
            torch_s = min(torch_s, processor_seconds("-c", "import torch"))
            command = ("-m", "defusion_cli", "restore", f"{scratch}/a.png", f"{scratch}/{turn}.png")
            restore_s = min(restore_s, processor_seconds(*command, "--degradation", "noise", "--device", "cpu"))
    return {"import_torch": torch_s, "restore": restore_s, "above": restore_s - torch_s}


def page(document: dict[str, Any]) -> str:
    """Markdown."""
    peak = document["peak_gflops"]
    lines = [
        f"Convolutions reach {peak:.0f} GFLOP/s at {document['format']} on one thread of this machine.\n",
        "| one step, default model | images/s | s/megapixel | GFLOP/s | of the peak, at least 0.6 |",
        "|---|---|---|---|---|",
    ]
    for row in document["model"]:
        side, seconds = row["side_px"], row["seconds"]
        figures = (
            f"{1 / seconds:.2f} | {seconds / side**2 * 1e6:.2f} | {row['gflops']:.0f} | {row['gflops'] / peak:.2f}"
        )
        lines.append(f"| {side}×{side} | {figures} |")
    lines.append(f"\nWith an instruction for {VEIL}, of 1024×1024: {document['first_estimate']:.2f} s/megapixel.")
    folder, start = document["folder"], document["start"]
    lines.append(
        f"\nA folder of {folder['pictures']} PNGs of {folder['side_px']}×{folder['side_px']}, read, restored and "
        f"written: {folder['folder']:.2f} images/s, the bare model {folder['bare']:.2f}: "
        f"{folder['folder'] / folder['bare']:.2f}, at least {FOLDER_SHARE}."
    )
    lines.append(
        f"\n`defusion restore` of one tiny picture takes {start['restore']:.2f} s, `import torch` alone "
        f"{start['import_torch']:.2f} s: {start['above']:.2f} s above it, at most {START_S}."
    )
    return "\n".join(lines)


def main() -> int:
    """Print the tables; exit with 1 if a bar is not reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5, help="passes of which the fastest counts, default 5")
    parser.add_argument("--count", type=int, default=1000, help="pictures of the folder, default 1000")
    add_outputs(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    document: dict[str, Any] = {
        "format": "bfloat16" if use_bfloat16("cpu") else "float32",
        "start": measure_start(arguments.turns),
        "peak_gflops": peak_gflops(3 * arguments.turns),
        "model": measure_model(arguments.turns),
        "first_estimate": measure_first_estimate(arguments.turns),
        "folder": measure_folder(arguments.count),
    }
    leave(arguments, "Restoring", page(document), document)
    worst = min(row["gflops"] for row in document["model"]) / document["peak_gflops"]
    share = document["folder"]["folder"] / document["folder"]["bare"]
    return int(worst < PEAK_SHARE or share < FOLDER_SHARE or document["start"]["above"] > START_S)


if __name__ == "__main__":
    sys.exit(main())
