"""How good a model is on clean photographs of yours, each damaged by each built-in degradation.

    python tests/benchmarks/bench_model.py PHOTOS [--model default] [--steps 1] [--json FILE] [--sheet FILE]

For every degradation: mean RGB PSNR of the damaged pictures and of the restored ones (8-bit, clipped, as in a file),
on how many pictures it gained, and the gain when the instruction shows one of the *other* degradations instead. Noise
is Gaussian with sigma 25, JPEG has quality 10, the rest has severity 0.5.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from outputs import machine

from defusion_cli.images import Pixels, list_images, read_pixels, to_uint8, write_image
from defusion_cli.plugins import apply_recipe, draw_recipe, installed_plugins
from defusion_cli.plugins.compose import Plugins
from defusion_cli.restore.instruction import Instructor
from defusion_cli.restore.model import load_pipeline
from defusion_cli.restore.pixels import restore_pixels
from defusion_cli.restore.scale import restore_parts
from defusion_cli.training.validation import psnr

# In this order, which seeds the damage; new ones go to the end.
BUILT_IN = (
    "noise",
    "jpeg",
    "rain",
    "snow",
    "haze",
    "raindrop",
    "motion-blur",
    "defocus-blur",
    "low-light",
    "underwater",
)
FIXED: dict[str, dict[str, object]] = {
    "noise": {"kind": "gaussian", "sigma": 25.0, "unit": "sigma"},
    "jpeg": {"quality": 10, "subsampling": "4:2:0", "first_quality": 100, "shift_x": 0, "shift_y": 0},
}
SEVERITY = 0.5


def damage(clean: Pixels, plugin_id: str, number: int, plugins: Plugins) -> Pixels:
    """`clean` under a degradation, rounded to 8 bits; the same for the same number."""
    rng = np.random.default_rng([number, BUILT_IN.index(plugin_id)])
    overrides = {plugin_id: FIXED.get(plugin_id, {})}
    recipe = draw_recipe([plugin_id], plugins, rng, SEVERITY, overrides)
    return (to_uint8(apply_recipe(clean, recipe, plugins)) / np.float32(255)).astype(np.float32)


def measure(photos: list[Path], model: str, steps: int, sheet: Path | None) -> dict[str, Any]:
    """One row a degradation."""
    plugins, pipeline = installed_plugins(), load_pipeline(model)
    shown = Instructor(pipeline, plugins)
    cleans = [read_pixels(path) for path in photos]
    rows, strips = {}, []
    for plugin_id in BUILT_IN:
        others = [other for other in BUILT_IN if other != plugin_id]
        before, after, wrong = [], [], []
        for number, clean in enumerate(cleans):
            lq = damage(clean, plugin_id, number, plugins)
            restored, misled = (
                restore_parts(pipeline, lq, shown.by_parts([name]), steps, reduction=1)
                for name in (plugin_id, others[number % len(others)])
            )
            before.append(psnr(lq, clean))
            after.append(psnr(restored, clean))
            wrong.append(psnr(misled, clean))
            if number == 4 % len(cleans):
                strips.append(np.concatenate([p[:320, :480] for p in (clean, lq, restored)], axis=1))
        gains = np.array(after) - np.array(before)
        rows[plugin_id] = {
            "before": float(np.mean(before)),
            "after": float(np.mean(after)),
            "gain": float(gains.mean()),
            "improved": int((gains > 0).sum()),
            "gain_when_shown_another": float(np.mean(wrong) - np.mean(before)),
        }
    if sheet is not None:
        write_image(sheet, np.concatenate(strips), quality=90)
    return rows


def speed(model: str) -> float:
    """Seconds for one megapixel in one step, second of two runs."""
    pipeline = load_pipeline(model)
    tokens = Instructor(pipeline, installed_plugins()).named(["noise"])
    picture = np.random.default_rng(0).random((1000, 1000, 3), dtype=np.float32)
    for _ in range(2):
        start = time.perf_counter()
        restore_pixels(pipeline, picture, tokens)
        seconds = time.perf_counter() - start
    return seconds


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--model", default="default")
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--sheet", type=Path)
    arguments = parser.parse_args()
    photos = [arguments.photos / path for path in list_images(arguments.photos)]
    rows = measure(photos, arguments.model, arguments.steps, arguments.sheet)
    seconds = speed(arguments.model)
    print(f"{len(photos)} pictures, {arguments.steps} step(s), {machine()}, RGB PSNR in dB\n")
    print("| degradation | damaged | restored | gain | improved | gain when shown another |")
    print("|---|---|---|---|---|---|")
    for name, row in rows.items():
        figures = f"{row['before']:.2f} | {row['after']:.2f} | {row['gain']:+.2f} | {row['improved']}/{len(photos)}"
        print(f"| {name} | {figures} | {row['gain_when_shown_another']:+.2f} |")
    print(f"\none megapixel, one step: {seconds:.2f} s")
    if arguments.json:
        document = {"pictures": len(photos), "steps": arguments.steps, "rows": rows, "seconds_per_megapixel": seconds}
        arguments.json.write_text(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
