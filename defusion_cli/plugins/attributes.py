"""What a plugin says of itself: looked at before it is listed, and by `check_degradation`."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from defusion_cli.plugins.contract import Degradation, Position

ID = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def wrong_attribute(plugin: Degradation[Any]) -> str | None:
    """What is wrong with the class attributes of `plugin`, as one sentence; None if nothing is."""
    for name in ("id", "version", "summary"):
        value = getattr(plugin, name)
        if not isinstance(value, str):
            return f"{name} must be text, not {type(value).__name__}."
    if not ID.fullmatch(plugin.id):
        return "the id must be lower-case words and hyphens, and begin with a letter."
    if not isinstance(plugin.position, Position):
        return "position must be a Position."
    draws: object = plugin.named_draws
    if not isinstance(draws, tuple) or not draws or not all(isinstance(n, int) and n >= 0 for n in draws):
        return "named_draws must be a tuple of numbers of draws, 0 or more, as (0,)."
    if not dataclasses.is_dataclass(plugin.Params):
        return "Params must be a frozen dataclass."
    return None
