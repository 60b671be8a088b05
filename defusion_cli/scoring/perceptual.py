"""LPIPS as a training loss, for recipes that ask for it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from defusion_cli.errors import UsageError


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
