"""Feeding views to training: every sample is a pure function of (seed, step, number), whoever computes it.

A photograph that cannot be used (any more) is named, and where it was drawn another one is. All other samples stay
what they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from torch import Tensor, cat, stack
from torch.utils.data import DataLoader, Dataset

from defusion_cli.allocator import keep_freed_memory
from defusion_cli.console import note
from defusion_cli.data.synthesis import SynthesisConfig, View, ViewMaker
from defusion_cli.data.workers import Explained, loading, raise_explained
from defusion_cli.errors import DataError

_MOST_UNUSABLE = 50
"""So many photographs that cannot be used, drawn one after the other, end the training."""

_MOST_NAMED = 20


class Batch(NamedTuple):
    """N = V·K crops of V views: ``lq`` and ``target`` N×3×c×c, ``boxes`` N×4; the rest V×…, see `View`."""

    lq: Tensor
    target: Tensor
    boxes: Tensor
    cells: Tensor
    grain: Tensor
    coarse: Tensor
    damage: Tensor
    shown: tuple[tuple[str, ...], ...]
    slots: tuple[int, ...]
    numbers: tuple[int, ...]
    """Numbers of the views within the global batch of this step; with the seed and step they seed all noise."""


class _Drawn(NamedTuple):
    """A view, its number in the step, and what is wrong with photographs that were drawn for it before."""

    number: int
    view: View
    unusable: tuple[str, ...]


class _Views(Dataset[_Drawn]):
    def __init__(
        self,
        maker: ViewMaker,
        seed: int,
        crop_at: Callable[[int], int],
        config_at: Callable[[int], SynthesisConfig] | None,
    ) -> None:
        self.maker, self.seed, self.crop_at, self.config_at = maker, seed, crop_at, config_at

    def __getitem__(self, index: tuple[int, int]) -> _Drawn:
        cv2.setNumThreads(1)  # workers share the cores with the training itself
        keep_freed_memory()
        step, number = index
        rng = np.random.default_rng([self.seed, step, number])
        unusable: list[str] = []
        while len(unusable) < _MOST_UNUSABLE:
            try:
                view = self.maker.draw(rng, self.crop_at(step), self.config_at(step) if self.config_at else None)
                return _Drawn(number, view, tuple(unusable))
            except DataError as error:
                unusable.append(error.failed)
        raise DataError(
            f"{_MOST_UNUSABLE} training photographs drawn one after the other cannot be used.",
            found=unusable[-1],
            fix="bring the photographs back and run the same command again; it goes on from the last checkpoint",
        )


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


def view_batches(
    maker: ViewMaker,
    seed: int,
    steps: range,
    crop_at: Callable[[int], int],
    share_at: Callable[[int], slice],
    workers: int = 0,
    config_at: Callable[[int], SynthesisConfig] | None = None,
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
    config_at
        How the damage of a step is drawn, instead of by the maker's own configuration.

    Raises
    ------
    DataError
        If hardly any photograph can be used.
    PluginError
        If a plugin fails.
    """
    loader: DataLoader[_Drawn] = DataLoader(
        Explained(_Views(maker, seed, crop_at, config_at)),
        batch_sampler=_Numbers(steps, share_at),
        **loading(workers, _collate),
    )
    named: set[str] = set()
    for batch, unusable in raise_explained(loader):
        _name(unusable, named)
        yield batch


def _name(unusable: Iterable[str], named: set[str]) -> None:
    """Say of each photograph once what is wrong with it."""
    for problem in unusable:
        if problem not in named and len(named) < _MOST_NAMED:
            note(f"{problem} It is left out: others are drawn in its place.")
        elif problem not in named and len(named) == _MOST_NAMED:
            note("Further photographs are left out without a word.")
        named.add(problem)


def _collate(items: Sequence[_Drawn]) -> tuple[Batch, list[str]]:
    numbers, views, unusable = zip(*items, strict=True)
    batch = Batch(
        cat([view.lq for view in views]),
        cat([view.target for view in views]),
        cat([view.boxes for view in views]),
        stack([view.cells for view in views]),
        stack([view.grain for view in views]),
        stack([view.coarse for view in views]),
        stack([view.damage for view in views]),
        tuple(view.shown for view in views),
        tuple(view.slot for view in views),
        numbers,
    )
    return batch, [problem for problems in unusable for problem in problems]
