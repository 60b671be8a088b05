"""A real model, only tiny: random weights, but with an output layer that is not zero."""

from __future__ import annotations

from pathlib import Path

import torch

from defusion_cli.diffusion import DefusionPipeline, DegradationUNet, make_scheduler
from defusion_cli.tokenizer import InstructionTokenizer


def save_tiny_model(folder: Path) -> Path:
    """Save a model that changes what it is given."""
    torch.manual_seed(0)
    unet = DegradationUNet(widths=(8, 8), blocks=(1, 1), condition_dim=32, heads=2)
    torch.nn.init.normal_(unet.conv_out.weight, std=0.05)
    torch.nn.init.normal_(unet.conv_in.weight, std=0.05)
    for module in unet.modules():
        if hasattr(module, "film"):
            torch.nn.init.normal_(module.film.weight, std=0.3)
    tokenizer = InstructionTokenizer(
        block_out_channels=(8, 8, 8, 8, 8), layers_per_block=1, attention_levels=1, latent_channels=8, norm_num_groups=4
    )
    DefusionPipeline(unet, tokenizer, make_scheduler()).save_pretrained(folder)
    return folder
