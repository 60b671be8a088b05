"""Peak memory of ``defusion restore`` on a picture of 200 megapixels, in each format that holds one.

    python tests/benchmarks/bench_memory.py [--megapixels 200] [--model FOLDER|default] [FORMAT …]

Formats: jpg, png, tif, deep.png, deep.tif (16 bits), turned.jpg (EXIF orientation 6). Without --model the network is a
tiny one: the memory of a tile is that of the network, everything else is the same.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from defusion_cli.canvas import Canvas, Tags, new_samples
from defusion_cli.images import encode_canvas

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tiny import save_tiny_model

FORMATS = ("jpg", "turned.jpg", "png", "tif", "deep.png", "deep.tif")
_PEAK = (
    "import resource, subprocess, sys; code = subprocess.run(sys.argv[1:]).returncode; "
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024, file=sys.stderr); sys.exit(code)"
)


def draw(path: Path, megapixels: float) -> None:
    """A soft gradient with noise, twice as wide as high."""
    height = round((megapixels * 1e6 / 2) ** 0.5)
    deep = ".deep." in f".{path.name}"
    kind, top = (np.uint16, 65535) if deep else (np.uint8, 255)
    samples, rng = new_samples((height, 2 * height, 3), kind, path.parent), np.random.default_rng(0)
    grain = rng.normal(0, top / 60, (256, 2 * height, 3)).astype(np.float32)
    columns = np.linspace(0.2, 0.8, 2 * height, dtype=np.float32)[:, None] * np.float32(top)
    for row in range(0, height, 256):
        part = columns * (1 - 0.5 * row / height) + grain
        samples[row : row + 256] = np.clip(part, 0, top)[: height - row].astype(kind)
    exif = Image.Exif()
    exif[0x0112] = 6 if "turned" in path.name else 1
    with open(path, "w+b") as file:
        encode_canvas(file, Canvas(samples, Tags(exif=exif.tobytes(), dpi=(300, 300))), path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("formats", nargs="*", default=FORMATS)
    parser.add_argument("--megapixels", type=float, default=200)
    parser.add_argument("--model")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=".") as name:
        folder = Path(name)
        model = options.model or str(save_tiny_model(folder / "model"))
        for kind in options.formats:
            source, target = folder / f"in.{kind}", folder / f"out.{kind}"
            subprocess.run([sys.executable, __file__, "--draw", source, str(options.megapixels)], check=True)
            command = [sys.executable, "-m", "defusion_cli", "restore", source, target, "--blind", "--model", model]
            start = time.monotonic()
            done = subprocess.run([sys.executable, "-c", _PEAK, *command], capture_output=True, text=True)
            seconds, peak = time.monotonic() - start, int(done.stderr.split()[-1])
            size = [path.stat().st_size if path.exists() else None for path in (source, target)]
            facts = {
                "format": kind,
                "exit": done.returncode,
                "peak_bytes": peak,
                "seconds": round(seconds),
                "files": size,
            }
            print(json.dumps(facts), flush=True)
            for path in (source, target):
                path.unlink(missing_ok=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--draw"]:
        draw(Path(sys.argv[2]), float(sys.argv[3]))
    else:
        main()
