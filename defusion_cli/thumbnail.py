"""The whole photograph at a glance, as every crop and tile of it is given along."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

THUMBNAIL_PX = 256
"""Side of the thumbnail."""

CELLS = 64
"""Cells along each side of the whole photograph: what the networks that look at the thumbnail see of it."""


def look_at_cells(thumbnail: Tensor) -> Tensor:
    """Mean, darkest and brightest value of each channel in each of 64×64 cells: N×C×S×S to N×3C×64×64."""
    side = thumbnail.shape[-1] // CELLS
    mean, brightest = F.avg_pool2d(thumbnail, side), F.max_pool2d(thumbnail, side)
    return torch.cat([mean, -F.max_pool2d(-thumbnail, side), brightest], dim=1)
