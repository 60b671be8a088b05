"""Plugins that load well and give what no picture has, or draw what they do not accept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from defusion_cli.plugins import Degradation, Position, param


@dataclass(frozen=True)
class OneParam:
    strength: float = param(0.5, meaning="nothing", low=0, high=1)


class Hollow(Degradation[OneParam]):
    id = "hollow"
    summary = "has a hole that is not a number"
    position = Position.SCENE
    Params = OneParam

    def sample(self, rng, severity=None):
        return OneParam()

    def apply(self, image, params, rng, scene=None):
        out = image.copy()
        out[-1, -1, 1] = np.nan
        return out

    def neutral(self):
        return OneParam(strength=0.0)


class Glaring(Hollow):
    id = "glaring"
    summary = "adds light without end"

    def apply(self, image, params, rng, scene=None):
        return image + np.float32(0.5)


class EmptyHanded(Hollow):
    id = "empty-handed"
    summary = "returns nothing"

    def apply(self, image, params, rng, scene=None):
        return None


class Wild(Hollow):
    id = "wild"
    summary = "draws more than it accepts"

    def sample(self, rng, severity=None):
        return OneParam(strength=1.5)


class Blurting(Hollow):
    id = "blurting"
    summary = "raises in colour"

    def apply(self, image, params, rng, scene=None):
        raise ValueError("no\n\x1b[31mlines")


HOLLOW, GLARING, EMPTY_HANDED, WILD, BLURTING = Hollow(), Glaring(), EmptyHanded(), Wild(), Blurting()
