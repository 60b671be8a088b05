"""The network that says which kinds of damage a photograph shows: one probability each.

Noise and the blocks of JPEG are statistics of the finest detail, haze and low light of the whole picture: the
network looks at some crops in their native resolution and at a thumbnail. Plain 3×3 convolutions without
normalisation, like the restoring network, because that is what CPUs are fast at.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

_DETAIL_GAIN = 8.0
"""Differences from the mean of 3×3 neighbours come with this gain, so that faint noise is not drowned by the scene."""
_PATCH_PX = 4
"""Pixels of a patch side by side become channels: half a block of JPEG."""
_THUMBNAIL_WIDTHS = (24, 48, 64)


class _Block(nn.Module):
    """x + conv(silu(conv(x))) with a small residual branch."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.kaiming_normal_(self.conv1.weight, nonlinearity="relu")
        nn.init.kaiming_normal_(self.conv2.weight, nonlinearity="relu")
        self.conv2.weight.data.mul_(0.3)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.silu(self.conv1(x)))


class DegradationRecogniser(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Logits of the degradations in `ids`, from crops and a thumbnail.

    Parameters
    ----------
    ids
        Plugin ids, in the order of the logits.
    widths
        Channels at 1/4 and 1/8 of the resolution. The last grid is that of JPEG's blocks.
    hidden
        Width of the layer before the logits.
    threshold
        Probability from which a degradation is called present, 0 … 1.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(
        self,
        ids: tuple[str, ...] = (),
        widths: tuple[int, ...] = (64, 96),
        hidden: int = 128,
        threshold: float = 0.5,
    ) -> None:
        super().__init__()
        ids, widths = tuple(ids), tuple(widths)
        stages: list[nn.Module] = [nn.Conv2d(6 * _PATCH_PX**2, widths[0], 3, padding=1)]
        for before, after in zip(widths[:-1], widths[1:], strict=True):
            stages += [_Block(before), nn.SiLU(), nn.Conv2d(before, after, 3, stride=2, padding=1)]
        self.detail = nn.Sequential(*stages, _Block(widths[-1]), nn.SiLU())
        glance: list[nn.Module] = []
        for before, after in zip((3, *_THUMBNAIL_WIDTHS[:-1]), _THUMBNAIL_WIDTHS, strict=True):
            glance += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.SiLU()]
        self.glance = nn.Sequential(*glance)
        features = 2 * widths[-1] + 2 * _THUMBNAIL_WIDTHS[-1]
        self.norm = nn.LayerNorm(features)
        self.head = nn.Sequential(nn.Linear(features, hidden), nn.SiLU(), nn.Linear(hidden, len(ids)))
        for module in (*self.detail, *self.glance):
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, crops: Tensor, thumbnail: Tensor) -> Tensor:
        """Logits, N×P.

        Parameters
        ----------
        crops
            N×K×3×c×c in [0, 1], K crops of each photograph, their corners at multiples of 8 pixels.
        thumbnail
            N×3×64×64 in [0, 1], the whole photograph.
        """
        count, each = crops.shape[:2]
        x = 2 * crops.flatten(0, 1) - 1
        fine = torch.tanh(_DETAIL_GAIN * (x - F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)))
        x = F.pixel_unshuffle(torch.cat([x, fine], dim=1), _PATCH_PX).contiguous(memory_format=torch.channels_last)
        detail = _statistics(self.detail(x).unflatten(0, (count, each)).transpose(1, 2))
        glance = _statistics(self.glance(2 * thumbnail - 1))
        logits: Tensor = self.head(self.norm(torch.cat([detail, glance], dim=1)))
        return logits.float()

    @property
    def ids(self) -> tuple[str, ...]:
        """What the network knows, in the order of its logits."""
        known: Any = self.config["ids"]
        return tuple(known)


def _statistics(features: Tensor) -> Tensor:
    """Mean and standard deviation of each channel, N×C×… to N×2C."""
    flat = features.flatten(2).float()
    return torch.cat([flat.mean(2), (flat.var(2, unbiased=False) + 1e-6).sqrt()], dim=1)
