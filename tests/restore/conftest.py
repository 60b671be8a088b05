"""A real pipeline, only tiny: random weights, but with an output layer that is not zero."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from defusion_cli.diffusion import DefusionPipeline, DegradationUNet, make_scheduler
from defusion_cli.restore.model import load_pipeline
from defusion_cli.tokenizer import InstructionTokenizer


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model that changes what it is given."""
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
    folder = tmp_path_factory.mktemp("model")
    DefusionPipeline(unet, tokenizer, make_scheduler()).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def pipeline(model_folder: Path) -> DefusionPipeline:
    """The same, loaded."""
    return load_pipeline(str(model_folder))


@pytest.fixture(scope="session")
def tokens() -> torch.Tensor:
    """Tokens of some instruction, 1×196×256."""
    return torch.randn(1, 196, 256, generator=torch.Generator().manual_seed(1))
