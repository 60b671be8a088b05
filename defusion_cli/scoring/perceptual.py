"""LPIPS as a training loss, for recipes that ask for it: with VGG for the tokenizer, with AlexNet for the U-Net."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from defusion_cli.errors import UsageError
from defusion_cli.scoring.engine import make_metric


def lpips_distance(device: torch.device) -> Callable[[Tensor, Tensor], Tensor]:
    """LPIPS with VGG features (Zhang et al., CVPR 2018) of two N×3×H×W pictures in [0, 1], with gradient.

    Raises
    ------
    UsageError
        If pyiqa is not installed.
    """
    try:
        import pyiqa
    except ImportError as error:
        raise UsageError(
            "The perceptual loss needs pyiqa, which is not installed.",
            fix='pip install "defusion[score]", or --set lpips_weight=0',
        ) from error
    metric: Callable[[Tensor, Tensor], Tensor] = pyiqa.create_metric("lpips-vgg", as_loss=True, device=device)
    return metric


def lpips_network(device: torch.device) -> Callable[[Tensor, Tensor], Tensor]:
    """LPIPS with AlexNet features, whose weights this package brings along, with gradient; N distances.

    Raises
    ------
    UsageError
        If pyiqa is not installed.
    """
    network: Any = make_metric("lpips", str(device)).net.eval().requires_grad_(False)

    def distances(a: Tensor, b: Tensor) -> Tensor:
        # Of 11×11 kernels and few pixels: bfloat16 would gain nothing.
        with torch.autocast(device.type, enabled=False):
            values: Tensor = network(a.float(), b.float()).flatten(1).mean(1)
        return values

    return distances
