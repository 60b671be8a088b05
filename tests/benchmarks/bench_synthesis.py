"""Damaged pictures per second beside albumentations and imagecorruptions, in one run.

    make bench
    python tests/benchmarks/bench_synthesis.py --json out.json --markdown docs/speed.md

512×512 pixels, 8 bits in and out, parameters drawn anew for every picture (ours over all severities, theirs over their
default ranges or all five severities), one thread. All sides of a row take turns on the same picture, and what counts
is processor time, so that other programs on the machine do not decide the ratio. The peers come with the extra
``bench``; a side that is not installed, or fails, is left out and named.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import cv2
import numpy as np
from numpy.typing import NDArray
from outputs import add_outputs, leave
from skimage import data

from defusion_cli.allocator import keep_freed_memory
from defusion_cli.plugins import Degradation, Scene, installed_plugins, pseudo_depth

Picture = NDArray[np.uint8]
Maker = Callable[[Picture, int], Picture]
PEERS = {"albumentations": "2.0.8", "imagecorruptions": "1.1.2"}
SLOWEST = 60.0
"""Pictures per second that every plugin must reach, peers or no peers."""

REACHED = "reached"


@dataclass(frozen=True)
class Row:
    """One comparison: a plugin (of one `kind`, where it has several), its peers, and the ratios to reach."""

    name: str
    plugin: str
    kind: str = ""
    albumentations: str = ""
    imagecorruptions: str = ""
    over_albumentations: float = 0.0
    over_imagecorruptions: float = 0.0


ROWS = (
    Row("haze", "haze", "", "RandomFog", "fog", over_albumentations=10.0),
    Row("snow", "snow", "", "RandomSnow", "snow", over_imagecorruptions=3.0),
    Row("raindrop", "raindrop", "", "Spatter", "spatter", over_imagecorruptions=3.0),
    Row("rain", "rain", "", "RandomRain", ""),
    Row("motion blur", "motion-blur", "", "MotionBlur", "motion_blur", over_imagecorruptions=1.5),
    Row("defocus", "defocus-blur", "", "Defocus", "defocus_blur", over_imagecorruptions=1.5),
    Row("Gaussian noise", "noise", "gaussian", "GaussNoise", "gaussian_noise", 1.0, 1.0),
    Row("camera noise", "noise", "camera", "ISONoise", "shot_noise", over_albumentations=1.0),
    Row("JPEG", "jpeg", "", "ImageCompression", "jpeg_compression", over_imagecorruptions=0.9),
    Row("low light", "low-light"),
    Row("underwater", "underwater"),
)


def our_maker(plugin: Degradation[Any], kind: str) -> Maker:
    """Draw parameters (until they are of that kind), estimate a depth if they need one, and damage."""
    rng = np.random.default_rng(0)

    def make(picture: Picture, turn: int) -> Picture:
        params = plugin.sample(rng)
        while kind and params.kind != kind:
            params = plugin.sample(rng)
        if not plugin.needs_depth(params):
            return plugin.apply_8bit(picture, params, rng)
        depth = pseudo_depth(np.multiply(picture, np.float32(1 / 255), dtype=np.float32), rng)
        return plugin.apply_8bit(picture, params, rng, Scene(depth))

    return make


def albumentations_maker(name: str) -> Maker:
    """A transform of albumentations with its default ranges, applied always."""
    import albumentations

    transform = getattr(albumentations, name)(p=1.0)
    return lambda picture, turn: transform(image=picture)["image"]


def imagecorruptions_maker(name: str) -> Maker:
    """A corruption of imagecorruptions at severities 1 to 5 in turn."""
    from imagecorruptions import corrupt

    return lambda picture, turn: corrupt(picture, severity=1 + turn % 5, corruption_name=name)


def makers(row: Row, missing: dict[str, str]) -> dict[str, Maker]:
    """The sides of a row that work here; what does not goes to `missing`."""
    sides = {"defusion": our_maker(installed_plugins()[row.plugin], row.kind)}
    picture = data.astronaut()
    for peer, name, build in (
        ("albumentations", row.albumentations, albumentations_maker),
        ("imagecorruptions", row.imagecorruptions, imagecorruptions_maker),
    ):
        if not name:
            continue
        try:
            side = build(name)
            side(picture.copy(), 0)
        except Exception as error:  # a stranger's code on versions it was not made for
            missing[f"{peer} {name}"] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        else:
            sides[peer] = side
    return sides


def pictures_per_second(sides: dict[str, Maker], turns: int, picture: Picture) -> dict[str, float]:
    """Rates of all sides, which take turns; the first, unmeasured turn fills caches."""
    spent = dict.fromkeys(sides, 0.0)
    for turn in range(turns + 1):
        for side, make in sides.items():
            input_copy = picture.copy()
            start = time.process_time()
            out = make(input_copy, turn)
            spent[side] += (time.process_time() - start) * (turn > 0)
            if out.shape != picture.shape or out.dtype != np.uint8:
                raise RuntimeError(f"{side} returned {out.dtype} {out.shape}")
    return {side: turns / seconds for side, seconds in spent.items()}


def measure(rows: tuple[Row, ...], turns: int, missing: dict[str, str]) -> list[dict[str, Any]]:
    """One dictionary a row: rates, and the smallest share of a required ratio that was reached."""
    cv2.setNumThreads(1)
    keep_freed_memory()
    picture = data.astronaut()
    results = []
    for row in rows:
        sides = makers(row, missing)
        rates = pictures_per_second(sides, turns, picture)
        required = {"albumentations": row.over_albumentations, "imagecorruptions": row.over_imagecorruptions}
        margins = [rates["defusion"] / SLOWEST]
        margins += [
            rates["defusion"] / rates[peer] / ratio for peer, ratio in required.items() if ratio * (peer in rates)
        ]
        results.append(
            {
                "name": row.name,
                "peers": {"albumentations": row.albumentations, "imagecorruptions": row.imagecorruptions},
                "pictures_per_second": {side: round(rate, 1) for side, rate in rates.items()},
                "required": {peer: ratio for peer, ratio in required.items() if ratio},
                "margin": round(min(margins), 3),
            }
        )
    return results


def table(results: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = ["| pictures/s | defusion | albumentations | imagecorruptions | asked for | |", "|---|---|---|---|---|---|"]
    for row in results:
        rates = row["pictures_per_second"]
        cells = [f"{rates['defusion']:.0f}"]
        for peer, name in row["peers"].items():
            cells.append(
                f"{rates[peer]:.0f} ({name}): {rates['defusion'] / rates[peer]:.2f}×" if peer in rates else "–"
            )
        asked = ", ".join(f"{ratio:g}× {peer}" for peer, ratio in row["required"].items()) or f"{SLOWEST:.0f}/s"
        cells += [asked, verdict(row)]
        lines.append(f"| {row['name']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def verdict(row: dict[str, Any]) -> str:
    """Whether what is asked for is reached."""
    if not row["required"].keys() <= row["pictures_per_second"].keys():
        return "not measured"
    return REACHED if row["margin"] >= 1 else f"{row['margin']:.2f} of it"


def words(missing: dict[str, str]) -> str:
    """How the table came about, and what is not in it."""
    parts = [
        "Pictures of 512×512 in a second of one thread's processor time, 8 bits in and out, parameters drawn anew for "
        "every picture. All sides of a row took turns in one process. What shares a row shares a name, not a model.",
        ", ".join(f"{name} {version}" for name, version in versions().items()) + ".",
    ]
    return "\n\n".join([*parts, *(f"{side} was left out ({reason})." for side, reason in missing.items())])


def versions() -> dict[str, str]:
    """Installed versions of what takes part."""
    found = {}
    for name in ("defusion", *PEERS, "numpy", "opencv-python-headless"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def main() -> int:
    """Print the table; exit with 1 if a ratio is missed or could not be measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=60, help="pictures a side and row, default 60")
    parser.add_argument("--only", action="append", default=[], help="rows to measure, by plugin id; default all")
    add_outputs(parser)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    missing: dict[str, str] = {}
    rows = tuple(row for row in ROWS if not arguments.only or row.plugin in arguments.only)
    results = measure(rows, arguments.turns, missing)
    document = {"versions": versions(), "rows": results, "left_out": missing}
    leave(arguments, "Damaging photographs", table(results), document, words(missing))
    return int(any(verdict(row) != REACHED for row in results))


if __name__ == "__main__":
    sys.exit(main())
