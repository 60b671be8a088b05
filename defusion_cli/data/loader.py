"""Feeding views to training: every sample is a pure function of (seed, step, number), whoever computes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from torch import Tensor, cat, stack
from torch.utils.data import DataLoader, Dataset

from defusion_cli.allocator import keep_freed_memory
from defusion_cli.data.synthesis import View, ViewMaker
from defusion_cli.data.workers import no_seed, start_worker


class Batch(NamedTuple):
    """N = V·K crops of V views: ``lq`` and ``target`` N×3×c×c, ``boxes`` N×4; the rest V×…, see `View`."""

    lq: Tensor
    target: Tensor
    boxes: Tensor
    thumbnail: Tensor
    coarse: Tensor
    damage: Tensor
    shown: tuple[tuple[str, ...], ...]
    slots: tuple[int, ...]
    numbers: tuple[int, ...]
    """Numbers of the views within the global batch of this step; with the seed and step they seed all noise."""


class _Views(Dataset[tuple[int, View]]):
    def __init__(
        self, maker: ViewMaker, seed: int, crop_at: Callable[[int], int], plain_at: Callable[[int], bool]
    ) -> None:
        self.maker, self.seed, self.crop_at, self.plain_at = maker, seed, crop_at, plain_at

    def __getitem__(self, index: tuple[int, int]) -> tuple[int, View]:
        cv2.setNumThreads(1)  # workers share the cores with the training itself
        keep_freed_memory()
        step, number = index
        rng = np.random.default_rng([self.seed, step, number])
        return number, self.maker.draw(rng, self.crop_at(step), self.plain_at(step))


class _Numbers:
    """This rank's view numbers of every step, as a batch sampler."""

    def __init__(self, steps: range, share_at: Callable[[int], slice]) -> None:
        self.steps, self.share_at = steps, share_at

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in self.steps:
            share = self.share_at(step)
            yield [(step, number) for number in range(share.start, share.stop)]

    def __len__(self) -> int:
        return len(self.steps)


def _never(step: int) -> bool:
    return False


def view_batches(
    maker: ViewMaker,
    seed: int,
    steps: range,
    crop_at: Callable[[int], int],
    share_at: Callable[[int], slice],
    workers: int = 0,
    plain_at: Callable[[int], bool] = _never,
) -> Iterator[Batch]:
    """Batches for the given steps.

    Parameters
    ----------
    crop_at
        Side of the crops at a step, pixels.
    share_at
        Which view numbers of the global batch are this process's at a step.
    workers
        Data-loader processes; 0 computes samples in this one.
    plain_at
        Whether views of a step show one kind of damage only (`SynthesisConfig.plain`).
    """
    loader: DataLoader[tuple[int, View]] = DataLoader(
        _Views(maker, seed, crop_at, plain_at),
        batch_sampler=_Numbers(steps, share_at),
        num_workers=workers,
        worker_init_fn=start_worker,
        generator=no_seed(),
        collate_fn=_collate,
        prefetch_factor=4 if workers else None,
        # A forked child inherits the locks of OpenCV's and OpenMP's thread pools in whatever state they are, and hangs.
        multiprocessing_context="spawn" if workers else None,
    )
    yield from loader


def _collate(items: Sequence[tuple[int, View]]) -> Batch:
    numbers, views = zip(*items, strict=True)
    return Batch(
        cat([view.lq for view in views]),
        cat([view.target for view in views]),
        cat([view.boxes for view in views]),
        stack([view.thumbnail for view in views]),
        stack([view.coarse for view in views]),
        stack([view.damage for view in views]),
        tuple(view.shown for view in views),
        tuple(view.slot for view in views),
        numbers,
    )
