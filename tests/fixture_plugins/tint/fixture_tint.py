"""A well-behaved third-party degradation: a colour filter in front of the lens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from defusion_cli.plugins import Degradation, Position, param, severity_or_draw


@dataclass(frozen=True)
class TintParams:
    strength: float = param(0.5, meaning="share of the light taken", unit="fraction", low=0, high=1)
    steps: int = param(4, meaning="shades of the filter", low=1, high=9)
    hard: bool = param(False, meaning="whether the filter has an edge")
    colour: str = param("red", meaning="what comes through", choices=("red", "green", "blue"))


class Tint(Degradation[TintParams]):
    id = "tint"
    summary = "a colour filter [in front of the lens]"
    position = Position.LENS
    Params = TintParams

    def sample(self, rng, severity=None):
        return TintParams(strength=severity_or_draw(rng, severity))

    def apply(self, image, params, rng, scene=None):
        keep = np.full(3, 1 - params.strength, np.float32)
        keep[("red", "green", "blue").index(params.colour)] = 1
        return image * keep

    def neutral(self):
        return TintParams(strength=0.0)


TINT = Tint()
