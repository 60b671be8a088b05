"""``defusion restore`` without a word about the damage."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import save_tiny_model
from typer.testing import CliRunner

from defusion_cli.app import app
from defusion_cli.data.recognition import LabelledViews, RecognitionConfig
from defusion_cli.data.sources import parse_source
from defusion_cli.images import read_pixels, write_image
from defusion_cli.plugins import apply_recipe, draw_recipe, installed_plugins
from defusion_cli.training.log import RunLog
from defusion_cli.training.recogniser import draw_shard, export_recogniser, fit
from defusion_cli.training.recogniser_config import RecogniserRecipe

IDS = ("low-light", "noise")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, photo: np.ndarray) -> str:
    """A tiny restoring network of random weights, with a recogniser that was trained on one photograph."""
    folder = tmp_path_factory.mktemp("model")
    save_tiny_model(folder)
    write_image(folder / "photos/a.png", photo)
    views = LabelledViews([parse_source(f"{folder}/photos")], IDS, installed_plugins(), RecognitionConfig())
    shards = [draw_shard(views, 0, number, 12) for number in range(2)]
    features, present = (torch.cat(part) for part in zip(*shards, strict=True))
    recipe = RecogniserRecipe(epochs=40, batch=16, lr=0.002)
    export_recogniser(fit(recipe, IDS, features, present, 0, RunLog(folder / "log")), folder / "recogniser")
    return str(folder)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photo: np.ndarray) -> Path:
    """``in/`` with a clean, a noisy and a dark and noisy photograph, and a clean one as JPEG."""
    monkeypatch.chdir(tmp_path)
    plugins, rng = installed_plugins(), np.random.default_rng(3)
    write_image(Path("in/clean.png"), photo)
    write_image(Path("in/clean2.jpg"), photo)
    write_image(Path("in/noisy.png"), apply_recipe(photo, draw_recipe(["noise"], plugins, rng, 0.6), plugins))
    write_image(Path("in/both.png"), apply_recipe(photo, draw_recipe(IDS, plugins, rng, 0.6), plugins))
    return tmp_path


def run(*args: str) -> Any:
    return CliRunner().invoke(app, ["restore", *args])


def test_each_photo_by_what_it_shows(folder: Path, model: str) -> None:
    done = run("in", "out", "--model", model, "--json", "--report", "r.html")
    assert done.exit_code == 0, done.output
    files = {Path(entry["source"]).name: entry for entry in json.loads(done.stdout)["files"]}
    assert files["noisy.png"]["instruction"] == "noise"
    assert set(files["both.png"]["instruction"].split(" + ")) == set(IDS)
    assert files["clean.png"]["instruction"] == "nothing to remove"
    assert set(files["noisy.png"]["recognised"]) == set(IDS)
    sure = files["noisy.png"]["recognised"]["noise"]
    assert 0.5 <= sure <= 1 and f"noisy.png: noise {100 * sure:.0f} %\n" in done.stderr
    assert "clean.png: nothing to remove, copied unchanged (" in done.stderr
    lines = [json.loads(line) for line in Path("out/defusion-restore.jsonl").read_text().splitlines()]
    assert {line["name"]: line["recognised"] for line in lines} == {n: f["recognised"] for n, f in files.items()}
    page = json.loads(Path("r.html").read_text(encoding="utf-8").split('id="data">')[1].split("</script>")[0])
    shown = {entry["name"]: entry["values"] for entry in page["entries"]}
    assert shown["noisy.png"]["shown"] == "noise"
    assert shown["noisy.png"]["confidence"] == pytest.approx(100 * sure)
    least = min(files["both.png"]["recognised"].values())
    assert shown["both.png"]["confidence"] == pytest.approx(100 * least)
    most = max(files["clean.png"]["recognised"].values())
    assert shown["clean.png"]["confidence"] == pytest.approx(100 * (1 - most))


def test_a_clean_photo_is_copied(folder: Path, model: str) -> None:
    assert run("in/clean.png", "c.png", "--model", model, "--degradation", "auto").exit_code == 0
    assert Path("c.png").read_bytes() == Path("in/clean.png").read_bytes()
    assert run("in/clean.png", "c.tif", "--model", model).exit_code == 0
    np.testing.assert_array_equal(read_pixels(Path("c.tif")), read_pixels(Path("in/clean.png")))


def test_it_is_the_named_run(folder: Path, model: str) -> None:
    assert run("in/noisy.png", "auto.png", "--model", model).exit_code == 0
    assert run("in/noisy.png", "named.png", "--model", model, "--degradation", "noise").exit_code == 0
    assert Path("auto.png").read_bytes() == Path("named.png").read_bytes()
    assert Path("auto.png").read_bytes() != Path("in/noisy.png").read_bytes()


def test_a_rerun_skips_and_remembers(folder: Path, model: str) -> None:
    assert run("in", "out", "--model", model).exit_code == 0
    again = run("in", "out", "--model", model, "--json")
    report = json.loads(again.stdout)
    assert report["counts"] == {"restored": 0, "skipped": 4, "failed": 0}
    assert {entry["instruction"] for entry in report["files"]} > {"noise", "nothing to remove"}
    assert "nothing to remove" not in again.stderr


def test_another_recogniser_does_it_again(folder: Path, model: str, tmp_path: Path) -> None:
    shutil.copytree(model, "other")
    assert run("in", "out", "--model", "other").exit_code == 0
    config = Path("other/recogniser/config.json")
    settings = json.loads(config.read_text())
    config.write_text(json.dumps(settings | {"threshold": settings["threshold"] + 0.1}))
    again = run("in", "out", "--model", "other", "--json")
    assert json.loads(again.stdout)["counts"]["restored"] == 4


def test_without_a_recogniser_it_says_what_to_do(folder: Path, model: str) -> None:
    shutil.copytree(model, "other", ignore=shutil.ignore_patterns("recogniser"))
    done = run("in", "out", "--model", "other")
    assert done.exit_code == 2 and not Path("out").exists()
    assert "no folder recogniser" in done.stderr and "--degradation rain" in done.stderr


def test_from_python(folder: Path, model: str) -> None:
    import defusion_cli

    clean, noisy = read_pixels(Path("in/clean.png")), read_pixels(Path("in/noisy.png"))
    np.testing.assert_array_equal(defusion_cli.restore(clean, "auto", model=model), clean)
    named = defusion_cli.restore(noisy, "noise", model=model)
    np.testing.assert_array_equal(defusion_cli.restore(noisy, "auto", model=model), named)
    assert not np.array_equal(named, noisy)
