"""The fast start changes nothing but the time: the same model, and what was kept away comes back."""

from __future__ import annotations

import subprocess
import sys

import pytest

_LOAD = """
import sys, hashlib, torch
from defusion_cli.restore import light
{before}
with light.light_diffusers():
    from defusion_cli.restore.model import load_pipeline
    pipeline = load_pipeline()
    print(*sorted(set({names}) & {{name for name, module in sys.modules.items() if getattr(module, "__file__", None)}}))
weights = [value.float().sum().item() for value in pipeline.unet.state_dict().values()]
print(hashlib.sha256(repr((weights, pipeline.tokenizer.config, pipeline.scheduler.config)).encode()).hexdigest())
import scipy.stats, torchvision, torch._dynamo, torch.nn.attention.flex_attention as flex
print(torch._dynamo.eval_frame.OptimizedModule.__module__, flex.BlockMask.__module__)
"""
_NAMES = ("scipy.stats", "torchvision", "torch._dynamo", "sympy", "accelerate", "requests.sessions")


def _load(before: str = "") -> list[str]:
    code = _LOAD.format(before=before, names=_NAMES)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.mark.slow
def test_the_model_is_the_same_and_what_was_away_comes_back():
    kept_away, light, real = _load()
    assert kept_away == ""
    loaded, usual, same_real = _load("import diffusers.models.unets.unet_2d_condition")
    assert set(loaded.split()) >= {"scipy.stats", "torch._dynamo"}
    assert light == usual
    assert real == same_real == "torch._dynamo.eval_frame torch.nn.attention.flex_attention"


@pytest.mark.slow
def test_a_diffusers_that_wants_more_is_imported_as_usual():
    loaded, *_, real = _load("del light._Blank.__getattr__")
    assert "torch._dynamo" in loaded.split()
    assert real.startswith("torch._dynamo.eval_frame")
