"""What the model is told to remove: named degradations, a user's own pair of pictures, or nothing in particular."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from defusion_cli.canvas import JPEG_BLOCK_PX, Pixels
from defusion_cli.diffusion.pipeline import DefusionPipeline
from defusion_cli.errors import DataError
from defusion_cli.ground.instruction import INSTRUCTION_PX
from defusion_cli.plugins import Position
from defusion_cli.plugins.compose import Plugins, physical_order


class Part(NamedTuple):
    """What belongs together in an instruction, as its sizes in pixels do.

    Attributes
    ----------
    tokens
        Of this part alone.
    fixed
        Its sizes are those of the pixels of the file, always.
    sparse
        It mostly leaves pixels as they are (`Degradation.sparse`).
    """

    tokens: Tensor
    fixed: bool = False
    sparse: bool = False


class Instruction(NamedTuple):
    """What to remove: all of it, and by parts in the order of removal, what came last first."""

    tokens: Tensor
    parts: tuple[Part, ...]
    sparse: bool = False

    @classmethod
    def undivided(cls, tokens: Tensor) -> Instruction:
        """Of one part."""
        return cls(tokens, (Part(tokens),))


class Instructor:
    """Instruction tokens for one model; those of a named degradation are made once.

    Parameters
    ----------
    pipeline
        The model whose tokenizer is used.
    plugins
        Installed degradations.
    grounds
        Test charts that named degradations are shown on, as for `defusion_cli.ground.named_residuals`; their tokens
        are put one after another.
    """

    def __init__(self, pipeline: DefusionPipeline, plugins: Plugins, grounds: int | None = None) -> None:
        self.pipeline, self._plugins, self._grounds = pipeline, plugins, grounds
        self._known: dict[tuple[str, ...], Tensor] = {}

    def named(self, ids: Sequence[str]) -> Tensor:
        """Tokens, 1×(196·grounds)×256, of one degradation, or of several that lie over one another.

        The order of `ids` does not matter: the ground is damaged in the order in which light meets the damage.
        """
        for plugin_id in ids:
            self._plugins[plugin_id]
        key = tuple(physical_order(sorted(set(ids)), self._plugins))
        if key not in self._known:
            self._known[key] = self.pipeline.encode_names(key, self._plugins, self._grounds)
        return self._known[key]

    def by_parts(self, ids: Sequence[str]) -> Instruction:
        """`named`, and what sensor and file do apart from what happens in front of them, if there is both."""
        positions = {plugin_id: self._plugins[plugin_id].position for plugin_id in ids}
        pixel = [plugin_id for plugin_id in ids if positions[plugin_id] >= Position.SENSOR]
        scene = [plugin_id for plugin_id in ids if positions[plugin_id] < Position.SENSOR]
        fixed = Position.FILE in positions.values()
        parts = [Part(self.named(pixel), fixed, self._are_sparse(pixel))] if pixel else []
        parts += [Part(self.named(scene), sparse=self._are_sparse(scene))] if scene else []
        return Instruction(self.named(ids), tuple(parts), self._are_sparse(ids))

    def _are_sparse(self, ids: Sequence[str]) -> bool:
        return all(self._plugins[plugin_id].sparse for plugin_id in ids)

    def example(self, before: Pixels, after: Pixels) -> Tensor:
        """Tokens, 1×196×256, of the difference between a damaged picture and the same picture without damage."""
        return self.pipeline.encode_instruction(example_residual(before, after))

    def blind(self) -> Tensor:
        """Tokens, 1×196×256, of the null instruction v = 0, with which the model was trained to remove what it sees."""
        return self.pipeline.encode_instruction(np.zeros((INSTRUCTION_PX, INSTRUCTION_PX, 3), np.float32))


def example_residual(before: Pixels, after: Pixels) -> NDArray[np.float32]:
    """before − after, cut or mirrored (not resized: the model works at pixel scale) to 224×224×3.

    Raises
    ------
    DataError
        If the pictures differ in size, or do not differ in anything.
    """
    if before.shape != after.shape:
        sizes = [f"{picture.shape[1]}×{picture.shape[0]}" for picture in (before, after)]
        raise DataError(
            "The two pictures of the example differ in size.",
            found=" and ".join(sizes),
            accepted="the same view twice, damaged and clean, pixel on pixel",
        )
    residual = _to_square(before - after)
    if not residual.any():
        raise DataError(
            "The two pictures of the example show no difference in their middle.",
            accepted="--example DAMAGED CLEAN",
        )
    return residual


def _to_square(residual: NDArray[np.float32]) -> NDArray[np.float32]:
    # Offsets are multiples of 8, so that the blocks of JPEG lie where they lie in a named instruction.
    top, left = (max(0, (side - INSTRUCTION_PX) // 2 // JPEG_BLOCK_PX * JPEG_BLOCK_PX) for side in residual.shape[:2])
    cut = residual[top : top + INSTRUCTION_PX, left : left + INSTRUCTION_PX]
    missing = [(0, INSTRUCTION_PX - side) for side in cut.shape[:2]]
    return np.ascontiguousarray(np.pad(cut, [*missing, (0, 0)], mode="symmetric"))
