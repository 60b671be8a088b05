"""Plugins that load well and fail at work: one raises on dark pictures, one returns something else."""

from __future__ import annotations

from dataclasses import dataclass

from defusion_cli.plugins import Degradation, Position, param


@dataclass(frozen=True)
class NoParams:
    strength: float = param(1.0, meaning="nothing", low=0, high=1)


class Raising(Degradation[NoParams]):
    id = "raising"
    summary = "raises on dark pictures"
    position = Position.SCENE
    Params = NoParams

    def sample(self, rng, severity=None):
        return NoParams()

    def apply(self, image, params, rng, scene=None):
        if image.mean() < 0.2:
            raise ZeroDivisionError("too dark for me")
        return image.copy()

    def neutral(self):
        return NoParams(strength=0.0)


class Shapeless(Raising):
    id = "shapeless"
    summary = "returns half a picture"

    def apply(self, image, params, rng, scene=None):
        return image[: len(image) // 2]


RAISING, SHAPELESS = Raising(), Shapeless()
