"""What the recogniser looks at, and what it says; a network is trained here on one photograph and two degradations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from defusion_cli.app import app
from defusion_cli.canvas import Canvas, quantise
from defusion_cli.data.recognition import LabelledView, LabelledViews
from defusion_cli.errors import DataError, UsageError
from defusion_cli.images import write_image
from defusion_cli.plugins import apply_recipe, draw_recipe, installed_plugins
from defusion_cli.recognition import FEATURES, DegradationRecogniser, Recognition, cut_crops, describe, recognise
from defusion_cli.restore.model import load_recogniser
from defusion_cli.training.recogniser_setup import recogniser_setup

PLUGINS = installed_plugins()


def _damaged(photo: np.ndarray, *ids: str, severity: float = 0.6, seed: int = 1) -> np.ndarray:
    return apply_recipe(photo, draw_recipe(ids, PLUGINS, np.random.default_rng(seed), severity), PLUGINS)


def _canvas(pixels: np.ndarray) -> Canvas:
    return Canvas(quantise(pixels, 8))


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (128, 128), (129, 260), (1200, 900)])
def test_crops_cover_pictures_of_any_size(size: tuple[int, int]) -> None:
    rows, columns = np.mgrid[: size[0], : size[1]]
    pixels = np.stack([rows % 256, columns % 256, (rows // 256) * 16 + columns // 256], 2).astype(np.uint8)
    crops = np.rint(cut_crops(Canvas(pixels)) * 255).astype(int)
    assert crops.shape[1:] == (128, 128, 3) and 1 <= len(crops) <= 16
    tops, lefts = (
        crops[:, 0, 0, 0] + 256 * (crops[:, 0, 0, 2] // 16),
        crops[:, 0, 0, 1] + 256 * (crops[:, 0, 0, 2] % 16),
    )
    assert not (tops % 8).any() and not (lefts % 8).any()
    for starts, length in ((tops, size[0]), (lefts, size[1])):
        assert starts.min() == 0 and (starts <= max(0, length - 128)).all()
        # Nothing but less than a block at the far side is out of reach of the last crop.
        assert starts.max() > length - 128 - 8


def test_statistics_are_finite_and_tell_damage(photo: np.ndarray) -> None:
    def features(pixels: np.ndarray) -> np.ndarray:
        canvas = _canvas(pixels)
        return describe(cut_crops(canvas), canvas.pixels()[:64, :64])

    plain = features(photo)
    assert plain.shape == (FEATURES,) and plain.dtype == np.float32
    np.testing.assert_array_equal(plain, features(photo))
    for flat in (np.zeros((64, 64, 3), np.float32), np.ones((300, 200, 3), np.float32)):
        assert np.isfinite(features(flat)).all()
    for plugin_id in ("noise", "jpeg", "haze", "motion-blur"):
        assert np.abs(features(_damaged(photo, plugin_id)) - plain).max() > 0.5, plugin_id


def test_a_recognition_in_words() -> None:
    seen = Recognition((("rain", 0.97), ("noise", 0.81), ("haze", 0.2)))
    assert (seen.present, seen.best, str(seen)) == (("rain", "noise"), "rain", "rain 97 %, noise 81 %")
    clean = Recognition((("haze", 0.2), ("rain", 0.1)))
    assert (clean.present, str(clean)) == ((), "")


def test_a_second_damage_is_believed_more_easily() -> None:
    values = (("rain", 0.45), ("noise", 0.3), ("haze", 0.2))
    assert Recognition(values, threshold=0.4, companion=0.25).present == ("rain", "noise")
    assert Recognition(values, threshold=0.5, companion=0.25).present == ()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, photo: np.ndarray) -> Path:
    """The folder of a finished training run."""
    folder = tmp_path_factory.mktemp("run")
    write_image(folder / "photos/a.png", photo)
    done = _train(folder, "--set", "shards=4")
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{folder / 'out' / 'recogniser'}\n"
    assert "named first on average" in done.stderr and "false alarms" in done.stderr
    return folder


def _train(folder: Path, *more: str) -> object:
    plugins = ("--plugin", "noise", "--plugin", "low-light")
    places = ("--data", f"{folder / 'photos'}", "--val", f"{folder / 'photos'}", "--out", f"{folder / 'out'}")
    settings = ("--set", "photos=12", "--set", "epochs=40", "--set", "batch=16", "--set", "lr=0.002")
    return CliRunner().invoke(app, ["train-recogniser", *places, *plugins, *settings, *more])


def test_a_small_training_recognises(run: Path, photo: np.ndarray) -> None:
    network = load_recogniser(_model(run))
    assert network.ids == ("low-light", "noise")
    for ids in (("noise",), ("low-light",), ("low-light", "noise")):
        right = [
            set(recognise(network, _canvas(_damaged(photo, *ids, seed=seed))).present) == set(ids) for seed in range(6)
        ]
        assert sum(right) >= 5, ids
    assert recognise(network, _canvas(photo)).present == ()


def test_a_run_goes_on_and_refuses_another_recipe(run: Path) -> None:
    shards = {path: path.stat().st_mtime_ns for path in (run / "out" / "shards").rglob("*.safetensors")}
    before = (run / "out/recogniser/diffusion_pytorch_model.safetensors").read_bytes()
    assert _train(run, "--set", "shards=4").exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in (run / "out" / "shards").rglob("*.safetensors")} == shards
    assert (run / "out/recogniser/diffusion_pytorch_model.safetensors").read_bytes() == before
    refused = _train(run, "--set", "samples.clean_share=0.5")
    assert refused.exit_code == 2 and "other settings" in refused.stderr


def test_views_are_the_same_whoever_draws_them(run: Path, photo: np.ndarray, tmp_path: Path) -> None:
    write_image(tmp_path / "photos/a.png", photo)
    assert _train(tmp_path, "--set", "shards=1", "--set", "workers=0").exit_code == 0
    here, there = (folder / "out/shards/step-00000000/tensors.safetensors" for folder in (tmp_path, run))
    assert here.read_bytes() == there.read_bytes()


def test_a_picture_that_cannot_be_read_is_named(photo: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.png").write_bytes(b"no picture")
    done = _train(tmp_path, "--set", "shards=1")
    assert done.exit_code == 3 and "a.png" in done.stderr and "Traceback" not in done.stderr, done.output


def _views(photo: np.ndarray, folder: Path, *settings: str) -> list[LabelledView]:
    write_image(folder / "a.png", photo)
    recipe, run = recogniser_setup(["samples.downscale=1,1", "samples.saved_share=0", *settings], [f"{folder}"], folder)
    drawn = LabelledViews(run.sources, run.ids, PLUGINS, recipe.samples)
    return [view for seed in range(12) for view in drawn.draw(np.random.default_rng(seed), 64)]


_BARE = ("samples.clean_share=1", "samples.mixture_share=0", "samples.soft_share=0", "samples.grain_share=0")
_BARE += ("samples.sharpened_share=0", "samples.grey_share=0")


def test_clean_views_come_in_other_tones(photo: np.ndarray, tmp_path: Path) -> None:
    as_it_is = _views(photo, tmp_path, *_BARE, "samples.tone_share=0")
    values = {tuple(value) for value in np.rint(photo.reshape(-1, 3) * 255).astype(int)}
    assert all(tuple(value) in values for value in np.rint(as_it_is[0].crops[0].reshape(-1, 3) * 255).astype(int))
    toned = _views(photo, tmp_path, *_BARE, "samples.tone_share=1")
    assert not any(view.present.any() for view in [*as_it_is, *toned])
    means = [[view.whole.mean() for view in views] for views in (as_it_is, toned)]
    assert np.std(means[1]) > 2 * np.std(means[0]) and min(means[1]) < min(means[0]) - 0.05
    grey = _views(photo, tmp_path, *_BARE, "samples.grey_share=1")
    assert not any(np.ptp(view.crops, axis=3).any() for view in grey) and np.ptp(as_it_is[0].crops, axis=3).any()
    assert all(view.crops.min() >= 0 and view.crops.max() <= 1 for view in toned)


def test_single_kinds_of_damage_begin_later(photo: np.ndarray, tmp_path: Path) -> None:
    only = (*_BARE[1:], "samples.clean_share=0", "samples.tone_share=0", "samples.severity=0.0001,1")

    def darkest(*settings: str) -> float:
        views = _views(photo, tmp_path, *only, *settings)
        return min(photo.mean() - view.whole.mean() for view in views if view.present[ids.index("low-light")])

    ids = sorted(PLUGINS)
    assert darkest("samples.faintest.low-light=0.9") > darkest("samples.faintest.low-light=0") + 0.05


def test_a_dry_run_writes_nothing(tmp_path: Path, photo: np.ndarray) -> None:
    write_image(tmp_path / "photos/a.png", photo)
    done = _train(tmp_path, "--dry-run")
    assert done.exit_code == 0 and '"photographs": 1' in done.stdout
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "nothing to train on"),
        (["--data", "nowhere"], 3, "does not exist"),
        (["--data", "photos", "--plugin", "rian"], 2, "rain"),
        (["--data", "photos", "--set", "shards=0"], 2, "1 or more"),
        (["--data", "photos", "--set", "shadrs=3"], 2, "shards"),
        (["--data", "photos", "--set", "samples.gamma=2,1"], 2, "samples.gamma"),
        (["--data", "photos", "--set", "samples.faintest.haze=2"], 2, "samples.faintest.haze"),
        (["--data", "photos", "--set", "samples.faintest.haze=abc"], 2, "samples.faintest.haze"),
        (["--data", "photos", "--set", "samples.tone_share=2", "--set", "workers=-1"], 2, "workers"),
        (["--data", "photos", "--val", "nowhere"], 3, "--val FOLDER"),
    ],
)
def test_what_does_not_fit_is_explained(
    tmp_path: Path, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_image(Path("photos/a.png"), photo)
    done = CliRunner().invoke(app, ["train-recogniser", *arguments])
    assert (done.exit_code, Path("runs").exists()) == (code, False), done.output
    assert words in done.stderr


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
def test_a_recogniser_of_a_stranger_is_checked(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(UsageError, match="cannot recognise"):
        load_recogniser(str(tmp_path / "model"))
    for ids, features in (((), FEATURES), (("rain", "rain"), FEATURES), (("rain",), 12)):
        DegradationRecogniser(ids=ids, features=features).save_pretrained(tmp_path / "model/recogniser")
        with pytest.raises(DataError):
            load_recogniser(str(tmp_path / "model"))
    torch.manual_seed(0)
    DegradationRecogniser(ids=("rain", "snow")).half().save_pretrained(tmp_path / "model/recogniser")
    assert {p.dtype for p in load_recogniser(str(tmp_path / "model")).parameters()} == {torch.float32}


def _model(run: Path) -> str:
    """A folder that has the recogniser where a model has it."""
    return str(run / "out")
