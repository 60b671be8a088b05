"""What lies in examples/ works: the plugin of a third party, the photographs and their licence notes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"


@pytest.fixture(scope="module")
def plugin_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example plugin, installed into a folder of its own."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "defusion_banding.py"):
        (source / name).write_bytes((EXAMPLES / "plugin-banding" / name).read_bytes())
    subprocess.run([*command, "--target", str(folder / "lib"), str(source)], check=True, capture_output=True)
    return folder / "lib"


def _run(plugin_folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(plugin_folder)}
    return subprocess.run(
        [sys.executable, "-m", *command], env=environment, cwd=EXAMPLES, capture_output=True, text=True
    )


def test_an_installed_plugin_is_listed(plugin_folder: Path) -> None:
    done = _run(plugin_folder, "defusion_cli", "degrade", "--list")
    assert done.returncode == 0, done.stderr
    assert "banding" in done.stdout


def test_the_plugin_passes_its_own_test(plugin_folder: Path) -> None:
    done = _run(plugin_folder, "pytest", "-q", "-p", "no:cacheprovider", "plugin-banding/test_banding.py")
    assert done.returncode == 0, done.stdout


def test_every_photo_is_small_and_credited() -> None:
    notes = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    photos = sorted((EXAMPLES / "clean").iterdir()) + sorted((EXAMPLES / "photos").rglob("*.jpg"))
    assert len(photos) >= 12
    for photo in photos:
        assert photo.stat().st_size <= 150_000, photo
        assert f"`{photo.stem}`" in notes, photo


def test_every_gallery_sheet_is_there_and_small() -> None:
    sheets = {path.stem: path.stat().st_size for path in (EXAMPLES / "gallery").glob("*.jpg")}
    assert set(sheets) == {p.stem.replace("_", "-") for p in (ROOT / "degradations").glob("[!_]*.py")}
    assert max(sheets.values()) <= 300_000
