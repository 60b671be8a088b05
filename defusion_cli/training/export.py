"""From averaged weights to a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from defusion_cli.diffusion.pipeline import DefusionPipeline
from defusion_cli.files import staged_folder

TOLD = ("damage_scale", "refinement", "faint_refinement")
"""Settings that a pipeline keeps as they are."""


def export(pipeline: DefusionPipeline, folder: Path) -> Path:
    """Write a pipeline in diffusers' layout, float16 safetensors; the one in memory stays as it is."""
    told = {name: pipeline.config[name] for name in (*TOLD, "together")}
    unet, tokenizer = _half(pipeline.unet), _half(pipeline.tokenizer)
    copy = DefusionPipeline(unet, tokenizer, pipeline.scheduler, **told)
    with staged_folder(folder) as temporary:
        copy.save_pretrained(temporary, safe_serialization=True)
    return folder


def _half(model: Any) -> nn.Module:
    """A float16 copy that does not remember the folder it was loaded from."""
    copy = type(model).from_config({key: value for key, value in model.config.items() if not key.startswith("_")})
    copy.load_state_dict(model.state_dict())
    half: nn.Module = copy.half()
    return half
