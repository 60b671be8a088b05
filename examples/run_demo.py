"""Restore every folder of examples/photos/ with `defusion restore` and draw before and after side by side.

Usage: python examples/run_demo.py [--model default|FOLDER] [--steps N]

The name of a folder is the degradation to take away; `rain+noise` is a mixture of two. Everything after the script's
name is handed on to `defusion restore`.
"""

from __future__ import annotations

import os
import shlex
import sys
from itertools import zip_longest
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from sheets import draw_sheet

from defusion_cli.app import app

FOLDER = Path(__file__).parent
OUT = FOLDER / "out"
TILE = (300, 225)


def restore(photos: Path, options: list[str]) -> Path:
    """Run `defusion restore` over one folder; finished files are skipped, so a second run is quick."""
    target = OUT / photos.name
    wanted = [word for degradation in photos.name.split("+") for word in ("--degradation", degradation)]
    command = ["restore", os.path.relpath(photos), os.path.relpath(target), *wanted, *options]
    print("$ defusion", shlex.join(command), flush=True)
    # In this process rather than in one for each folder, so that PyTorch is loaded once.
    status = app(command, standalone_mode=False)
    if status:
        sys.exit(status)
    return target


def psnr(image: Image.Image, clean: Image.Image) -> float:
    """Peak signal-to-noise ratio of 8-bit RGB values, in decibels."""
    difference = np.asarray(image.convert("RGB"), np.float64) - np.asarray(clean.convert("RGB"), np.float64)
    return float(10 * np.log10(255**2 / np.mean(difference**2)))


def compare(before: Path, after: Path) -> list[tuple[Image.Image, str]]:
    """One row of the sheet: damaged, restored and true picture; prints how far the two are from the truth."""
    clean = Image.open(FOLDER / "clean" / before.name)
    damaged, restored = Image.open(before), Image.open(after)
    was, now = psnr(damaged, clean), psnr(restored, clean)
    print(f"{before.parent.name:<14}{before.stem:<12}{was:6.1f} dB -> {now:5.1f} dB")
    row = [(damaged, f"{before.parent.name}: {was:.1f} dB"), (restored, f"restored: {now:.1f} dB"), (clean, "true")]
    return [(ImageOps.pad(picture.convert("RGB"), TILE, color="white"), caption) for picture, caption in row]


def main() -> None:
    """Restore, compare, and print the path of the sheet."""
    rows = []
    for photos in sorted((FOLDER / "photos").iterdir()):
        target = restore(photos, sys.argv[1:])
        for before in sorted(photos.glob("*.jpg")):
            (after,) = target.glob(f"{before.stem}.*")
            rows.append(compare(before, after))
    wide = [left + right for left, right in zip_longest(rows[::2], rows[1::2], fillvalue=[])]
    print(draw_sheet(wide, OUT / "before-after.jpg"))


if __name__ == "__main__":
    main()
