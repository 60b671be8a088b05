"""What more steps buy: PSNR and LPIPS against the number of steps, for eight single degradations.

    python tests/benchmarks/bench_steps.py PHOTOS [--model default] [--steps 1 2 4 8 16] [--photos 4] [--plot FILE]

Central squares of the photographs, each damaged as `bench_model` damages it. LPIPS is that of ``defusion score``.
``--plot docs/steps.png`` draws the change from one step; ``--json FILE`` keeps the figures.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from bench_model import BUILT_IN, damage

from defusion_cli.images import Pixels, list_images, read_pixels, to_uint8
from defusion_cli.plugins import installed_plugins
from defusion_cli.restore.instruction import Instructor
from defusion_cli.restore.model import load_pipeline
from defusion_cli.restore.scale import restore_parts
from defusion_cli.scoring.engine import make_metric, run_metric
from defusion_cli.training.validation import psnr

TASKS = BUILT_IN[:8]
LEAST_PSNR = -1.0
"""dB that more steps may cost."""

Scores = dict[str, dict[int, tuple[float, float]]]
"""By task and steps (0: not restored), mean PSNR and mean LPIPS."""


def measure(cleans: list[Pixels], model: str, counts: list[int]) -> Scores:
    """Restore every picture under every task with every number of steps."""
    plugins, pipeline, lpips = installed_plugins(), load_pipeline(model), make_metric("lpips", "cpu")
    shown = Instructor(pipeline, plugins)
    scores: Scores = {}
    for task in TASKS:
        damaged = [damage(clean, task, number, plugins) for number, clean in enumerate(cleans)]
        outputs = {0: damaged}
        for steps in counts:
            told = shown.by_parts([task])
            restored = [restore_parts(pipeline, lq, told, steps, reduction=1) for lq in damaged]
            outputs[steps] = [(to_uint8(p) / np.float32(255)).astype(np.float32) for p in restored]
        scores[task] = {
            steps: (
                float(np.mean([psnr(p, clean) for p, clean in zip(pictures, cleans, strict=True)])),
                float(np.mean(run_metric(lpips, pictures, cleans))),
            )
            for steps, pictures in outputs.items()
        }
    return scores


def table(scores: Scores, counts: list[int]) -> str:
    """Markdown: PSNR / LPIPS of the damaged pictures and after so many steps."""
    lines = [f"| PSNR / LPIPS | damaged | {' | '.join(f'{n} steps' for n in counts)} |"]
    lines.append("|---|" + "---|" * (len(counts) + 1))
    for task, row in scores.items():
        lines.append(f"| {task} | " + " | ".join(f"{row[n][0]:.2f} / {row[n][1]:.3f}" for n in [0, *counts]) + " |")
    for steps in counts:
        if steps > 1 and 1 in counts:
            better = [
                task
                for task, row in scores.items()
                if row[steps][1] < row[1][1] and row[steps][0] - row[1][0] >= LEAST_PSNR
            ]
            lines.append(
                f"\n{steps} steps: LPIPS lower at most 1 dB below one step on {len(better)}: {', '.join(better)}"
            )
    return "\n".join(lines)


def plot(scores: Scores, counts: list[int], path: Path) -> None:
    """Two panels: by how much PSNR and LPIPS differ from those of one step."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    for column, (name, unit) in enumerate((("PSNR", " in dB, up is better"), ("LPIPS", ", down is better"))):
        axes = figure.add_subplot(1, 2, column + 1)
        for task, row in scores.items():
            axes.plot(counts, [row[n][column] - row[1][column] for n in counts], marker="o", markersize=3, label=task)
        axes.axhline(0, color="black", linewidth=0.8)
        axes.set_xscale("log", base=2)
        axes.set_xticks(counts, [str(n) for n in counts])
        axes.set_xlabel("steps")
        axes.set_ylabel(f"{name} against one step{unit}")
    axes.legend(fontsize=7)
    figure.savefig(path, dpi=110)


def central(pixels: Pixels, side: int) -> Pixels:
    """The square in the middle."""
    top, left = ((length - side) // 2 if length > side else 0 for length in pixels.shape[:2])
    return np.ascontiguousarray(pixels[top : top + side, left : left + side])


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="default")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--photos", type=int, default=4)
    parser.add_argument("--crop", type=int, default=256)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    counts = sorted({1, *arguments.steps})
    paths = list_images(arguments.folder)
    chosen = [paths[k * len(paths) // arguments.photos] for k in range(min(arguments.photos, len(paths)))]
    cleans = [central(read_pixels(arguments.folder / path), arguments.crop) for path in chosen]
    scores = measure(cleans, arguments.model, counts)
    print(f"{len(cleans)} squares of {arguments.crop} px\n\n{table(scores, counts)}")
    if arguments.plot:
        plot(scores, counts, arguments.plot)
    if arguments.json:
        arguments.json.write_text(json.dumps(scores, indent=1))


if __name__ == "__main__":
    main()
