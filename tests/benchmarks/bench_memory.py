"""Peak memory of `defusion degrade` against the number of pictures in the folder: it should be flat.

    python tests/benchmarks/bench_memory.py --counts 10 1000 20000 --markdown docs/speed.md

The folder holds one photograph under many names (hard links). Every run is a process of its own; what is told is its
peak resident memory, of the largest of its processes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from subprocess import DEVNULL, Popen

import cv2
from skimage import data

LIMIT = 1.2
"""The peak with most pictures over the peak with fewest."""


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
        command = [sys.executable, "-m", "defusion_cli", "degrade", "--plugin", plugin, str(pictures), str(out)]
        start = time.perf_counter()
        process = Popen(command, stdout=DEVNULL, stderr=DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
        made = sum(path.suffix in (".jpg", ".png") for path in out.iterdir())
        if made != count:
            raise RuntimeError(f"{made} pictures instead of {count}")
    unit = 1 if sys.platform == "darwin" else 1024
    return {"pictures": count, "peak_mb": usage.ru_maxrss * unit / 1e6, "seconds": time.perf_counter() - start}


def table(rows: list[dict[str, float]], side_px: int) -> str:
    """Markdown."""
    lines = [f"| pictures of {side_px}×{side_px} | peak memory |", "|---|---|"]
    return "\n".join(lines + [f"| {row['pictures']} | {row['peak_mb']:.0f} MB |" for row in rows])


def main() -> int:
    """Print the table; exit with 1 if memory grows with the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[10, 1000], help="pictures a run, default 10 1000")
    parser.add_argument("--side", type=int, default=128, help="width and height of a picture in pixels, default 128")
    parser.add_argument("--plugin", default="rain", help="degradation, default rain")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--markdown", type=Path, help="also add a section to this page")
    arguments = parser.parse_args()
    rows = [peak_megabytes(count, arguments.side, arguments.plugin) for count in arguments.counts]
    print(table(rows, arguments.side))
    if arguments.markdown:
        with arguments.markdown.open("a", encoding="utf-8") as page:
            page.write(f"\n## Memory of `degrade`\n\n{table(rows, arguments.side)}\n")
    if arguments.json:
        document = {"version": 1, "side_px": arguments.side, "rows": rows}
        arguments.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return int(rows[-1]["peak_mb"] > LIMIT * rows[0]["peak_mb"])


if __name__ == "__main__":
    sys.exit(main())
