"""Keeping the codebook alive: data-driven start, usage, and the revival of dead entries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Usage:
    """How well a codebook is used over a window of steps.

    Attributes
    ----------
    share
        Entries used at least once, of all, in [0, 1].
    perplexity
        exp of the entropy of the usage in nats: the number of equally used entries that would be as diverse.
    """

    share: float
    perplexity: float


def usage(counts: Tensor) -> Usage:
    """Usage from the number of times each entry was chosen."""
    p = counts.double() / counts.sum().clamp(min=1)
    entropy = -(p * p.clamp(min=1e-12).log()).sum()
    return Usage(float((counts > 0).double().mean()), float(entropy.exp()))


def count_codes(indices: Tensor, size: int) -> Tensor:
    """How often each of `size` entries occurs among `indices`, over all processes."""
    counts = torch.bincount(indices.flatten(), minlength=size)
    if dist.is_initialized():
        dist.all_reduce(counts)
    return counts


def gather_encodings(encoding: Tensor) -> Tensor:
    """All encodings of the global batch, M×d, in the order of its samples whatever the number of processes."""
    flat = encoding.detach().flatten(2).transpose(1, 2).reshape(-1, encoding.shape[1]).contiguous()
    if not dist.is_initialized():
        return flat
    parts = [torch.empty_like(flat) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, flat)
    return torch.cat(parts)


@torch.no_grad()
def kmeans(points: Tensor, size: int, rng: np.random.Generator, rounds: int = 8) -> Tensor:
    """Lloyd's algorithm from random points: `size` centres of M×d points. Empty centres move to random points."""
    chosen = rng.choice(len(points), size, replace=len(points) < size)
    centres = points[torch.from_numpy(chosen).to(points.device)].clone()
    for _ in range(rounds):
        nearest = (centres.pow(2).sum(1) - 2 * points @ centres.T).argmin(1)
        sums = torch.zeros_like(centres).index_add_(0, nearest, points)
        counts = torch.bincount(nearest, minlength=size)
        centres = sums / counts.clamp(min=1)[:, None]
        centres = revive(centres, counts, points, rng)
    return centres


@torch.no_grad()
def revive(entries: Tensor, counts: Tensor, points: Tensor, rng: np.random.Generator) -> Tensor:
    """`entries` with those that nobody chose replaced by random `points` (encoder outputs, M×d)."""
    dead = (counts == 0).nonzero().flatten()
    if len(dead) == 0:
        return entries
    chosen = rng.choice(len(points), len(dead), replace=len(points) < len(dead))
    entries = entries.clone()
    entries[dead] = points[torch.from_numpy(chosen).to(points.device)].to(entries.dtype)
    return entries
