"""A model, an instruction and the settings of a run, and tiles that become smaller when the memory is short."""

from __future__ import annotations

from collections.abc import Callable

from defusion_cli.allocator import keep_freed_memory
from defusion_cli.canvas import Canvas
from defusion_cli.diffusion.pipeline import DefusionPipeline
from defusion_cli.restore.instruction import Instruction
from defusion_cli.restore.memory import choose_tile, smaller_tile
from defusion_cli.restore.pixels import AsSrgb, restore_canvas
from defusion_cli.restore.run import BLURS, SCALES, SHARES, Remark
from defusion_cli.restore.scale import plan_passes
from defusion_cli.restore.tiling import MIN_TILE_PX


class Restorer:
    """Restores one canvas after another, in place.

    Parameters
    ----------
    pipeline, instruction
        The model and what it is told to remove; ``instruction`` may be changed between two pictures.
    steps, seed, tile
        As for `defusion_cli.restore.pixels.restore_pixels`.
    reduction
        The whole number by which pictures are reduced; None finds it for each.
    on_progress
        Called with the finished share of the picture in hand.
    say
        Called with one sentence after a picture for which tiles had to become smaller.
    """

    def __init__(
        self,
        pipeline: DefusionPipeline,
        instruction: Instruction,
        steps: int = 1,
        seed: int = 0,
        tile: int | None = None,
        reduction: int | None = None,
        *,
        on_progress: Callable[[float], None] | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._pipeline, self.instruction, self._steps, self._seed = pipeline, instruction, steps, seed
        self._tile, self._reduction, self._on_progress, self._say = tile, reduction, on_progress, say
        self._used, self._shrunk = 0, False
        self._device = pipeline.device
        if self._device.type == "cpu":
            keep_freed_memory()

    def __call__(self, canvas: Canvas) -> Remark:
        """Restore the canvas; the remark holds at which scales, and how much of what was doubted."""
        tile = self._choose_tile(canvas, 1)
        passes = plan_passes(self._pipeline, AsSrgb(canvas), self.instruction, self._reduction, tile)
        work = [1 / one.reduction**2 if one.nature.share else 0.0 for one in passes]
        whole, believed = sum(work) or 1.0, []
        for number, (tokens, n, nature) in enumerate(passes):
            side = self._choose_tile(canvas, n)
            done, share = sum(work[:number]) / whole, work[number] / whole
            report = _within(self._on_progress, done, share)
            blur = restore_canvas(
                self._pipeline, canvas, tokens, self._steps, self._seed, side, report, reduction=n, nature=nature
            )
            if nature.uniform_blur:
                believed.append(round(blur.belief, 4) if blur else 0.0)
        if self._shrunk:
            self._say(f"The memory was short: tiles have {self._tile} px from here on.")
            self._shrunk = False
        doubted = {one.nature.doubt.kind: round(one.nature.share, 4) for one in passes if one.nature.doubt}
        facts = {SCALES: [round(1 / one.reduction, 4) for one in passes], SHARES: doubted, BLURS: believed}
        return Remark({name: fact for name, fact in facts.items() if fact}, untouched=not any(work))

    def _choose_tile(self, canvas: Canvas, reduction: int) -> int:
        height, width = (-(-side // reduction) for side in canvas.size)
        backbone = type(self._pipeline.unet).__name__
        self._used = self._tile or choose_tile(backbone, self._device, height * width)
        # A picture smaller than a tile is one tile of its own size.
        self._used = min(self._used, max(height, width))
        return max(self._used, MIN_TILE_PX)

    def shrink(self) -> bool:
        """Use smaller tiles from now on; False if they are as small as they can be."""
        smaller = smaller_tile(self._used)
        if smaller is None:
            return False
        if self._device.type == "cuda":
            import torch

            torch.cuda.empty_cache()
        self._tile, self._shrunk = smaller, True
        return True


def _within(on_progress: Callable[[float], None] | None, done: float, share: float) -> Callable[[float], None] | None:
    """`on_progress` for a piece of the work, `share` of the whole, before which `done` was finished."""
    if on_progress is None:
        return None
    return lambda part: on_progress(done + share * part)
