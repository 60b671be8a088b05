"""The network that says which kinds of damage a photograph shows: one probability each."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from defusion_cli.recognition.features import FEATURES

_MOST_DEVIATIONS = 6.0
"""Features further from their mean are taken to be so far: no photograph may be stranger than the network can bear."""


class DegradationRecogniser(ModelMixin, ConfigMixin):
    """Logits of the degradations in `ids`, from the statistics of `defusion_cli.recognition.describe`.

    Parameters
    ----------
    ids
        Plugin ids, in the order of the logits.
    features
        Length of a feature vector.
    hidden
        Widths of the hidden layers.
    dropout
        Share of the hidden activations that training leaves out.
    threshold
        Probability from which a degradation is called present, 0 … 1.
    companion
        The same for further ones once one is present, not above `threshold`: a photograph that is known to be damaged
        is more easily believed to be damaged twice.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(
        self,
        ids: tuple[str, ...] = (),
        features: int = FEATURES,
        hidden: tuple[int, ...] = (160, 96),
        dropout: float = 0.3,
        threshold: float = 0.4,
        companion: float = 0.25,
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("deviation", torch.ones(features))
        layers: list[nn.Module] = []
        for before, after in zip((features, *hidden[:-1]), hidden, strict=True):
            layers += [nn.Linear(before, after), nn.SiLU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers, nn.Linear(hidden[-1], len(ids)))

    def standardise(self, features: Tensor) -> None:
        """Take mean and deviation from all training features, N×F."""
        self.mean.copy_(features.mean(0))
        self.deviation.copy_(features.std(0).clamp(min=1e-2))

    def forward(self, features: Tensor, jitter: float = 0.0) -> Tensor:
        """Logits, N×P, of feature vectors, N×F; `jitter` is the size of noise for training, in deviations."""
        x = ((features - self.mean) / self.deviation).clamp(-_MOST_DEVIATIONS, _MOST_DEVIATIONS)
        if jitter:
            x = x + jitter * torch.randn_like(x)
        logits: Tensor = self.layers(x)
        return logits

    @property
    def ids(self) -> tuple[str, ...]:
        """What the network knows, in the order of its logits."""
        known: Any = self.config["ids"]
        return tuple(known)
