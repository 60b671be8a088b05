"""Gradients that are not to be followed: one step along them can end a training that went well for hours."""

from __future__ import annotations

import math

_WILD, _MEMORY, _SETTLED = 20.0, 0.98, 100
"""A gradient so many times longer than usual is not followed, once so many have been seen."""


class GradientGuard:
    """Knows how long gradients usually are."""

    def __init__(self) -> None:
        self._usual, self._seen, self.refused = 0.0, 0, 0

    def forget(self) -> None:
        """Learn anew what is usual: from here on the loss is another, of other parameters."""
        self._seen = 0

    def accepts(self, norm: float) -> bool:
        """Whether a gradient of such length is to be followed; `refused` counts those in a row that are not."""
        if not math.isfinite(norm) or (self._seen >= _SETTLED and norm > _WILD * self._usual):
            self.refused += 1
            return False
        share = max(1 - _MEMORY, 1 / (self._seen + 1))
        self._usual += share * (norm - self._usual)
        self._seen += 1
        self.refused = 0
        return True

    def state(self) -> dict[str, float]:
        """What `load_state` goes on from."""
        return {"usual": self._usual, "seen": self._seen}

    def load_state(self, state: dict[str, float]) -> None:
        """Go on from what `state` returned."""
        self._usual, self._seen = state["usual"], int(state["seen"])
