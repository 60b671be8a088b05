"""A model, an instruction and the settings of a run, and tiles that become smaller when the memory is short."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from defusion_cli.canvas import Canvas
from defusion_cli.diffusion.pipeline import DefusionPipeline
from defusion_cli.restore.memory import choose_tile, smaller_tile
from defusion_cli.restore.pixels import restore_canvas


class Restorer:
    """Restores one canvas after another, in place.

    Parameters
    ----------
    pipeline, tokens
        The model and what it is told to remove; ``tokens`` may be changed between two pictures.
    steps, seed, tile
        As for `defusion_cli.restore.pixels.restore_pixels`.
    on_progress
        Called with the finished share of the picture in hand.
    say
        Called with one sentence when tiles become smaller.
    """

    def __init__(
        self,
        pipeline: DefusionPipeline,
        tokens: Tensor,
        steps: int = 1,
        seed: int = 0,
        tile: int | None = None,
        *,
        on_progress: Callable[[float], None] | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._pipeline, self.tokens, self._steps, self._seed = pipeline, tokens, steps, seed
        self._tile, self._on_progress, self._say = tile, on_progress, say
        self._used = 0

    def __call__(self, canvas: Canvas) -> None:
        """Restore the canvas."""
        height, width = canvas.size
        self._used = self._tile or choose_tile(
            type(self._pipeline.unet).__name__, self._pipeline.device, height * width
        )
        # A picture smaller than a tile is one tile of its own size.
        self._used = min(self._used, max(height, width))
        restore_canvas(
            self._pipeline, canvas, self.tokens, self._steps, self._seed, max(self._used, 128), self._on_progress
        )

    def shrink(self) -> bool:
        """Use smaller tiles from now on; False if they are as small as they can be."""
        smaller = smaller_tile(self._used)
        if smaller is None:
            return False
        if self._pipeline.device.type == "cuda":
            import torch

            torch.cuda.empty_cache()
        self._say(f"The memory is short: going on with tiles of {smaller} px.")
        self._tile = smaller
        return True
