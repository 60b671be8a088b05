"""A model folder is read whole or refused with a reason, and nothing in it runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from defusion_cli.diffusion import DefusionPipeline
from defusion_cli.errors import DataError, UsageError
from defusion_cli.restore.model import fingerprint, load_pipeline


@pytest.fixture
def folder(model_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_folder, tmp_path / "model"))


def _edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_our_loader_and_diffusers_agree(model_folder: Path) -> None:
    ours, theirs = load_pipeline(str(model_folder)), DefusionPipeline.from_pretrained(model_folder)
    assert ours.config["damage_scale"] == theirs.config["damage_scale"]
    assert ours.scheduler.alphas_cumprod.equal(theirs.scheduler.alphas_cumprod)
    assert ours.scheduler.config["prediction_type"] == theirs.scheduler.config["prediction_type"]
    for part in ("unet", "tokenizer"):
        a, b = getattr(ours, part), getattr(theirs, part)
        assert type(a) is type(b) and not a.training
        for (name, x), (_, y) in zip(a.state_dict().items(), b.state_dict().items(), strict=True):
            assert torch.equal(x, y), name


def test_half_precision_weights_become_float32(folder: Path) -> None:
    load_pipeline(str(folder)).to(torch.float16).save_pretrained(folder)
    assert {p.dtype for p in load_pipeline(str(folder)).unet.parameters()} == {torch.float32}


def test_names_that_mean_no_model(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("./nowhere", str(tmp_path / "none"), str(tmp_path / "file"), "a/b/c", "../no-such-folder"):
        with pytest.raises(UsageError, match="names no model"):
            load_pipeline(name)


def test_a_hub_id_without_network_says_what_to_fetch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(DataError) as caught:
        load_pipeline("nobody/nothing")
    assert "unet/config.json" in str(caught.value) and "--model FOLDER" in str(caught.value)


@pytest.mark.parametrize("name", ["model_index.json", "unet/config.json", "scheduler/scheduler_config.json"])
def test_missing_files_are_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(DataError, match="incomplete") as caught:
        load_pipeline(str(folder))
    assert Path(name).name in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": NaN', "[" * 100_000])
def test_broken_json_is_refused(folder: Path, text: str) -> None:
    (folder / "unet/config.json").write_text(text)
    with pytest.raises(DataError, match="not usable JSON"):
        load_pipeline(str(folder))


def test_a_pickle_is_never_opened(folder: Path) -> None:
    (folder / "unet/diffusion_pytorch_model.safetensors").unlink()

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (folder / "exploded",))

    torch.save(Bomb(), folder / "unet/diffusion_pytorch_model.bin")
    with pytest.raises(DataError, match="no safe weights") as caught:
        load_pipeline(str(folder))
    assert "diffusion_pytorch_model.bin" in str(caught.value)
    assert not (folder / "exploded").exists()


def test_a_class_of_another_module_is_never_imported(folder: Path) -> None:
    (folder / "intruder.py").write_text("raise SystemExit('imported')")
    _edit(folder / "model_index.json", lambda c: c.update(unet=["intruder", "Intruder"]))
    with pytest.raises(DataError, match="not known here"):
        load_pipeline(str(folder))


def test_weights_must_fit_the_configuration(folder: Path) -> None:
    _edit(folder / "unet/config.json", lambda c: c.update(widths=[8, 16]))
    with pytest.raises(DataError, match="does not fit"):
        load_pipeline(str(folder))


@pytest.mark.parametrize(
    "change",
    [
        {"widths": [10**9, 8]},
        {"widths": [90_000, 90_000]},  # would take terabytes
        {"blocks": [90_000, 1]},
        {"blocks": "many"},
        {"experts": [90_000]},
        {"experts": [-1]},
        {"heads": 0},
        {"condition_dim": -1},
        {"widths": None},
        {"thumbnail_px": 1e300},
        {"surprise": 1},
    ],
)
def test_absurd_configurations_are_refused(folder: Path, change: dict[str, Any]) -> None:
    _edit(folder / "unet/config.json", lambda c: c.update(change))
    with pytest.raises(DataError):
        load_pipeline(str(folder))


@pytest.mark.parametrize(
    "change", [{"prediction_type": "epsilon"}, {"num_train_timesteps": 10**9}, {"beta_schedule": "?"}]
)
def test_another_noise_schedule_is_refused(folder: Path, change: dict[str, Any]) -> None:
    _edit(folder / "scheduler/scheduler_config.json", lambda c: c.update(change))
    with pytest.raises(DataError):
        load_pipeline(str(folder))


def test_truncated_weights_are_refused(folder: Path) -> None:
    weights = folder / "unet/diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(DataError):
        load_pipeline(str(folder))


def test_fingerprint_follows_the_weights(folder: Path, model_folder: Path) -> None:
    assert fingerprint(str(folder)) == fingerprint(str(model_folder))
    weights = folder / "unet/diffusion_pytorch_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(bytes(data))
    assert fingerprint(str(folder)) != fingerprint(str(model_folder))
