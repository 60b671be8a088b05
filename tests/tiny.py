"""Real things, only tiny or untrained: a model, the settings of a training of seconds, the Inception of FID."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
import torchvision

from defusion_cli.diffusion import DefusionPipeline, DegradationUNet, make_scheduler
from defusion_cli.tokenizer import InstructionTokenizer

INCEPTION = "pt_inception-2015-12-05-6726825d.pth"
# Of ``defusion train --set``.
TINY_TRAINING = (
    "steps=4", "phases=32x4", "synthesis.view_px=64", "synthesis.crops_per_view=2", "warmup=1", "workers=0",
    "validate_every=4", "save_every=4", "instruction_slots=2", "backbone_options.widths=8,8",
    "backbone_options.blocks=1,1", "backbone_options.condition_dim=16", "backbone_options.heads=2",
)  # fmt: skip


def save_inception(folder: Path) -> Path:
    """Save weights made here for the Inception of FID, under the name of the real ones: 91 MB from the network."""
    torch.manual_seed(0)
    network = torchvision.models.Inception3(num_classes=1008, aux_logits=False, init_weights=False)
    state = {
        name: torch.randn_like(value) * (2.7 / value[0].numel()) ** 0.5 if value.ndim == 4 else value
        for name, value in network.state_dict().items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(state, folder / INCEPTION)
    return folder / INCEPTION


def make_tiny_tokenizer(codebook_size: int = 16) -> InstructionTokenizer:
    """An untrained tokenizer with tokens of 32 numbers."""
    torch.manual_seed(0)
    return InstructionTokenizer(
        block_out_channels=(8, 8, 8, 8, 8),
        layers_per_block=1,
        attention_levels=0,
        latent_channels=8,
        codebook_size=codebook_size,
        embed_dim=32,
        norm_num_groups=4,
    ).eval()


def save_tiny_model(folder: Path, coarse: bool = False, grain: bool = False, **options: object) -> Path:
    """Save a model that changes what it is given: its output layer is not zero."""
    torch.manual_seed(0)
    unet = DegradationUNet(
        widths=(8, 8), blocks=(1, 1), condition_dim=32, heads=2, coarse=coarse, grain=grain, **options
    )
    if unet.sharpening is not None:
        torch.nn.init.normal_(unet.sharpening.correct.bias, std=1.6)
    if unet.coarse_branch is not None:
        torch.nn.init.normal_(unet.coarse_branch.conv_out.weight, std=0.02)
    if unet.grain_encoder is not None:
        torch.nn.init.normal_(unet.grain_encoder.out.weight, std=0.2)
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


def copy_with_index(model: Path, folder: Path, **entries: object) -> Path:
    """Copy a saved model to `folder` with other entries in its model_index.json."""
    shutil.copytree(model, folder)
    index = folder / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | entries))
    return folder
