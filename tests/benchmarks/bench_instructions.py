"""Does the model remove what it is shown, all of it and only that? Five tables, on photographs without damage.

    python tests/benchmarks/bench_instructions.py PHOTOS [--model default] [--photos 4] [--crop 320] [--only NAME …]

example     an example pair (another photograph, before and after) against the name: share of the gain in PSNR
shift       mean colour shift where drops or streaks did not touch the picture, in units of 1/255
subset      two kinds of damage: shown one, PSNR to the picture that has only the other; shown both, to the clean one
clean       a clean photograph under every instruction: PSNR to itself
orders      rain, snow and noise in all six orders: shown together, named together, one after another
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
from bench_model import BUILT_IN, SEVERITY
from bench_steps import central

from defusion_cli.images import Pixels, list_images, read_pixels, to_uint8
from defusion_cli.plugins import Recipe, apply_recipe, draw_recipe, installed_plugins, physical_order
from defusion_cli.restore.instruction import Instruction, Instructor, Part
from defusion_cli.restore.model import load_pipeline
from defusion_cli.restore.scale import restore_parts
from defusion_cli.training.validation import psnr

PAIRS = (("rain", "noise"), ("haze", "noise"), ("snow", "jpeg"), ("rain", "haze"))
THREE = ("rain", "snow", "noise")


class Bench:
    """A model, and photographs to damage."""

    def __init__(self, model: str, cleans: list[Pixels]) -> None:
        self.plugins, self.pipeline, self.cleans = installed_plugins(), load_pipeline(model), cleans
        self.shown = Instructor(self.pipeline, self.plugins)

    def recipe(self, ids: tuple[str, ...], number: int) -> Recipe:
        """One realisation of several kinds of damage, in physical order."""
        rng = np.random.default_rng([number, *(BUILT_IN.index(i) for i in ids)])
        return draw_recipe(physical_order(ids, self.plugins), self.plugins, rng, SEVERITY)

    def damage(self, clean: Pixels, recipe: Recipe, keep: tuple[str, ...] | None = None) -> Pixels:
        """`clean` as an 8-bit file has it under a recipe, or under the kept kinds of it."""
        return as_file(apply_recipe(clean, recipe, self.plugins, keep=keep))

    def restore(self, lq: Pixels, shown: tuple[str, ...] | Instruction) -> Pixels:
        """By names or an instruction, as an 8-bit file has it."""
        names = [name for name in shown if isinstance(name, str)]
        instruction = self.shown.by_parts(names) if names else cast("Instruction", shown)
        return as_file(restore_parts(self.pipeline, lq, instruction, reduction=1))


def as_file(pixels: Pixels) -> Pixels:
    """What an 8-bit file keeps."""
    return (to_uint8(pixels) / np.float32(255)).astype(np.float32)


def example(bench: Bench) -> None:
    """An example made of the next photograph, with damage of its own."""
    print("| damage | gain, named | gain, example | share |\n|---|---|---|---|")
    count = len(bench.cleans)
    for name in BUILT_IN:
        named, by_example = [], []
        for number, clean in enumerate(bench.cleans):
            lq = bench.damage(clean, bench.recipe((name,), number))
            after = bench.cleans[(number + 1) % count]
            before = bench.damage(after, bench.recipe((name,), number + count))
            named.append(psnr(bench.restore(lq, (name,)), clean) - psnr(lq, clean))
            restored = bench.restore(lq, bench.shown.example(before, after))
            by_example.append(psnr(restored, clean) - psnr(lq, clean))
        share = f"{np.mean(by_example) / np.mean(named):.0%}" if np.mean(named) > 0 else "no gain"
        print(f"| {name} | {np.mean(named):+.2f} | {np.mean(by_example):+.2f} | {share} |", flush=True)


def shift(bench: Bench) -> None:
    """Where the damaged picture is the clean one to the last bit, if that is a hundredth of it or more."""
    print("| damage | untouched | mean shift, worst channel | worst photograph | mean size of the change |")
    print("|---|---|---|---|---|")
    for name in ("raindrop", "rain", "snow"):
        shares, shifts, sizes = [], [], []
        for number, clean in enumerate(bench.cleans):
            lq = bench.damage(clean, bench.recipe((name,), number))
            untouched = (lq == as_file(clean)).all(2)
            shares.append(untouched.mean())
            if untouched.mean() > 0.01:
                change = 255 * (bench.restore(lq, (name,)) - lq)[untouched]
                shifts.append(np.abs(change.mean(0)).max())
                sizes.append(np.abs(change).mean())
        figures = f"{np.mean(shifts):.2f} | {np.max(shifts):.2f} | {np.mean(sizes):.2f}" if shifts else "| |"
        print(f"| {name} | {np.mean(shares):.0%} | {figures} |", flush=True)


def subset(bench: Bench) -> None:
    """What is shown goes, the rest stays: same realisations with and without."""
    print("| damage | shown | to the picture with | before | after | gain |\n|---|---|---|---|---|---|")
    for pair in PAIRS:
        for shown in ((pair[0],), (pair[1],), pair):
            left = tuple(name for name in pair if name not in shown)
            before, after = [], []
            for number, clean in enumerate(bench.cleans):
                recipe = bench.recipe(pair, number)
                lq = bench.damage(clean, recipe)
                target = bench.damage(clean, recipe, left)
                before.append(psnr(lq, target))
                after.append(psnr(bench.restore(lq, shown), target))
            words = f"{'+'.join(pair)} | {'+'.join(shown)} | {'+'.join(left) or 'no damage'}"
            gain = np.mean(after) - np.mean(before)
            print(f"| {words} | {np.mean(before):.2f} | {np.mean(after):.2f} | {gain:+.2f} |", flush=True)


def clean(bench: Bench) -> None:
    """An instruction for damage that is not there asks for nothing. PSNR counts up to 60 dB."""
    print("| shown | mean PSNR of clean photographs to themselves | least | 40 and more |\n|---|---|---|---|")
    for name in BUILT_IN:
        kept = [min(psnr(bench.restore(as_file(photo), (name,)), as_file(photo)), 60) for photo in bench.cleans]
        close = f"{sum(value >= 40 for value in kept)} of {len(kept)}"
        print(f"| {name} | {np.mean(kept):.1f} | {np.min(kept):.1f} | {close} |", flush=True)


def orders(bench: Bench) -> None:
    """The supplement's mixed set: one instruction for all three, the three by name, or one by one, the last first."""
    ways = ("one instruction", "by name, as `restore`", "one after another, the last first, 8 bits between")
    print(f"| order | damaged | {' | '.join(ways)} |\n|---|---|---|---|---|")
    rows: dict[str, list[tuple[float, ...]]] = {}
    at_once = (Part(bench.shown.named(THREE)),)
    for number, photo in enumerate(bench.cleans):
        for recipe in bench.recipe(THREE, number).orders():
            lq = bench.damage(photo, recipe)
            step = lq
            for name in reversed(recipe.ids):
                step = bench.restore(step, (name,))
            results = lq, bench.restore(lq, at_once), bench.restore(lq, THREE), step
            rows.setdefault(", ".join(recipe.ids), []).append(tuple(psnr(result, photo) for result in results))
    for order, scores in rows.items():
        print(f"| {order} | " + " | ".join(f"{value:.2f}" for value in np.mean(scores, axis=0)) + " |")
    damaged, *means = np.mean([score for scores in rows.values() for score in scores], axis=0)
    print(f"| mean | {damaged:.2f} | " + " | ".join(f"{mean:.2f} ({mean - damaged:+.2f})" for mean in means) + " |")


TABLES: dict[str, Callable[[Bench], None]] = {
    "example": example,
    "shift": shift,
    "subset": subset,
    "clean": clean,
    "orders": orders,
}


def main() -> None:
    """Measure and print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="default")
    parser.add_argument("--photos", type=int, default=4)
    parser.add_argument("--crop", type=int, default=320)
    parser.add_argument("--only", nargs="+", choices=TABLES, default=list(TABLES))
    arguments = parser.parse_args()
    paths = list_images(arguments.folder)
    chosen = [paths[k * len(paths) // arguments.photos] for k in range(min(arguments.photos, len(paths)))]
    bench = Bench(arguments.model, [central(read_pixels(arguments.folder / path), arguments.crop) for path in chosen])
    print(f"{len(chosen)} squares of {arguments.crop} px, severity {SEVERITY}, one step, RGB PSNR in dB")
    for name in arguments.only:
        print(f"\n## {name}\n", flush=True)
        TABLES[name](bench)


if __name__ == "__main__":
    main()
