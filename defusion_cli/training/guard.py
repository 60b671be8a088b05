"""What could end a training that went well for hours: one step along a wild gradient, or memory that runs short."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

from defusion_cli.errors import DefusionError, one_line
from defusion_cli.shortage import is_out_of_memory

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


@contextmanager
def shortage_explained(setting: str) -> Iterator[None]:
    """Around the steps of a training; `setting` is the one that decides how much is in memory at once.

    Raises
    ------
    DefusionError
        If the memory runs short.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise DefusionError(
            "There is too little memory for a step of this training.",
            found=one_line(str(error))[:200] or "no more memory",
            fix=f"--set {setting}=N, with a smaller N than now",
        ) from error
