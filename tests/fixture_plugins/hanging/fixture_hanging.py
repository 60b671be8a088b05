"""A plugin that never comes back from a dark picture."""

from __future__ import annotations

from dataclasses import dataclass

from defusion_cli.plugins import Degradation, Position, param


@dataclass(frozen=True)
class NoParams:
    strength: float = param(1.0, meaning="nothing", low=0, high=1)


class Hanging(Degradation[NoParams]):
    id = "hanging"
    summary = "hangs on dark pictures"
    position = Position.SCENE
    Params = NoParams

    def sample(self, rng, severity=None):
        return NoParams()

    def apply(self, image, params, rng, scene=None):
        while image.mean() < 0.2:
            try:
                sum(range(1000))
            except Exception:  # a plugin may swallow what it does not know
                raise
        return image.copy()

    def neutral(self):
        return NoParams(strength=0.0)


HANGING = Hanging()
