"""``defusion make-ground`` writes grounds that can be made again, or says why not and writes nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from defusion_cli.app import app
from defusion_cli.ground import draw_ground
from defusion_cli.images import Pixels, read_pixels, write_image
from defusion_cli.plugins import Recipe, apply_recipe, installed_plugins


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["make-ground", *map(str, arguments)])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_a_killed_run_left_goes_away(tmp_path: Path) -> None:
    (tmp_path / ".defusion-1-00000000.tmp").touch()
    os.utime(tmp_path / ".defusion-1-00000000.tmp", (0, 0))
    assert run(tmp_path).exit_code == 0
    assert not list(tmp_path.glob(".*"))


def test_grounds_alone(tmp_path: Path) -> None:
    done = run(tmp_path, "--count", 2, "--seed", 3)
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == str(tmp_path / "sheet.png")
    assert names(tmp_path) == [
        "ground-0000.json",
        "ground-0000.png",
        "ground-0001.json",
        "ground-0001.png",
        "sheet.png",
    ]
    for index in range(2):
        expected = draw_ground(np.random.default_rng([3, index]))
        assert np.array_equal(read_pixels(tmp_path / f"ground-000{index}.png"), expected)
    assert json.loads((tmp_path / "ground-0001.json").read_text())["recipe"] is None


def test_sidecar_and_ground_give_the_exact_residual(tmp_path: Path) -> None:
    done = run(tmp_path, "--plugin", "jpeg", "--plugin", "noise", "--size", 96, "--severity", 0.8)
    assert done.exit_code == 0, done.output
    sidecar = json.loads((tmp_path / "ground-0000.json").read_text())
    files = sidecar["files"]
    assert sorted([*files.values(), "ground-0000.json", "sheet.png"]) == names(tmp_path)
    assert sidecar["ground"] == {"kind": "visual", "size_px": 96, "seed": 0, "index": 0, "natural_dir": None}

    plugins = installed_plugins()
    ground = read_pixels(tmp_path / files["ground"])
    degraded = apply_recipe(ground, Recipe.from_json(sidecar["recipe"], plugins), plugins)
    residual = np.load(tmp_path / files["residual"], allow_pickle=False)
    assert residual.dtype == np.float32
    assert np.array_equal(residual, degraded - ground)
    assert np.abs(read_pixels(tmp_path / files["degraded"]) - degraded).max() <= 0.5 / 255 + 1e-6
    picture = read_pixels(tmp_path / files["instruction"])
    assert np.abs(picture - (0.5 + residual / 2)).max() <= 0.5 / 255 + 1e-6


def test_the_same_command_writes_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        assert run(tmp_path / folder, "--plugin", "noise", "--size", 64, "--kind", "simple").exit_code == 0
    for name in names(tmp_path / "a"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_more_grounds_do_not_change_the_first(tmp_path: Path) -> None:
    run(tmp_path / "one", "--size", 64)
    run(tmp_path / "many", "--size", 64, "--count", 3)
    first, same = ((tmp_path / folder / "ground-0000.png").read_bytes() for folder in ("one", "many"))
    assert first == same


def test_sheet_shows_ground_twin_and_instruction(tmp_path: Path) -> None:
    run(tmp_path, "--plugin", "noise", "--count", 3, "--size", 64)
    sheet = read_pixels(tmp_path / "sheet.png")
    assert sheet.shape == (2 * 76, 6 * 76, 3)
    assert np.array_equal(sheet[6:70, 6:70], read_pixels(tmp_path / "ground-0000.png"))
    assert np.array_equal(sheet[6:70, 158:222], read_pixels(tmp_path / "ground-0000-instruction.png"))
    assert np.all(sheet[76:, 3 * 76 :] == 1)  # three grounds, two a line: the last place stays empty


def test_set_and_natural_dir(tmp_path: Path, photo: Pixels) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    write_image(mine / "photo.png", photo)
    out = tmp_path / "out"
    done = run(out, "--natural-dir", mine, "--plugin", "jpeg", "--set", "jpeg.quality=9", "--size", 64)
    assert done.exit_code == 0, done.output
    sidecar = json.loads((out / "ground-0000.json").read_text())
    assert sidecar["recipe"]["stages"][0]["params"]["quality"] == 9
    assert sidecar["ground"]["natural_dir"] == str(mine)


def test_json_and_dry_run(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run(out, "--plugin", "noise", "--count", 2, "--dry-run")
    assert done.exit_code == 0
    assert len(done.stdout.split()) == 10
    assert not out.exists()
    report = json.loads(run(out, "--size", 64, "--json").stdout)
    assert report["kind"] == "defusion-make-ground"
    assert report["version"] == 1
    listed = [report["sheet"], *(path for files in report["grounds"] for path in files.values())]
    assert sorted(Path(path).name for path in listed) == names(out)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--kind", "visaul"], 2, "did you mean visual?"),
        (["--size", "8"], 2, "--size"),
        (["--count", "0"], 2, "--count"),
        (["--plugin", "rian"], 2, "did you mean rain?"),
        (["--plugin", "noise", "--set", "noise=3"], 2, "ID.NAME=VALUE"),
        (["--plugin", "noise", "--set", "jpeg.quality=3"], 2, "--plugin jpeg"),
        (["--plugin", "jpeg", "--set", "jpeg.quality=300"], 2, "accepted"),
        (["--plugin", "jpeg", "--set", "jpeg.qualty=30"], 2, "did you mean jpeg.quality?"),
        (["--severity", "0.5"], 2, "--plugin"),
        (["--natural-dir", "/nowhere/at/all"], 3, "does not exist"),
        (["--kind", "blank", "--natural-dir", "."], 2, "leave out --natural-dir"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(
    tmp_path: Path, arguments: list[str], code: int, said: str
) -> None:
    out = tmp_path / "out"
    done = run(out, *arguments)
    assert done.exit_code == code, done.output
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not out.exists()


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    done = run(tmp_path / "out", "--size", 64)
    assert done.exit_code == 3
    assert str(tmp_path / "out") in done.stderr
    assert (tmp_path / "out").read_text() == "mine"


def test_help_needs_neither_numpy_nor_plugins() -> None:
    program = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from defusion_cli.app import app\n"
        "done = CliRunner().invoke(app, ['make-ground', '--help'])\n"
        "assert done.exit_code == 0 and 'Example: defusion make-ground' in done.stdout\n"
        "assert not {'numpy', 'cv2', 'torch', 'degradations'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_nothing_of_torch_is_imported(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from defusion_cli.app import app\n"
        f"done = CliRunner().invoke(app, ['make-ground', '--plugin', 'noise', {str(tmp_path / 'out')!r}])\n"
        "assert done.exit_code == 0, done.output\n"
        "assert not {'torch', 'torchvision', 'diffusers'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    assert names(tmp_path / "out")
