"""The first estimate of what veils a whole photograph: a smooth affine map of its colours."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from defusion_cli.diffusion.blocks import Condition, ResidualBlock, down_and_up
from defusion_cli.grain import FINE_FEATURES

_WIDTHS, _STRIDE, _HIDDEN = (48, 96, 96), 4, 128


class CoarseCondition(nn.Module):
    """The FiLM condition of the coarse branch, N×E: what was asked for, and what the whole photograph is like.

    Its own, small as it is: it once had that of the U-Net, without a gradient, and lost 1 dB of haze and snow over
    3,600 steps in which the U-Net changed it.
    """

    def __init__(self, token_dim: int, channels: int, features: int, hidden: int = _HIDDEN) -> None:
        super().__init__()
        self.look = nn.Linear(2 * token_dim + 6 * channels + FINE_FEATURES, hidden)
        self.out = nn.Linear(hidden, features)
        for layer in (self.look, self.out):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
            nn.init.zeros_(layer.bias)

    def forward(self, asked: Tensor, cells: Tensor, grain: Tensor) -> Tensor:
        """From `InstructionSummary.standardised`, `look_at_cells` and `read_grain`."""
        fine = grain[:, :FINE_FEATURES].to(cells.dtype)
        seen = torch.cat([cells.mean((2, 3)), cells.std((2, 3)), fine], dim=1)
        return self.out(F.silu(self.look(torch.cat([asked, seen], dim=1))))


class CoarseBranch(nn.Module):
    """What the whole photograph says about every part of it: a smooth affine map of colours.

    Haze, darkness, sea water and a veil of snow are affine in the photograph's colours, y₀ = M(p)·x_LQ(p) + b(p),
    with M and b that vary slowly over the picture p but depend on all of it, and a tile does not see all of it. A
    small U-Net looks at the thumbnail and puts M and b on a grid of 16×16 points (as HDRNet does, Gharbi et al.,
    SIGGRAPH 2017); between them they are interpolated. It is shown the mean, the darkest and the brightest of every
    cell: what veils a picture lifts its darkest spots (He et al., "Single image haze removal using dark channel
    prior", CVPR 2009), of which the mean says nothing.
    """

    def __init__(self, channels: int, condition: int, token_dim: int, widths: tuple[int, ...] = _WIDTHS) -> None:
        super().__init__()
        self.channels = channels
        self.condition = CoarseCondition(token_dim, channels, condition)
        self.conv_in = nn.Conv2d(3 * channels, widths[0], _STRIDE, stride=_STRIDE)
        self.down = nn.ModuleList(ResidualBlock(w, condition) for w in widths)
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in zip(widths[:-1], widths[1:], strict=True))
        self.middle = ResidualBlock(widths[-1], condition)
        self.grow = nn.ModuleList(nn.Conv2d(b, 4 * a, 1) for a, b in zip(widths[:-1], widths[1:], strict=True))
        self.up = nn.ModuleList(ResidualBlock(w, condition) for w in widths[:-1])
        self.conv_out = nn.Conv2d(widths[0], channels * (channels + 1), 3, padding=1)
        for layer in (self.conv_in, *self.shrink, *self.grow):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)  # type: ignore[arg-type]

    def forward(self, cells: Tensor, asked: Tensor, grain: Tensor) -> Tensor:
        """The grid of maps, N×C(C+1)×16×16: M row by row, then b.

        Parameters
        ----------
        cells
            Mean, darkest and brightest value of each channel in each cell of the whole photographs, N×3C×64×64.
        asked
            What the instructions say, `InstructionSummary.standardised`, N×2·D.
        grain
            `read_grain` of the whole photographs, N×F.
        """
        condition = Condition(self.condition(asked, cells, grain), [1] * len(cells))
        features = down_and_up(self, self.conv_in(cells), condition, lambda x: self.middle(x, condition))
        grid: Tensor = self.conv_out(features)
        return grid

    def apply_maps(self, grid: Tensor, x: Tensor, box: Tensor) -> Tensor:
        """The coarse estimate of y₀, N×C×H×W.

        Parameters
        ----------
        grid
            What `forward` returns.
        x
            x_LQ of a part of each photograph, N×C×H×W.
        box
            Where the parts lie: left, top, right, bottom, N×4, in fractions of the photograph's sides.
        """
        rows = _tents(box[:, 1], box[:, 3], x.shape[2], grid.shape[2])
        columns = _tents(box[:, 0], box[:, 2], x.shape[3], grid.shape[3])
        # Bilinear interpolation is separable: two small matrix products for each map.
        maps = rows[:, None].to(grid.dtype) @ grid @ columns[:, None].to(grid.dtype).mT
        matrix, offset = maps.split([self.channels**2, self.channels], dim=1)
        return (matrix.unflatten(1, (self.channels, self.channels)) * x[:, None]).sum(2) + offset

    def on_cells(self, grid: Tensor, cells: Tensor) -> Tensor:
        """The coarse estimate of y₀ of whole photographs, averaged over cells: N×C×64×64."""
        mean = cells[:, : self.channels]
        return self.apply_maps(grid, mean, whole_box(mean))


def _tents(start: Tensor, end: Tensor, pixels: int, points: int) -> Tensor:
    """Weights of linear interpolation, N×pixels×points, for pixels spread over start … end of a unit axis."""
    places = (torch.arange(pixels, device=start.device, dtype=torch.float32) + 0.5) / pixels
    at = (start[:, None] + (end - start)[:, None] * places) * points - 0.5
    knots = torch.arange(points, device=start.device, dtype=torch.float32)
    return (1 - (at.clamp(0, points - 1)[:, :, None] - knots).abs()).clamp(min=0)


def whole_box(x: Tensor) -> Tensor:
    """The box of a whole photograph, for each of N."""
    return torch.tensor([[0.0, 0.0, 1.0, 1.0]], device=x.device).expand(len(x), -1)
