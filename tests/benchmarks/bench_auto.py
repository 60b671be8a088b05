"""What it costs not to name the damage: restoring by what is recognised, against restoring by name.

    python tests/benchmarks/bench_auto.py PHOTOS [--model default] [--recogniser FOLDER] [--photos 24] [--json FILE]

Every photograph under every degradation at severity 0.5, under two mixtures of two, and as it is. Named first is the
share in which the right degradation is the most probable; found, that in which it is called present; gain, what
restoring adds to the RGB PSNR of the damaged picture. A clean photograph should stay as it is. With ``--look-only``
nothing is restored.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from defusion_cli.canvas import ArrayPhoto
from defusion_cli.images import Pixels, list_images, read_pixels, to_uint8
from defusion_cli.plugins import installed_plugins
from defusion_cli.recognition import recognise
from defusion_cli.restore.instruction import Instructor
from defusion_cli.restore.model import load_pipeline, load_recogniser
from defusion_cli.restore.scale import restore_parts
from defusion_cli.training.recogniser_check import SEVERITY, damaged, mixtures
from defusion_cli.training.validation import psnr


def as_file(pixels: Pixels) -> Pixels:
    """What an 8-bit file keeps."""
    return (to_uint8(pixels) / np.float32(255)).astype(np.float32)


class Comparison:
    """One model and one recogniser."""

    def __init__(self, model: str, recogniser: str, look_only: bool) -> None:
        self.plugins, self.pipeline = installed_plugins(), load_pipeline(model)
        self.network, self.shown = load_recogniser(recogniser), Instructor(self.pipeline, self.plugins)
        self.look_only = look_only

    def row(self, clean: Pixels, lq: Pixels, ids: tuple[str, ...]) -> dict[str, Any]:
        """What was recognised, and PSNR before, by name, and automatically."""
        lq = as_file(lq)
        seen = recognise(self.network, ArrayPhoto(lq))
        present = self.shown.recognised(seen)
        row: dict[str, Any] = {"seen": present, "best": seen.best, "said": str(seen), "before": psnr(lq, clean)}
        if not self.look_only:
            row["named"] = psnr(self.restore(lq, ids), clean)
            same = set(ids) == set(present)
            row["auto"] = row["named"] if same else psnr(self.restore(lq, present), clean)
        return row

    def restore(self, lq: Pixels, ids: tuple[str, ...]) -> Pixels:
        """`lq` without `ids`."""
        return as_file(restore_parts(self.pipeline, lq, self.shown.by_parts(ids), reduction=1))


def measure(photos: list[Path], comparison: Comparison) -> dict[str, list[dict[str, Any]]]:
    """Rows of one photograph each, by what was done to it."""
    ids, plugins = comparison.network.ids, comparison.plugins
    groups: dict[str, list[dict[str, Any]]] = {name: [] for name in [*ids, "mixture", "clean"]}
    for number, path in enumerate(photos):
        clean = read_pixels(path)
        groups["clean"].append(comparison.row(clean, clean, ()))
        for name in ids:
            groups[name].append(
                comparison.row(clean, damaged(clean, [name], number, plugins, SEVERITY), (name,)) | {"ids": [name]}
            )
        for mixture in mixtures(ids, number, plugins):
            lq = damaged(clean, mixture, number, plugins, SEVERITY)
            groups["mixture"].append(comparison.row(clean, lq, tuple(mixture)) | {"ids": mixture})
    return groups


def table(groups: dict[str, list[dict[str, Any]]]) -> str:
    """Markdown: a row a degradation, mixtures, and clean photographs."""
    lines = ["| damage | named first | found | nothing else | gain, named | gain, auto |", "|---|---|---|---|---|---|"]
    for name, rows in groups.items():
        if name == "clean":
            continue
        first = np.mean([row["best"] in row["ids"] for row in rows])
        found = np.mean([set(row["ids"]) <= set(row["seen"]) for row in rows])
        exact = np.mean([set(row["ids"]) == set(row["seen"]) for row in rows])
        lines.append(
            f"| {name} | {first:.0%} | {found:.0%} | {exact:.0%} | {_gain(rows, 'named')} | {_gain(rows, 'auto')} |"
        )
    singles = [row for name, rows in groups.items() if name not in ("clean", "mixture") for row in rows]
    first = np.mean([row["best"] in row["ids"] for row in singles])
    lines += ["", f"named first, mean of all degradations: {first:.1%}"]
    alarms = [row["said"] for row in groups["clean"] if row["seen"]]
    kept = [row["auto"] for row in groups["clean"] if row["seen"] and "auto" in row]
    lines.append(f"clean photographs called damaged: {len(alarms)} of {len(groups['clean'])} {alarms}")
    lines += [f"of these the least like its original afterwards: {min(kept):.1f} dB"] if kept else []
    return "\n".join(lines)


def _gain(rows: list[dict[str, Any]], key: str) -> str:
    return f"{np.mean([row[key] - row['before'] for row in rows]):+.2f}" if key in rows[0] else ""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="default")
    parser.add_argument("--recogniser", default="default", help="a model folder whose recogniser is used")
    parser.add_argument("--photos", type=int, default=24)
    parser.add_argument("--look-only", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    photos = [arguments.folder / path for path in list_images(arguments.folder)][: arguments.photos]
    groups = measure(photos, Comparison(arguments.model, arguments.recogniser, arguments.look_only))
    print(f"{len(photos)} photographs, severity {SEVERITY}, one step, RGB PSNR in dB\n")
    print(table(groups))
    if arguments.json:
        arguments.json.write_text(json.dumps(groups, indent=1))


if __name__ == "__main__":
    main()
