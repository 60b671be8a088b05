from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import save_tiny_model
from typer.testing import CliRunner

from defusion_cli.app import app
from defusion_cli.diffusion import make_thumbnail
from defusion_cli.errors import DefusionError
from defusion_cli.grain import grain_crops, read_grain
from defusion_cli.restore.model import load_pipeline

onnxruntime = pytest.importorskip("onnxruntime", reason="needs pip install 'defusion[export]'")
pytest.importorskip("onnxscript", reason="needs pip install 'defusion[export]'")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict]:
    """Model folder, graph, and what the command reported."""
    folder = tmp_path_factory.mktemp("export")
    model = save_tiny_model(folder / "model", coarse=True, grain=True, sharpen=True, experts=(2, 0))
    done = CliRunner().invoke(app, ["export", "onnx", str(folder / "a.onnx"), "--model", str(model), "--json"])
    assert done.exit_code == 0, done.output
    return model, folder / "a.onnx", json.loads(done.stdout)


def test_the_graph_computes_what_the_pipeline_does(exported, photo, monkeypatch):
    model, graph, report = exported
    assert report["check"]["difference"] <= 1e-3 and report["check"]["onnx_seconds"] > 0
    pipeline = load_pipeline(str(model))
    tokens = np.load(graph.with_suffix(".npz"))
    lq = torch.from_numpy(photo[:96, :144]).permute(2, 0, 1)[None].contiguous()
    whole, box = torch.from_numpy(photo).permute(2, 0, 1)[None], torch.tensor([[0.1, 0, 1, 0.75]])
    inputs = {"photo": lq, "tokens": torch.from_numpy(tokens["rain"]), "thumbnail": make_thumbnail(whole), "box": box}
    inputs["crops"] = grain_crops(whole)
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    feed = {name: value.numpy() for name, value in inputs.items()}
    (restored,) = session.run(None, feed)
    monkeypatch.setattr("defusion_cli.diffusion.pipeline.use_bfloat16", lambda kind: False)
    with torch.inference_mode():
        damage = pipeline.damage(
            lq,
            inputs["tokens"],
            torch.randn(lq.shape),
            thumbnail=inputs["thumbnail"],
            boxes=box,
            grain=read_grain(whole),
        )
    assert not np.allclose(restored, lq.numpy(), atol=1e-2)
    assert np.abs(restored - (lq - damage).clamp(0, 1).numpy()).max() <= 1e-3
    (elsewhere,) = session.run(None, {**feed, "box": np.array([[0, 0.25, 0.5, 1]], np.float32)})
    assert np.abs(elsewhere - restored).max() > 0.02, "the place of a tile is used"
    (finer,) = session.run(None, {**feed, "crops": np.random.default_rng(0).random((2, 3, 128, 128), np.float32)})
    assert np.abs(finer - restored).max() > 0.002, "the grain of the whole photograph is used"


def test_a_graph_that_computes_something_else_is_noticed(exported, tmp_path):
    from defusion_cli.export import check_onnx

    model, graph, _ = exported
    pipeline = load_pipeline(str(model))
    torch.nn.init.normal_(pipeline.unet.conv_out.bias)
    with pytest.raises(DefusionError, match="does not compute what PyTorch computes"):
        check_onnx(pipeline, graph, seconds=0)


def test_the_example_needs_no_torch(exported, tmp_path, photo):
    _, graph, _ = exported
    Image.fromarray(np.rint(photo[:50, :61] * 255).astype(np.uint8)).save(tmp_path / "a.png")
    script = ROOT / "examples/use_onnx.py"
    assert "torch" not in script.read_text(encoding="utf-8")
    command = [sys.executable, str(script), str(graph), "noise", str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "b.png") as restored:
        assert restored.size == (61, 50)


@pytest.mark.parametrize("arguments", [("tflite", "a.onnx"), ("onnx", "a.pt")])
def test_other_formats_are_refused(arguments):
    assert CliRunner().invoke(app, ["export", *arguments]).exit_code == 2


def test_a_missing_package_is_told_before_anything_is_written(exported, tmp_path, monkeypatch):
    model, _, _ = exported
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else found(name))
    done = CliRunner().invoke(app, ["export", "onnx", str(tmp_path / "a.onnx"), "--model", str(model)])
    assert done.exit_code == 2 and "needs onnxruntime" in done.stderr
    assert list(tmp_path.iterdir()) == []
