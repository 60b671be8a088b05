"""A plugin that takes the name of a built-in one."""

from __future__ import annotations

from degradations.jpeg import JPEG


class Noise(type(JPEG)):
    id = "noise"


NOISE = Noise()
