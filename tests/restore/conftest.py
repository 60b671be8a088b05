"""A real pipeline, only tiny: random weights, but with an output layer that is not zero."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny import save_tiny_model

from defusion_cli.diffusion import DefusionPipeline
from defusion_cli.restore.model import load_pipeline


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model that changes what it is given."""
    return save_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def pipeline(model_folder: Path) -> DefusionPipeline:
    """The same, loaded."""
    return load_pipeline(str(model_folder))


@pytest.fixture(scope="session")
def tokens() -> torch.Tensor:
    """Tokens of some instruction, 1×196×256."""
    return torch.randn(1, 196, 256, generator=torch.Generator().manual_seed(1))
