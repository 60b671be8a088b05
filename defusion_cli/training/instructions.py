"""Samples for the tokenizer: instructions drawn on the fly, each from a generator of its own.

Sample i of step s comes from ``default_rng([seed, s, i])``: the same whatever the number of workers and processes,
and wherever a run is resumed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from defusion_cli.canvas import JPEG_BLOCK_PX
from defusion_cli.data.workers import Explained, loading, raise_explained
from defusion_cli.ground import draw_instruction, natural_pool
from defusion_cli.plugins.compose import Plugins


@dataclass(frozen=True)
class InstructionSource:
    """Where instructions come from.

    Attributes
    ----------
    ids
        Plugins to draw from.
    plugins
        All known plugins.
    ground_px
        Side of the ground.
    crop_px
        Side of the square random crop; its offset is a multiple of 8, so that the block grid of JPEG lies where
        it does in the uncropped instruction.
    clean_share, mixture_share
        Share of samples without any damage, and of mixtures of two or three plugins.
    natural_dir
        A user's photographs for the natural element of the ground.
    emphasis
        How often a plugin is drawn, relative to those that are not named here (1).
    """

    ids: Sequence[str]
    plugins: Plugins
    ground_px: int = 224
    crop_px: int = 224
    clean_share: float = 0.03
    mixture_share: float = 0.3
    natural_dir: Path | None = None
    emphasis: Mapping[str, float] = field(default_factory=dict)

    def draw(self, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """One instruction, crop_px×crop_px×3 in [−1, 1], mirrored half of the time; and 1 for each of `ids` in it."""
        ids = self._draw_ids(rng)
        natural = natural_pool(self.natural_dir)
        _, _, residual, _ = draw_instruction(ids, self.plugins, rng, size=self.ground_px, natural=natural)
        steps = (self.ground_px - self.crop_px) // JPEG_BLOCK_PX + 1
        top, left = (int(offset) * JPEG_BLOCK_PX for offset in rng.integers(steps, size=2))
        crop = residual[top : top + self.crop_px, left : left + self.crop_px]
        present = np.array([known in ids for known in self.ids], np.float32)
        return np.ascontiguousarray(crop[:, ::-1] if rng.random() < 0.5 else crop), present

    def _draw_ids(self, rng: np.random.Generator) -> list[str]:
        """None, one, or two to three different plugins, in random order."""
        kind = rng.random()
        if kind < self.clean_share:
            return []
        weights = np.array([self.emphasis.get(plugin_id, 1.0) for plugin_id in self.ids])
        most = min(3, int(np.count_nonzero(weights)))
        count = 1 if kind >= self.clean_share + self.mixture_share or most < 2 else int(rng.integers(2, most + 1))
        return [self.ids[k] for k in rng.choice(len(self.ids), count, replace=False, p=weights / weights.sum())]


class _Samples(Dataset[tuple[Tensor, Tensor]]):
    def __init__(self, source: InstructionSource, seed: int, batch: int) -> None:
        self.source, self.seed, self.batch = source, seed, batch

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        cv2.setNumThreads(1)  # workers share the cores with the training itself
        step, i = divmod(index, self.batch)
        residual, present = self.source.draw(np.random.default_rng([self.seed, step, i]))
        return torch.from_numpy(residual).permute(2, 0, 1), torch.from_numpy(present)


def instruction_batches(
    source: InstructionSource, seed: int, batch: int, share: slice, steps: range, workers: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """This process's part of the batches of `steps`: residuals N×3×crop_px×crop_px, and N×P plugins at work.

    Parameters
    ----------
    batch
        Global batch.
    share
        The samples of each batch that belong to this process.
    """
    index = [step * batch + i for step in steps for i in range(share.start, share.stop)]
    loader = DataLoader(
        Explained(_Samples(source, seed, batch)),
        batch_size=share.stop - share.start,
        sampler=index,
        **loading(workers, default_collate),
    )
    yield from raise_explained(loader)
