"""How much of its gain on ordinary photographs a model keeps on large ones with damage as large.

    python tests/benchmarks/bench_scale.py PHOTOS [--factor 4] [--crop 400] [--number 4] [--json FILE]

Every photograph is damaged and restored at its own size, and once more enlarged (bicubic) and damaged at that size: the
same realisation, every length in pixels times the factor, every density per megapixel divided by its square. Noise and
JPEG belong to the pixels of a file and are drawn at the large size as they are; "noise, enlarged" is noise that was in
the picture before it was enlarged. The large ones are restored at the scale that is found, and at scale 1. Gains are in
dB of RGB PSNR on 8 bits; strength as in bench_model.py.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from bench_model import BUILT_IN, FIXED, SEVERITY

from defusion_cli.canvas import ArrayPhoto
from defusion_cli.diffusion import DefusionPipeline
from defusion_cli.images import Pixels, list_images, read_pixels, to_uint8, write_image
from defusion_cli.plugins import Scene, draw_recipe, installed_plugins, pseudo_depth
from defusion_cli.plugins.compose import Plugins
from defusion_cli.plugins.params import build_params
from defusion_cli.restore.instruction import Instruction, Instructor
from defusion_cli.restore.model import load_pipeline
from defusion_cli.restore.pixels import restore_pixels
from defusion_cli.restore.scale import plan_passes
from defusion_cli.training.validation import psnr

ENLARGED = ", enlarged"
CASES = (*BUILT_IN, "noise" + ENLARGED)
OF_PIXELS = ("noise", "jpeg", "low-light")
"""Degradations with lengths that are those of the sensor's or file's pixels."""


def eight_bits(pixels: Pixels) -> Pixels:
    """As a file holds it."""
    return (to_uint8(np.clip(pixels, 0, 1)) / np.float32(255)).astype(np.float32)


def enlarge(pixels: Pixels, factor: int) -> Pixels:
    """Bicubic, rounded to 8 bits."""
    return eight_bits(cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC))


def damage(clean: Pixels, plugin_id: str, number: int, plugins: Plugins, factor: int = 1) -> Pixels:
    """`clean` under a degradation whose lengths are `factor` times the usual ones, rounded to 8 bits."""
    rng = np.random.default_rng([number, BUILT_IN.index(plugin_id)])
    recipe = draw_recipe([plugin_id], plugins, rng, SEVERITY, {plugin_id: FIXED.get(plugin_id, {})})
    plugin, stage = plugins[plugin_id], recipe.stages[0]
    params = build_params(plugin.Params, stage.params, plugin_id)
    powers = {} if plugin_id in OF_PIXELS else {"px": 1, "1/Mpx": -2}
    larger = {
        field.name: getattr(params, field.name) * factor ** powers[field.metadata["unit"]]
        for field in fields(params)
        if field.metadata["unit"] in powers
    }
    depth = pseudo_depth(clean, np.random.default_rng(recipe.depth_seed)) if plugin.uses_depth else None
    # Not through the recipe: bounds of parameters are those of ordinary photographs.
    damaged = plugin.apply(clean, replace(params, **larger), np.random.default_rng(stage.seed), Scene(depth))
    return eight_bits(damaged)


def restored(
    pipeline: DefusionPipeline, lq: Pixels, instruction: Instruction, reduction: int | None
) -> tuple[Pixels, int, float]:
    """The picture, by how much it was reduced, and the seconds that took."""
    start = time.perf_counter()
    (only,) = plan_passes(pipeline, ArrayPhoto(lq), instruction, reduction)
    out = restore_pixels(pipeline, lq, only.tokens, reduction=only.reduction, nature=only.nature)
    return out, only.reduction, time.perf_counter() - start


def measure(photos: list[Path], options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One row a degradation and photograph."""
    plugins, pipeline = installed_plugins(), load_pipeline(options.model)
    shown = Instructor(pipeline, plugins)
    for case in options.degradations or CASES:
        plugin_id = case.removesuffix(ENLARGED)
        instruction = shown.by_parts([plugin_id])
        for number, path in enumerate(photos):
            clean = read_pixels(path)
            top, left = (max(0, side - options.crop) // 2 for side in clean.shape[:2])
            clean = np.ascontiguousarray(clean[top : top + options.crop, left : left + options.crop])
            lq = damage(clean, plugin_id, number, plugins)
            row = {
                "case": case,
                "photo": path.name,
                "native": gain(restored(pipeline, lq, instruction, 1)[0], lq, clean),
            }
            large = enlarge(clean, options.factor)
            if case == plugin_id:
                large_lq = damage(large, plugin_id, number, plugins, options.factor)
            else:
                large_lq = enlarge(lq, options.factor)
            out, n, seconds = restored(pipeline, large_lq, instruction, None)
            row |= {"auto": gain(out, large_lq, large), "reduction": n, "seconds": seconds}
            if options.sheets:
                write_image(options.sheets / f"{case}-{path.stem}.png", np.concatenate([large, large_lq, out], axis=1))
            if not options.auto_only:
                out = out if n == 1 else restored(pipeline, large_lq, instruction, 1)[0]
                row["full"] = gain(out, large_lq, large)
            yield row


def gain(out: Pixels, lq: Pixels, clean: Pixels) -> float:
    """Of PSNR, in dB."""
    return psnr(out, clean) - psnr(lq, clean)


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--model", default="default")
    parser.add_argument("--factor", type=int, default=4)
    parser.add_argument("--crop", type=int, default=10_000, help="side of the middle square that is used")
    parser.add_argument("--number", type=int, default=4, help="of photographs, spread over the folder")
    parser.add_argument("--auto-only", action="store_true", help="leave out scale 1, which takes longest")
    parser.add_argument("--degradations", nargs="*", choices=CASES)
    parser.add_argument("--json", type=Path, help="one line a degradation and photograph, as they come")
    parser.add_argument("--sheets", type=Path, help="folder for clean, damaged and restored side by side")
    options = parser.parse_args()
    paths = [options.photos / path for path in list_images(options.photos)]
    photos = [paths[k * len(paths) // options.number] for k in range(options.number)]
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in measure(photos, options):
        rows.setdefault(row["case"], []).append(row)
        if options.json:
            with open(options.json, "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
    print(f"{len(photos)} pictures, {options.factor} times as large, one step, gain of RGB PSNR in dB\n")
    print("| degradation | own size | large, auto | of that | scales found | seconds | large, scale 1 |")
    print("|---|---|---|---|---|---|---|")
    for case, of_case in rows.items():
        native, auto, seconds, full = (
            float(np.mean([row.get(key, np.nan) for row in of_case])) for key in ("native", "auto", "seconds", "full")
        )
        found = ", ".join(sorted({f"1/{row['reduction']}" for row in of_case}))
        print(f"| {case} | {native:+.2f} | {auto:+.2f} | {auto / native:.0%} | {found} | {seconds:.1f} | {full:+.2f} |")


if __name__ == "__main__":
    main()
