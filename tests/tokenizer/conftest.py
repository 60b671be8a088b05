"""A real tokenizer, small enough for tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from defusion_cli.tokenizer import InstructionTokenizer


@pytest.fixture
def tiny() -> Callable[..., InstructionTokenizer]:
    """Makes tokenizers with 16-fold reduction and random weights; keyword arguments change the geometry."""

    def make(seed: int = 0, **changes: object) -> InstructionTokenizer:
        torch.manual_seed(seed)
        settings: dict[str, object] = {
            "block_out_channels": (4, 4, 8, 8, 8),
            "layers_per_block": 1,
            "attention_levels": 0,
            "latent_channels": 8,
            "norm_num_groups": 2,
            "normalise_codes": True,
        }
        model = InstructionTokenizer(**{**settings, **changes})  # type: ignore[arg-type]
        with torch.no_grad():
            model.codebook.normal_()
        return model.eval()

    return make
