"""What lies in examples/ works: a third party's plugin in a fresh environment, the photographs, their licences."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from fresh import ROOT, fresh_environment
from tiny import TINY_TRAINING

EXAMPLES = ROOT / "examples"


MOIRE = EXAMPLES / "defusion-plugin-moire"


class Fresh:
    """An environment into which one wheel is installed; torch and the like are lent by the one that runs the tests."""

    def __init__(self, folder: Path, package: Path) -> None:
        shutil.copytree(package, folder / "source", ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
        build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
        subprocess.run([*build, str(folder / "source")], check=True, capture_output=True)
        (self.wheel,) = folder.glob("*.whl")
        self.python = fresh_environment(folder / "env")
        pip = [sys.executable, "-m", "pip", "--python", str(self.python), "install", "--quiet", "--no-deps"]
        subprocess.run([*pip, "--no-index", str(self.wheel)], check=True, capture_output=True)

    def run(self, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        return subprocess.run(
            [str(self.python), "-m", *command], cwd=folder, env=environment, capture_output=True, text=True
        )

    def defusion(self, folder: Path, *arguments: str) -> str:
        done = self.run(folder, "defusion_cli", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Fresh:
    """The example plugin, installed as a wheel."""
    return Fresh(tmp_path_factory.mktemp("fresh"), MOIRE)


def test_the_wheel_holds_the_plugin_and_nothing_else(fresh: Fresh) -> None:
    names = {name for name in zipfile.ZipFile(fresh.wheel).namelist() if ".dist-info/" not in name}
    assert names == {"defusion_plugin_moire.py"}


def test_the_plugin_passes_its_own_test(fresh: Fresh) -> None:
    done = fresh.run(EXAMPLES, "pytest", "-q", "-p", "no:cacheprovider", str(MOIRE / "tests"))
    assert done.returncode == 0, done.stdout
    assert fresh.defusion(EXAMPLES, "plugin", "check", "moire").startswith("moire keeps the contract: defusion-plugin")


def test_every_command_knows_an_installed_plugin(fresh: Fresh, tmp_path: Path) -> None:
    listed = json.loads(fresh.defusion(tmp_path, "degrade", "--list", "--json"))
    (row,) = [row for row in listed["degradations"] if row["id"] == "moire"]
    assert (row["distribution"], row["distribution_version"]) == ("defusion-plugin-moire", "1.0.0")
    fresh.defusion(tmp_path, "make-ground", "--plugin", "moire", "--size", "64", "grounds")
    residual = np.load(tmp_path / "grounds/ground-0000-instruction.npy")
    assert np.abs(residual).max() > 0.01
    photos = str(EXAMPLES / "clean")
    settings = [word for setting in TINY_TRAINING for word in ("--set", setting)]
    options = ["--data", photos, "--val", photos, "--plugin", "moire", "--plugin", "rain", "--out", "run"]
    model = tmp_path / fresh.defusion(tmp_path, "train", *options, *settings).strip().splitlines()[-1]
    assert (model / "model_index.json").is_file()
    photo = str(EXAMPLES / "clean/cat.jpg")
    fresh.defusion(tmp_path, "degrade", photo, "bad", "--plugin", "moire")
    fresh.defusion(tmp_path, "restore", "bad", "good", "--degradation", "moire", "--model", str(model))
    assert (tmp_path / "good/cat.png").is_file()


def test_a_new_plugin_is_a_package_that_installs_and_keeps_the_contract(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "defusion_cli", "plugin", "new", "rolling-shutter", "--out", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True)
    package = tmp_path / "defusion-plugin-rolling-shutter"
    (tmp_path / "fresh").mkdir()
    fresh = Fresh(tmp_path / "fresh", package)
    assert "rolling-shutter" in fresh.defusion(tmp_path, "degrade", "--list")
    done = fresh.run(package, "pytest", "-q", "-p", "no:cacheprovider")
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


def test_the_script_for_python_runs_and_restores(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "use_from_python.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rainy, restored, path = done.stdout.splitlines()
    assert Path(path).is_file()
    assert float(restored.split("'psnr': ")[1].split(",")[0]) > float(rainy.split("'psnr': ")[1].split(",")[0])
