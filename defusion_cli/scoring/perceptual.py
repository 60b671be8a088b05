"""LPIPS as a training loss, for recipes that ask for it: with VGG for the tokenizer, with AlexNet for the U-Net."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from defusion_cli.scoring.engine import make_metric


def lpips_network(device: torch.device, name: str = "lpips") -> Callable[[Tensor, Tensor], Tensor]:
    """LPIPS (Zhang et al., CVPR 2018) of two N×3×H×W pictures in [0, 1], with gradient; N distances.

    Parameters
    ----------
    name
        ``"lpips"``, with AlexNet's features, whose weights this package brings along; or ``"lpips-vgg"``.

    Raises
    ------
    UsageError
        If pyiqa is not installed.
    DefusionError
        If the weights are neither here nor to be downloaded.
    """
    network: Any = make_metric(name, str(device)).net.eval().requires_grad_(False)

    def distances(a: Tensor, b: Tensor) -> Tensor:
        # AlexNet's 11×11 kernels on few pixels: bfloat16 would gain nothing.
        with torch.autocast(device.type, enabled=False):
            values: Tensor = network(a.float(), b.float()).flatten(1).mean(1)
        return values

    return distances
