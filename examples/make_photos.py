"""Make examples/clean/ and examples/photos/: openly licensed photographs, whole and damaged.

    python examples/make_photos.py

The originals ship inside scikit-image; the damage is that of `defusion degrade` with the seeds below, so the same
versions give the same files.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from skimage import data

FOLDER = Path(__file__).parent
PHOTOS = {
    "astronaut": data.astronaut,
    "cameraman": data.camera,
    "cat": data.chelsea,
    "coffee": data.coffee,
    "rocket": data.rocket,
}
# Folder (degradations in the order in which they are applied), photograph, severity, seed.
DAMAGE = [
    ("rain", "rocket", 0.5, 2),
    ("rain", "astronaut", 0.5, 3),
    ("snow", "rocket", 0.5, 1),
    ("snow", "cameraman", 0.6, 2),
    ("haze", "rocket", 0.6, 1),
    ("haze", "cameraman", 0.5, 2),
    ("raindrop", "coffee", 0.4, 1),
    ("motion-blur", "coffee", 0.4, 1),
    ("defocus-blur", "astronaut", 0.4, 1),
    ("noise", "cat", 0.45, 2),
    ("jpeg", "coffee", 0.7, 1),
    ("rain+noise", "cat", 0.4, 4),
]


def make_clean() -> None:
    """Write the originals as JPEG."""
    (FOLDER / "clean").mkdir(exist_ok=True)
    for name, load in PHOTOS.items():
        Image.fromarray(load()).save(FOLDER / "clean" / f"{name}.jpg", quality=92, subsampling=0)


def make_damaged(folder: str, name: str, severity: float, seed: int) -> Path:
    """Damage one of the clean photographs; the picture on disk is a good JPEG of it, to keep the repository small."""
    plugins = [word for plugin in folder.split("+") for word in ("--plugin", plugin)]
    target = FOLDER / "photos" / folder / f"{name}.jpg"
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "defusion_cli", "degrade", str(FOLDER / "clean" / f"{name}.jpg"), scratch]
        command += [*plugins, "--severity", str(severity), "--seed", str(seed)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        (written,) = Path(scratch).glob("*.png")
        Image.open(written).save(target, quality=88, subsampling=0)
    return target


def main() -> None:
    """Make everything."""
    make_clean()
    for row in DAMAGE:
        target = make_damaged(*row)
        print(f"{target} ({target.stat().st_size / 1000:.0f} kB)")


if __name__ == "__main__":
    main()
