from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from defusion_cli.app import app
from defusion_cli.images import read_pixels, write_image


@pytest.fixture
def run(tmp_path, monkeypatch, photo):
    monkeypatch.chdir(tmp_path)
    write_image(tmp_path / "in/00001.bmp", photo)
    return lambda *args: CliRunner().invoke(app, ["degrade", *args])


def test_mixed_wed_is_one_realisation_in_six_orders(run, tmp_path):
    assert run("--recipe", "mixed-wed", "in", "out").exit_code == 0
    made = sorted(path.parent.name for path in (tmp_path / "out").rglob("*.bmp"))
    assert len(made) == 6
    assert all(sorted(name.split("+")) == ["noise", "rain", "snow"] for name in made)
    lines = (tmp_path / "out/defusion-manifest.jsonl").read_text().splitlines()[1:]
    stages = [{s["plugin"]: s for s in json.loads(line)["recipe"]["stages"]} for line in lines]
    assert len(stages) == 6
    assert all(each == stages[0] for each in stages)
    noise = stages[0]["noise"]["params"]
    assert (noise["kind"], noise["sigma"], noise["unit"]) == ("gaussian", 25.0, "sigma")
    a, b = (read_pixels(tmp_path / "out" / order / "00001.bmp") for order in ("rain+snow+noise", "noise+rain+snow"))
    assert not np.array_equal(a, b)
    assert run("--from-manifest", "out/defusion-manifest.jsonl", "in", "again").exit_code == 0
    first = "rain+snow+noise/00001.bmp"
    assert (tmp_path / "again" / first).read_bytes() == (tmp_path / "out" / first).read_bytes()


def test_a_recipe_takes_seed_and_parameters_but_no_plugins(run, tmp_path):
    assert run("--recipe", "mixed-wed", "--set", "noise.sigma=0", "--seed", "3", "in", "out").exit_code == 0
    assert '"sigma": 0' in (tmp_path / "out/defusion-manifest.jsonl").read_text()
    assert run("--recipe", "mixed-wed", "--plugin", "rain", "in", "o").exit_code == 2
    done = run("--recipe", "mixed-wde", "in", "o")
    assert done.exit_code == 3 and "mixed-wde" in done.stderr
