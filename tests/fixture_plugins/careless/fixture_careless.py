"""Plugins that say something wrong of themselves."""

from __future__ import annotations

from dataclasses import dataclass

from defusion_cli.plugins import Degradation, Position, param


@dataclass(frozen=True)
class NoParams:
    strength: float = param(1.0, meaning="nothing", low=0, high=1)


class One(Degradation[NoParams]):
    id = "one"
    version = 1
    summary = "has a number for a version"
    position = Position.SCENE
    Params = NoParams

    def sample(self, rng, severity=None):
        return NoParams()

    def apply(self, image, params, rng, scene=None):
        return image.copy()

    def neutral(self):
        return NoParams(strength=0.0)


class Seven(One):
    id = 7
    version = "1"


class Silent(One):
    id = "silent"
    version = "1"
    summary = None


class Loud(One):
    id = "Loud"
    version = "1"


class Alias(One):
    id = "noise"
    version = "1"


class Floating(One):
    id = "floating"
    version = "1"
    position = 3


ONE, SEVEN, SILENT, LOUD, ALIAS, FLOATING = One(), Seven(), Silent(), Loud(), Alias(), Floating()
