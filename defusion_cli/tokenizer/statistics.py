"""What a patch of damage looks like when its pixels cannot be told: statistics of each token's 16×16 cell.

A grain of noise is not predictable from ten bits, so a reconstruction loss rates noise and nothing alike and the
tokens forget it. A linear read-out of the quantised code is therefore asked, during training only, for the
energies, orientations and extremes of the residual in the cell: the classical description of stochastic texture
by band statistics (Heeger and Bergen, SIGGRAPH 1995; Portilla and Simoncelli, IJCV 2000). Two more are asked, from the
tokens of the whole instruction, which plugins are at work and how edges differ with their direction.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CELL = 16
_FLOOR = 1e-6  # energy of a residual of 0.001, below what eight bits show
_SCALES = 3


def _log_energy(energy: Tensor) -> Tensor:
    """Energies of 1e-6 … 1 to about −1 … 1."""
    return (torch.log10(energy + _FLOOR) + 3) / 3


def cell_statistics(instruction: Tensor, cell: int = CELL) -> Tensor:
    """Statistics of each cell of a residual.

    Parameters
    ----------
    instruction
        N×3×H×W residual in [−1, 1]; H and W multiples of `cell`.

    Returns
    -------
    Tensor
        N×K×(H/cell)×(W/cell), all roughly in [−1, 1]: companded mean, log energy per channel and of the colour
        differences, companded extremes, skewness, log energies, orientation and coherence of the gradients at
        three scales, and the share of the gradient energy on the borders of 8×8 blocks.
    """
    mean = F.avg_pool2d(instruction, cell)
    grey = instruction.mean(1, keepdim=True)
    chroma = instruction[:, ::2] - instruction[:, 1:2]
    extremes = [-F.max_pool2d(-grey, cell), F.max_pool2d(grey, cell)]
    parts = [
        mean.sign() * mean.abs().sqrt(),
        _log_energy(F.avg_pool2d(instruction.square(), cell)),
        _log_energy(F.avg_pool2d(chroma.square(), cell)),
        *(extreme.sign() * extreme.abs().sqrt() for extreme in extremes),
        _skewness(grey, cell),
    ]
    for scale in range(_SCALES):
        factor = 2**scale
        parts += _gradients(F.avg_pool2d(grey, factor), cell // factor)
    return torch.cat([*parts, *_block_borders(grey, cell)], 1)


def _skewness(grey: Tensor, cell: int) -> Tensor:
    """Third over second moment to the 3/2, to about −1 … 1: rain and snow only brighten, noise does both."""
    second, third = (F.avg_pool2d(grey**power, cell) for power in (2, 3))
    return third / (second**1.5 + _FLOOR) / 3


def _gradients(grey: Tensor, cell: int) -> list[Tensor]:
    """Structure tensor of each cell: log energies along x and y, diagonal orientation, coherence near and around.

    The coherence is 1 for parallel streaks and 0 for flakes and grain. A streak fills only a part of its cell,
    hence the second one, over 3×3 cells.
    """
    dx = F.pad(grey.diff(dim=3), (0, 1, 0, 0))
    dy = F.pad(grey.diff(dim=2), (0, 0, 0, 1))
    xx, yy, xy = (F.avg_pool2d(product, cell) for product in (dx * dx, dy * dy, dx * dy))
    around = [F.avg_pool2d(t, 3, 1, 1, count_include_pad=False) for t in (xx, yy, xy)]
    return [
        _log_energy(xx),
        _log_energy(yy),
        2 * xy / (xx + yy + _FLOOR),
        _coherence(xx, yy, xy),
        _coherence(around[0], around[1], around[2]),
    ]


def _coherence(xx: Tensor, yy: Tensor, xy: Tensor, floor: float = _FLOOR) -> Tensor:
    """Difference of the eigenvalues of the structure tensor over their sum, in [0, 1]."""
    return ((xx - yy).square() + 4 * xy.square()).sqrt() / (xx + yy + floor)


def _block_borders(grey: Tensor, cell: int) -> list[Tensor]:
    """Log ratio of the gradient energy on the borders of 8×8 blocks to that everywhere, along x and y."""
    parts = []
    for dim in (3, 2):
        energy = grey.diff(dim=dim, append=grey.narrow(dim, grey.shape[dim] - 1, 1)).square()
        at_border = (torch.arange(grey.shape[dim], device=grey.device) % 8 == 7).to(grey.dtype)
        shape = [1, 1, 1, -1] if dim == 3 else [1, 1, -1, 1]
        borders = F.avg_pool2d(energy * at_border.view(shape) * 8, cell)
        parts.append(torch.log10((borders + _FLOOR) / (F.avg_pool2d(energy, cell) + _FLOOR)))
    return parts


class StatisticsHead(nn.Module):
    """Linear read-out of `cell_statistics` from code vectors; used in training only."""

    def __init__(self, embed_dim: int = 256) -> None:
        super().__init__()
        count = cell_statistics(torch.zeros(1, 3, CELL, CELL)).shape[1]
        self.read = nn.Conv2d(embed_dim, count, 1)

    def forward(self, codes: Tensor) -> Tensor:
        """N×K×h×w statistics of N×embed_dim×h×w codes."""
        statistics: Tensor = self.read(codes)
        return statistics.float()


class WholeHead(nn.Module):
    """Linear read-out of facts about the whole instruction, from mean and deviation of the codes; in training only."""

    def __init__(self, count: int, embed_dim: int = 256) -> None:
        super().__init__()
        self.read = nn.Linear(2 * embed_dim, count)

    def forward(self, codes: Tensor) -> Tensor:
        """N×count values of N×embed_dim×h×w codes."""
        flat = codes.flatten(2)
        values: Tensor = self.read(torch.cat([flat.mean(2), (flat.var(2) + 1e-4).sqrt()], 1))
        return values.float()


_DIRECTIONS, _HARMONICS = 12, 4
_OCTAVES = 4
_FAINT = 1e-8
BLUR_SHAPE_LENGTH = 3 * _OCTAVES * (2 + _HARMONICS)
"""Of `blur_shape`: mean, deviation and harmonics of three logarithms an octave."""


def blur_shape(instruction: Tensor) -> Tensor:
    """How the edges in a whole residual differ with their direction: what tells one blur from another.

    A blur widens an edge by the extent of its point spread function across the edge: an aperture all edges alike,
    a path those across it most. How the energy of edges of one direction is shared by the scales tells their width,
    whatever the picture. The direction itself does not matter: what is returned are mean, deviation and the sizes of
    the first harmonics over all directions.

    Parameters
    ----------
    instruction
        N×3×H×W residual in [−1, 1]; H and W at least 8.

    Returns
    -------
    Tensor
        N×K, of logarithms of energies; all vary by roughly 1.
    """
    grey = instruction.float().mean(1, keepdim=True)
    with torch.autocast(grey.device.type, enabled=False):  # sums of 50,000 small numbers
        rows = [_by_direction(F.avg_pool2d(grey, 2**octave)) for octave in range(_OCTAVES)]
    energy, amplitude, level = torch.stack(rows, 2)
    logs = (energy + _FAINT).log()
    table = torch.cat(
        [
            logs[:, :1],
            logs.diff(dim=1),
            logs - (level + _FAINT).log(),
            logs - 2 * (amplitude + _FAINT**0.5).log(),
        ],
        1,
    )
    mean = table.mean(2)
    harmonics = torch.fft.rfft(table - mean[..., None], dim=2)[..., 1 : _HARMONICS + 1].abs() / _DIRECTIONS
    return torch.cat([mean, 3 * table.std(2), 5 * harmonics.flatten(1)], 1)


def _by_direction(grey: Tensor) -> Tensor:
    """Energy and amplitude of the gradient and energy of the level itself at edges of each direction: 3×N×12."""
    smooth = F.avg_pool2d(F.avg_pool2d(F.pad(grey, (1, 1, 1, 1), "replicate"), 2, 1), 2, 1)
    wide = F.pad(smooth, (1, 1, 1, 1), "replicate")
    dx, dy = wide[..., 1:-1, 2:] - wide[..., 1:-1, :-2], wide[..., 2:, 1:-1] - wide[..., :-2, 1:-1]
    xx, yy, xy = F.avg_pool2d(torch.cat([dx * dx, dy * dy, dx * dy], 1), 5, 1, 2).chunk(3, 1)
    coherence = _coherence(xx, yy, xy, 1e-9).square()
    turns = torch.atan2(2 * xy, xx - yy) / (2 * torch.pi) % 1.0
    direction = (turns * _DIRECTIONS).long().clamp(max=_DIRECTIONS - 1).flatten(1)
    strength = dx.square() + dy.square()
    values = torch.stack([strength, strength.sqrt(), smooth.square()])
    # A product with indicators, not scatter_add, whose order of summation is open on a GPU.
    bins = F.one_hot(direction, _DIRECTIONS).to(grey.dtype)
    return (coherence * values).flatten(2).unsqueeze(2).matmul(bins).squeeze(2) / strength[0].numel()
