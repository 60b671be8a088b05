"""Peak memory: of `defusion degrade` against the number of pictures, and of `defusion restore` for a large one.

    python tests/benchmarks/bench_memory.py --counts 10 1000 20000 --markdown docs/speed.md
    python tests/benchmarks/bench_memory.py --counts --megapixels 200

The folder holds one photograph under many names (hard links): the peak should be flat. The large picture is a PNG,
20,000 pixels wide, for which 2 GB should do. Every run is a process of its own; what is told is its peak resident
memory, of the largest of its processes.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path
from subprocess import DEVNULL, Popen

import cv2
import numpy as np
from skimage import data

LIMIT = 1.2
"""The peak with most pictures over the peak with fewest."""

LARGE_LIMIT_MB = 2000
"""The peak for a picture of 200 megapixels."""

WIDE_PX = 20_000


def fill_folder(folder: Path, count: int, side_px: int) -> None:
    """`count` names of one JPEG photograph."""
    folder.mkdir()
    first = folder / "0.jpg"
    photo = cv2.resize(data.astronaut()[..., ::-1], (side_px, side_px), interpolation=cv2.INTER_AREA)
    if not cv2.imwrite(str(first), photo):
        raise OSError(f"{first} cannot be written")
    for number in range(1, count):
        os.link(first, folder / f"{number}.jpg")


def peak_megabytes(count: int, side_px: int, plugin: str) -> dict[str, float]:
    """Peak resident memory of one run over `count` pictures, and how long it took."""
    with tempfile.TemporaryDirectory() as scratch:
        pictures, out = Path(scratch) / "in", Path(scratch) / "out"
        fill_folder(pictures, count, side_px)
        usage = run([str(pictures), str(out)], "degrade", "--plugin", plugin)
        made = sum(path.suffix in (".jpg", ".png") for path in out.iterdir())
        if made != count:
            raise RuntimeError(f"{made} pictures instead of {count}")
    return {"pictures": count, **usage}


def run(paths: list[str], *arguments: str) -> dict[str, float]:
    """Peak resident memory and time of ``defusion ARGUMENTS PATHS``."""
    command = [sys.executable, "-m", "defusion_cli", *arguments, *paths]
    start = time.perf_counter()
    process = Popen(command, stdout=DEVNULL, stderr=DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    unit = 1 if sys.platform == "darwin" else 1024
    return {"peak_mb": usage.ru_maxrss * unit / 1e6, "seconds": time.perf_counter() - start}


def draw_large(path: Path, megapixels: float) -> None:
    """A PNG, `WIDE_PX` wide, of one photograph repeated."""
    photo = data.astronaut()[..., ::-1]
    height = round(megapixels * 1e6 / WIDE_PX)
    times = -(-height // photo.shape[0]), -(-WIDE_PX // photo.shape[1]), 1
    if not cv2.imwrite(str(path), np.tile(photo, times)[:height, :WIDE_PX], [cv2.IMWRITE_PNG_COMPRESSION, 1]):
        raise OSError(f"{path} cannot be written")


def large_megabytes(megapixels: float, model: str) -> dict[str, float]:
    """Peak resident memory of restoring one large picture, and how long it took."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as scratch:
        path = Path(scratch, "large.png")
        # In a process of its own: what this one has taken would be counted as the peak of those it starts.
        drawing = multiprocessing.get_context("spawn").Process(target=draw_large, args=(path, megapixels))
        drawing.start()
        drawing.join()
        paths = [str(path), str(path.with_name("restored.png"))]
        return {"megapixels": megapixels, **run(paths, "restore", "--blind", "--device", "cpu", "--model", model)}


def table(rows: list[dict[str, float]], side_px: int) -> str:
    """Markdown."""
    lines = [f"| pictures of {side_px}×{side_px} | peak memory |", "|---|---|"]
    return "\n".join(lines + [f"| {row['pictures']} | {row['peak_mb']:.0f} MB |" for row in rows])


def main() -> int:
    """Print the table; exit with 1 if memory grows with the folder, or a large picture needs too much."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="*", default=[10, 1000], help="pictures a run, default 10 1000")
    parser.add_argument("--side", type=int, default=128, help="width and height of a picture in pixels, default 128")
    parser.add_argument("--plugin", default="rain", help="degradation, default rain")
    parser.add_argument("--megapixels", type=float, help="also restore one picture of this size")
    parser.add_argument("--model", default="default", help="what to restore it with, default default")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--markdown", type=Path, help="also add a section to this page")
    arguments = parser.parse_args()
    rows = [peak_megabytes(count, arguments.side, arguments.plugin) for count in arguments.counts]
    fine = not rows or rows[-1]["peak_mb"] <= LIMIT * rows[0]["peak_mb"]
    if rows:
        print(table(rows, arguments.side))
    if arguments.megapixels:
        large = large_megabytes(arguments.megapixels, arguments.model)
        print(f"restore, {large['megapixels']:g} megapixels: {large['peak_mb']:.0f} MB in {large['seconds']:.0f} s")
        fine = fine and large["peak_mb"] < LARGE_LIMIT_MB
    if arguments.markdown:
        with arguments.markdown.open("a", encoding="utf-8") as page:
            page.write(f"\n## Memory of `degrade`\n\n{table(rows, arguments.side)}\n")
    if arguments.json:
        document = {"version": 1, "side_px": arguments.side, "rows": rows}
        arguments.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return int(not fine)


if __name__ == "__main__":
    sys.exit(main())
