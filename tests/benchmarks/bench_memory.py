"""Peak memory of a command against the number of pictures in the folder, or their size: it should be flat.

    python tests/benchmarks/bench_memory.py degrade --runs 10x24 1000x24 20000x24 --markdown docs/speed.md
    python tests/benchmarks/bench_memory.py restore --runs 10x24 1000x24 1x1024 1x4096

The folder holds one photograph under many names (hard links). Every run is a process of its own; what is told is its
peak resident memory, of the largest of its processes.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from subprocess import DEVNULL, Popen

import cv2
from outputs import add_outputs, leave
from skimage import data

LIMITS = {"number": 1.1, "size": 1.2}
"""The greatest peak over the least: of folders of pictures of one size, and of pictures that are cut into tiles."""

TILE_PX = 1024
"""Smaller pictures need less memory than a tile does."""

OPTIONS = {
    "degrade": ("{pictures}", "{out}", "--plugin", "rain"),
    "restore": ("{pictures}", "{out}", "--degradation", "noise", "--device", "cpu"),
    "score": ("{pictures}", "{pictures}", "--metrics", "psnr,ssim", "--device", "cpu", "--json"),
}


def fill_folder(folder: Path, count: int, side_px: int) -> None:
    """`count` names of one JPEG photograph."""
    folder.mkdir()
    first = folder / "0.jpg"
    photo = cv2.resize(data.astronaut()[..., ::-1], (side_px, side_px), interpolation=cv2.INTER_AREA)
    if not cv2.imwrite(str(first), photo):
        raise OSError(f"{first} cannot be written")
    for number in range(1, count):
        os.link(first, folder / f"{number}.jpg")


def peak_megabytes(command: str, count: int, side_px: int) -> dict[str, float]:
    """Peak resident memory of one run over `count` pictures, and how long it took."""
    with tempfile.TemporaryDirectory() as scratch:
        pictures, out = Path(scratch) / "in", Path(scratch) / "out"
        fill_folder(pictures, count, side_px)
        options = [option.format(pictures=pictures, out=out) for option in OPTIONS[command]]
        start = time.perf_counter()
        process = Popen([sys.executable, "-m", "defusion_cli", command, *options], stdout=DEVNULL, stderr=DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"defusion {command} {' '.join(options)} ended with {process.returncode}")
        made = sum(path.suffix in (".jpg", ".png") for path in out.iterdir()) if out.exists() else count
        if made != count:
            raise RuntimeError(f"{made} pictures instead of {count}")
    unit = 1 if sys.platform == "darwin" else 1024
    peak = usage.ru_maxrss * unit / 1e6
    return {"pictures": count, "side_px": side_px, "peak_mb": peak, "seconds": time.perf_counter() - start}


def table(rows: list[dict[str, float]]) -> str:
    """Markdown."""
    lines = ["| pictures | of | peak memory |", "|---|---|---|"]
    for row in rows:
        lines.append(f"| {row['pictures']} | {row['side_px']}×{row['side_px']} | {row['peak_mb']:.0f} MB |")
    return "\n".join(lines)


def pictures_and_side(text: str) -> tuple[int, int]:
    """Of ``1000x24``."""
    count, side = text.split("x")
    return int(count), int(side)


def main() -> int:
    """Print the table; exit with 1 if memory grows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=sorted(OPTIONS), nargs="?", default="degrade")
    parser.add_argument(
        "--runs",
        type=pictures_and_side,
        nargs="+",
        default=[(10, 128), (1000, 128)],
        metavar="PICTURESxSIDE",
        help="how many pictures, and their side in pixels, default 10x128 1000x128",
    )
    add_outputs(parser)
    arguments = parser.parse_args()
    rows = [peak_megabytes(arguments.command, *run) for run in arguments.runs]
    document = {"command": arguments.command, "rows": rows}
    leave(arguments, f"Memory of `{arguments.command}`", table(rows), document)
    return int(grows(rows))


def grows(rows: Sequence[dict[str, float]]) -> bool:
    """Whether memory grows with the number of pictures or with their size."""
    alike: dict[float, list[float]] = {}
    for row in rows:
        alike.setdefault(row["side_px"], []).append(row["peak_mb"])
    if any(max(peaks) > LIMITS["number"] * min(peaks) for peaks in alike.values()):
        return True
    large = [row["peak_mb"] for row in rows if row["side_px"] >= TILE_PX]
    return bool(large) and max(large) > LIMITS["size"] * min(large)


if __name__ == "__main__":
    sys.exit(main())
