"""What eight A100 at the paper's recipe ask of the data loader, worked out from what a view costs on this machine.

    python tests/benchmarks/bench_loader.py --markdown docs/speed.md

Nothing here runs on a GPU. How fast the GPUs would be follows from the operations of the network and an assumed share
of their peak; what a view costs is measured on one core; how long the GPUs would then wait is simulated.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from outputs import add_outputs, leave
from torch.utils.flop_counter import FlopCounterMode

from defusion_cli.allocator import keep_freed_memory
from defusion_cli.data.sources import Photo, PhotoSource
from defusion_cli.data.synthesis import ViewMaker
from defusion_cli.diffusion.backbone import IN_CHANNELS, make_backbone
from defusion_cli.images import read_pixels
from defusion_cli.plugins import installed_plugins
from defusion_cli.training.diffusion_config import PRESETS

GPUS, PEAK_TFLOPS, USED = 8, 312, 0.4
"""A100, dense bfloat16; 40 % of the peak is what well-tuned training of convolutional networks reaches."""
PREFETCHED = 4
SIZE_PX = (1280, 720)  # GoPro's
PAPER = PRESETS["paper"]


def crops_per_second() -> tuple[float, float]:
    """Operations for one crop, forward and backward, in TFLOP; and crops a second that the GPUs get through."""
    side = PAPER.crop_px(0)
    with torch.device("meta"):
        model = make_backbone(PAPER.backbone, PAPER.backbone_options)
        inputs = torch.zeros(1, IN_CHANNELS, side, side), torch.zeros(1), torch.zeros(1, 196, 256)
    with FlopCounterMode(display=False) as counter:
        model(*inputs)
    each = 3e-12 * counter.get_total_flops()
    return each, GPUS * PEAK_TFLOPS * USED / each


def photographs(folder: Path, suffix: str, count: int) -> list[Path]:
    """Pictures as large as GoPro's, with detail at all scales."""
    rng, paths = np.random.default_rng(0), []
    for number in range(count):
        pixels = np.full((SIZE_PX[1], SIZE_PX[0], 3), 128, np.float32)
        for cell in (2, 8, 32, 128):
            noise = rng.normal(0, 3 * cell**0.5, (SIZE_PX[1] // cell + 1, SIZE_PX[0] // cell + 1, 3))
            pixels += cv2.resize(noise.astype(np.float32), SIZE_PX, interpolation=cv2.INTER_CUBIC)
        paths.append(folder / f"{number}{suffix}")
        if not cv2.imwrite(str(paths[-1]), pixels.clip(0, 255).astype(np.uint8)):
            raise OSError(f"{paths[-1]} cannot be written")
    return paths


def view_seconds(paths: list[Path], paired: bool, count: int) -> list[float]:
    """Processor time of each of several views: real pairs, or clean photographs damaged on the fly."""
    plugins = installed_plugins()
    photos = tuple(Photo(path, path, "noise") if paired else Photo(path) for path in paths)
    maker = ViewMaker([PhotoSource(photos)], sorted(plugins), plugins, PAPER.synthesis)
    side, taken = PAPER.crop_px(0), []
    for number in range(count + 2):
        begin = time.process_time()
        maker.draw(np.random.default_rng(number), side)
        taken.append(time.process_time() - begin)
    return taken[2:]


def decode_seconds(paths: list[Path], count: int) -> float:
    """Processor time of reading one picture, mean."""
    begin = time.process_time()
    for number in range(count):
        read_pixels(paths[number % len(paths)])
    return (time.process_time() - begin) / count


def waiting(costs: list[float], batch: int, step_seconds: float, workers: int, steps: int = 2000) -> float:
    """Share of time that one GPU waits for `workers` processes, each making whole batches, a few of them ahead.

    Batches are used in order; a worker begins the next one when one of its own has been used up.
    """
    rng, now, waited = np.random.default_rng(0), 0.0, 0.0
    ahead = workers * PREFETCHED
    free, made = [0.0] * workers, []
    for number in range(steps):
        if number >= ahead:  # the oldest batch is used, which makes room for another one
            waited += max(0.0, made[number - ahead] - now)
            now = max(now, made[number - ahead]) + step_seconds
        worker = number % workers
        free[worker] = max(free[worker], now) + float(rng.choice(costs, batch).sum())
        made.append(free[worker])
    return waited / now


def fewest_workers(costs: list[float], batch: int, step_seconds: float, most_waiting: float = 0.05) -> int:
    """Processes a GPU with which it waits at most that share of the time."""
    workers = 1
    while waiting(costs, batch, step_seconds, workers) > most_waiting:
        workers += 1
    return workers


def measure(count: int) -> dict[str, Any]:
    """All figures."""
    keep_freed_memory()
    cv2.setNumThreads(1)
    operations, rate = crops_per_second()
    batch = PAPER.views(0) // GPUS
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for suffix in (".png", ".jpg"):
            paths = photographs(Path(folder), suffix, 3)
            decode = decode_seconds(paths, count)
            for paired in (True, False):
                costs = view_seconds(paths, paired, count)
                rows.append(
                    {
                        "files": suffix[1:].upper(),
                        "kind": "pairs" if paired else "damaged on the fly",
                        "view_seconds": statistics.mean(costs),
                        "decode_seconds": decode * (2 if paired else 1),
                        "workers_a_gpu": fewest_workers(costs, batch, batch * GPUS / rate),
                    }
                )
    return {"tflop_a_crop": operations, "crops_per_second": rate, "rows": rows}


def table(result: dict[str, Any]) -> str:
    """Markdown."""
    rate, side, batch = result["crops_per_second"], PAPER.crop_px(0), PAPER.views(0)
    asked = (
        f"A crop of {side} px costs {result['tflop_a_crop']:.2f} TFLOP forward and backward. {GPUS} A100 at {USED:.0%}"
        f" of {PEAK_TFLOPS} TFLOP/s (assumed, not measured) get through {rate:.0f} crops/s, {rate / batch:.1f} steps of"
        f" {batch}."
    )
    lines = [
        f"| files of {SIZE_PX[0]}×{SIZE_PX[1]} | crops | crops/s a core | decoding | cores at work | processes a GPU |"
        " cores if decoded pictures are kept |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        each, decode = row["view_seconds"], row["decode_seconds"]
        lines.append(
            f"| {row['files']} | {row['kind']} | {1 / each:.0f} | {min(decode / each, 1):.0%} | {rate * each:.1f} |"
            f" {row['workers_a_gpu']} | {rate * max(each - decode, 0):.1f} |"
        )
    return "\n".join([asked, "", *lines])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=40, help="views of each kind, default 40")
    add_outputs(parser)
    arguments = parser.parse_args()
    result = measure(arguments.count)
    leave(arguments, "Feeding eight A100", table(result), result)


if __name__ == "__main__":
    main()
