"""The embedded default backbone: a norm-free residual U-Net that an ordinary CPU runs well.

Plain 3×3 convolutions reach the arithmetic peak of a CPU where depthwise convolutions and normalisations do not;
so the net has none of those. Time, instruction and a thumbnail of the whole photograph enter as a feature-wise
affine modulation of every block (FiLM, Perez et al., AAAI 2018), and the instruction tokens and thumbnail features
again by cross-attention at the coarsest level.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput
from torch import Tensor, nn

from defusion_cli.diffusion.refinement import UNCHANGED
from defusion_cli.diffusion.schedule import LAST_TIMESTEP
from defusion_cli.diffusion.sharpening import SharpeningBranch
from defusion_cli.grain import FINE_FEATURES, extended, read_grain
from defusion_cli.thumbnail import look_at_cells

_THUMBNAIL_WIDTHS = (24, 48, 96)
_COARSE_WIDTHS, _COARSE_STRIDE, _COARSE_HIDDEN = (48, 96, 96), 4, 128


class Condition(NamedTuple):
    """The FiLM condition of N samples: D×E, and how many samples, one after the other, each of the D is for.

    Crops of one view and tiles of one photograph have one, so that what follows from it is made once for them.
    """

    values: Tensor
    runs: list[int]

    def of_each(self, told: Tensor) -> Tensor:
        """What was made for each of the D conditions, D×…, for each of the N samples."""
        if len(self.runs) == sum(self.runs):
            return told
        return told.repeat_interleave(torch.tensor(self.runs, device=told.device), dim=0)


class ConditionedConv(nn.Conv2d):
    """A 3×3 convolution whose kernel depends on the condition c (D×E): W + Σ_m g_m(c)·W_m / √M, with g linear.

    As many multiplications a pixel as with one kernel (Yang et al., "CondConv: Conditionally parameterized convolutions
    for efficient inference", NeurIPS 2019). One kernel for ten kinds of damage is a compromise: 700 steps of noise
    alone, all of the network learning, gained 0.43 dB on noise that thousands of steps of everything had not found.
    The W_m start at zero: a finished network can be given them and goes on from what it is.
    """

    def __init__(self, channels: int, condition: int, experts: int) -> None:
        super().__init__(channels, channels, 3, padding=1)
        self.gate = nn.Linear(condition, experts)
        self.experts = nn.ParameterList(torch.zeros(self.weight.shape) for _ in range(experts))
        # A condition is about one long, and those of different damage are as far apart.
        nn.init.normal_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)

    def kernels(self, condition: Tensor) -> Tensor:
        """The kernels for D conditions, D×O×I×3×3.

        W counts as one more expert, whose share is 1: all in one product, and each as channels_last wants it. With W
        added afterwards it takes two to three times as long.
        """
        gated = self.gate(condition) * len(self.experts) ** -0.5
        shares = torch.cat([torch.ones_like(gated[:, :1]), gated], dim=1)
        known = [kernel.movedim(1, -1) for kernel in (self.weight, *self.experts)]
        flat = shares @ torch.stack([kernel.flatten() for kernel in known])
        kernels: Tensor = flat.unflatten(1, known[0].shape).movedim(-1, 2)
        return kernels


class ResidualBlock(nn.Module):
    """x + conv(silu(FiLM(conv(x), c))): N×C×H×W with the `Condition` c."""

    def __init__(self, channels: int, condition: int, experts: int = 0) -> None:
        super().__init__()
        self.conv1, self.conv2 = (
            ConditionedConv(channels, condition, experts) if experts else nn.Conv2d(channels, channels, 3, padding=1)
            for _ in range(2)
        )
        self.film = nn.Linear(condition, 2 * channels)
        nn.init.kaiming_normal_(self.conv1.weight, nonlinearity="relu")
        nn.init.kaiming_normal_(self.conv2.weight, nonlinearity="relu")
        # Small residual branches: without normalisation a deep sum of full-sized ones does not start to learn.
        self.conv2.weight.data.mul_(0.2)
        for parameter in (self.conv1.bias, self.conv2.bias, self.film.weight, self.film.bias):
            nn.init.zeros_(parameter)  # type: ignore[arg-type]

    def forward(self, x: Tensor, condition: Condition) -> Tensor:
        scale, shift = condition.of_each(self.film(condition.values))[:, :, None, None].chunk(2, dim=1)
        features: Tensor = self.conv2(_silu(torch.addcmul(shift, self.conv1(x), 1 + scale)))
        return features.add_(x)


class ConditionedBlock(ResidualBlock):
    """A `ResidualBlock` whose convolutions have kernels of their own for each condition (`ConditionedConv`).

    Samples that share a condition go through it by themselves, and FiLM becomes a part of their kernel. With modulated
    features, sums over all pixels for the gradient of that, and samples joined after each convolution, these blocks
    took 6 to 20 % longer in training.
    """

    def kernels(self, condition: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """For each of D conditions, D×E: kernel and bias of the first convolution, kernel of the second."""
        conv1, conv2 = cast(ConditionedConv, self.conv1), cast(ConditionedConv, self.conv2)
        scale, shift = self.film(condition).chunk(2, dim=1)
        biases = torch.addcmul(shift, cast(Tensor, conv1.bias), 1 + scale)
        kernels = conv1.kernels(condition)
        each = (kernels * (1 + scale.to(kernels.dtype))[:, :, None, None, None], biases, conv2.kernels(condition))
        return list(zip(*(made.unbind() for made in each), strict=True))

    def convolved(self, x: Tensor, kernel1: Tensor, bias1: Tensor, kernel2: Tensor) -> Tensor:
        """The block on samples that share a condition."""
        features = F.conv2d(x, kernel1, bias1, padding=1)
        return F.conv2d(_silu(features), kernel2, self.conv2.bias, padding=1).add_(x)

    def forward(self, x: Tensor, condition: Condition) -> Tensor:
        return _run_by_condition([self], x, condition)


def _silu(features: Tensor) -> Tensor:
    """In place where autograd allows it: on a CPU fresh memory for each result costs 3 % at 512 px, 9 % at 1024 px."""
    return F.silu(features, inplace=not torch.is_grad_enabled())


def _run_by_condition(blocks: Sequence[ConditionedBlock], x: Tensor, condition: Condition) -> Tensor:
    """Blocks one after the other, on the samples of each condition by themselves."""
    kernels = [block.kernels(condition.values) for block in blocks]
    parts = list(x.split(condition.runs))  # `split`, for the gradient of a slice is as large as all of x
    for n, part in enumerate(parts):
        for block, made in zip(blocks, kernels, strict=True):
            part = block.convolved(part, *made[n])
        parts[n] = part
    return parts[0] if len(parts) == 1 else torch.cat(parts)


class _Stack(nn.ModuleList):
    """Residual blocks one after the other, under the same condition."""

    def forward(self, x: Tensor, condition: Condition) -> Tensor:
        for block in self:
            x = block(x, condition)
        return x


class _ConditionedStack(_Stack):
    """The same of `ConditionedBlock`: samples that share a condition go through all of them by themselves."""

    def forward(self, x: Tensor, condition: Condition) -> Tensor:
        return _run_by_condition([cast(ConditionedBlock, block) for block in self], x, condition)


class TokenAttention(nn.Module):
    """Cross-attention from positions to the tokens, residual, starting at zero.

    Positions do not attend to one another: it gave nothing (haze 8.66 dB with, 8.67 without, noise 9.14 and 9.15 on
    four Kodak photographs), and a tile was restored otherwise than the same place in the whole.
    """

    def __init__(self, channels: int, token_dim: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or channels % heads:
            raise ValueError(f"{channels} channels cannot be shared by {heads} attention heads")
        self.heads = heads
        self.norm_cross = nn.LayerNorm(channels)
        self.cross_q = nn.Linear(channels, channels)
        self.cross_kv = nn.Linear(token_dim, 2 * channels)
        self.cross_out = nn.Linear(channels, channels)
        nn.init.zeros_(self.cross_out.weight)
        nn.init.zeros_(self.cross_out.bias)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.unflatten(2, (self.heads, -1)).transpose(1, 2) for x in (q, k, v))
        if torch.is_grad_enabled():  # written out: the fused backward takes 32 ms a step where this takes 9
            return ((q * q.shape[-1] ** -0.5 @ k.mT).softmax(-1) @ v).transpose(1, 2).flatten(2)
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        """N×C×H×W; with V×K×D tokens, each for N/V samples one after the other."""
        n, c, h, w = x.shape
        flat = x.flatten(2).transpose(1, 2).reshape(len(tokens), -1, c)  # V×(N/V·H·W)×C
        k, v = self.cross_kv(tokens).chunk(2, dim=2)
        flat = flat + self.cross_out(self._attend(self.cross_q(self.norm_cross(flat)), k, v))
        return flat.reshape(n, -1, c).transpose(1, 2).reshape(n, c, h, w)


class ThumbnailEncoder(nn.Module):
    """What the whole photograph looks like, averaged over cells: N×3×64×64 to 64 feature tokens, N×64×C."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        widths = (3, *_THUMBNAIL_WIDTHS)
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in zip(widths[:-1], widths[1:], strict=True)
        )
        self.out = nn.Linear(widths[-1], channels)
        for conv in self.convs:
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")  # type: ignore[arg-type]

    def forward(self, thumbnail: Tensor) -> Tensor:
        for conv in self.convs:
            thumbnail = F.silu(conv(thumbnail))
        return self.out(thumbnail.flatten(2).transpose(1, 2))


class GrainEncoder(nn.Module):
    """What `defusion_cli.grain` says of the noise of the whole photograph, N×F to N×E features; zero at first."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.look = nn.Linear(FINE_FEATURES, features)
        self.out = nn.Linear(features, features, bias=False)
        nn.init.kaiming_normal_(self.look.weight, nonlinearity="linear")
        nn.init.zeros_(self.look.bias)
        nn.init.zeros_(self.out.weight)

    def forward(self, grain: Tensor) -> Tensor:
        return self.out(F.silu(self.look(grain[:, :FINE_FEATURES].to(self.look.weight.dtype))))


class LateCondition(nn.Module):
    """What is added to the FiLM condition at t < T, N×E to N×E; zero at first.

    The one step that most people take is at t = T, where nothing of this is heard: it can be taught what pleases the
    eye without touching the least-squares estimate.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.look = nn.Linear(features, features)
        self.out = nn.Linear(features, features)
        nn.init.kaiming_normal_(self.look.weight, nonlinearity="linear")
        for parameter in (self.look.bias, self.out.weight, self.out.bias):
            nn.init.zeros_(parameter)

    def forward(self, condition: Tensor, timestep: Tensor) -> Tensor:
        later = (timestep < LAST_TIMESTEP).to(condition.dtype)[:, None]
        return later * self.out(F.silu(self.look(F.silu(condition))))


class InstructionSummary(nn.Module):
    """What the tokens say as a whole: N×K×D tokens to N×E features.

    A linear map of mean and deviation of the tokens, which is what a linear probe tells the degradations apart by.
    Both are standardised over instructions first (see `calibrate`): all instructions have most of it in common.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, token_dim: int, features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(2 * token_dim))
        self.register_buffer("deviation", torch.ones(2 * token_dim))
        self.out = nn.Linear(2 * token_dim, features)

    @torch.no_grad()
    def calibrate(self, tokens: Tensor) -> None:
        """Take the standardisation from the tokens of many instructions, N×K×D."""
        statistics = self._statistics(tokens)
        self.mean.copy_(statistics.mean(0))
        if len(tokens) < 2:  # nothing to tell apart
            return
        deviation = statistics.std(0)
        self.deviation.copy_(deviation + 0.1 * deviation.mean() + 1e-6)

    def _statistics(self, tokens: Tensor) -> Tensor:
        mean = tokens.mean(1, keepdim=True)
        variance = (tokens - mean).square().sum(1) / (tokens.shape[1] - 1)  # a third of the time of `std`
        return torch.cat([mean[:, 0], variance.sqrt()], dim=1)

    def standardised(self, tokens: Tensor) -> Tensor:
        """Mean and deviation of the tokens, N×2·D, as they differ from those of other instructions."""
        return (self._statistics(tokens) - self.mean) / self.deviation

    def forward(self, tokens: Tensor) -> Tensor:
        return self.out(self.standardised(tokens))


class CoarseCondition(nn.Module):
    """The FiLM condition of the coarse branch, N×E: what was asked for, and what the whole photograph is like.

    Its own, small as it is: it once had that of the U-Net, without a gradient, and lost 1 dB of haze and snow over
    3,600 steps in which the U-Net changed it.
    """

    def __init__(self, token_dim: int, channels: int, features: int, hidden: int = _COARSE_HIDDEN) -> None:
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

    def __init__(self, channels: int, condition: int, token_dim: int, widths: tuple[int, ...] = _COARSE_WIDTHS) -> None:
        super().__init__()
        self.channels = channels
        self.condition = CoarseCondition(token_dim, channels, condition)
        self.conv_in = nn.Conv2d(3 * channels, widths[0], _COARSE_STRIDE, stride=_COARSE_STRIDE)
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
        features = _down_and_up(self, self.conv_in(cells), condition, lambda x: self.middle(x, condition))
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
        return self.apply_maps(grid, mean, _whole(mean))


def _tents(start: Tensor, end: Tensor, pixels: int, points: int) -> Tensor:
    """Weights of linear interpolation, N×pixels×points, for pixels spread over start … end of a unit axis."""
    places = (torch.arange(pixels, device=start.device, dtype=torch.float32) + 0.5) / pixels
    at = (start[:, None] + (end - start)[:, None] * places) * points - 0.5
    knots = torch.arange(points, device=start.device, dtype=torch.float32)
    return (1 - (at.clamp(0, points - 1)[:, :, None] - knots).abs()).clamp(min=0)


class DegradationUNet(ModelMixin, ConfigMixin):
    """Predicts the damage y₀ from (y_t, t, x_LQ, instruction tokens, thumbnail).

    The forward signature is that of diffusers' ``UNet2DConditionModel``, so either can be the backbone.

    Parameters
    ----------
    in_channels
        Channels of ``cat(y_t, x_LQ)``: 6.
    out_channels
        Channels of y₀: 3.
    widths
        Channels at 1/2, 1/4, 1/8 … of the resolution.
    blocks
        Residual blocks a level, on the way down and again on the way up.
    experts
        Kernels beside the common one that each convolution of these blocks has, a level (`ConditionedConv`); levels
        beyond have none.
    cross_attention_dim
        Size of an instruction token.
    condition_dim
        Size of the FiLM condition.
    heads
        Attention heads at the coarsest level.
    output_heads
        Output layers, mixed by a softmax gate that the condition sets. With one, the residue of strong damage leaks
        into crops whose instruction asks for faint damage.
    thumbnail_px
        Side of the square thumbnail of the whole photograph, a multiple of 64.
    grain
        Whether it is told the grain of the whole photograph (`defusion_cli.grain`).
    sharpen
        Whether a `SharpeningBranch` undoes blur first; the U-Net is told and adds to it.
    coarse
        Whether a `CoarseBranch` makes the first estimate from the whole photograph; the U-Net is told and adds to it.
    late
        Whether there is a `LateCondition`.
    """

    @register_to_config
    def __init__(
        self,
        in_channels: int = 6,
        out_channels: int = 3,
        widths: tuple[int, ...] = (64, 128, 192, 256),
        blocks: tuple[int, ...] = (2, 2, 2, 2),
        cross_attention_dim: int = 256,
        condition_dim: int = 256,
        heads: int = 4,
        output_heads: int = 1,
        thumbnail_px: int = 256,
        coarse: bool = False,
        grain: bool = False,
        late: bool = False,
        sharpen: bool = False,
        experts: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        e = condition_dim
        if any(count < 0 for count in experts):
            raise ValueError(f"{experts} experts")
        levels = list(zip(widths, blocks, [*experts, *[0] * (len(widths) - len(experts))], strict=True))
        self.time = nn.Sequential(nn.Linear(64, e), nn.SiLU(), nn.Linear(e, e))
        self.instruction = InstructionSummary(cross_attention_dim, e)
        self.token_position = nn.Parameter(torch.zeros(1, 1, cross_attention_dim))
        self.thumbnail = ThumbnailEncoder(cross_attention_dim)
        self.shown_norm, self.seen_norm = nn.LayerNorm(e), nn.LayerNorm(cross_attention_dim)
        self.condition = nn.Sequential(nn.Linear(2 * e + cross_attention_dim, e), nn.SiLU(), nn.Linear(e, e))
        self.grain_encoder = GrainEncoder(e) if grain else None
        self.late_condition = LateCondition(e) if late else None
        self.conv_in = nn.Conv2d(4 * in_channels, widths[0], 3, padding=1)
        self.down = nn.ModuleList(_blocks(w, e, n, m) for w, n, m in levels)
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in zip(widths[:-1], widths[1:], strict=True))
        self.attention = TokenAttention(widths[-1], cross_attention_dim, heads)
        self.middle = ResidualBlock(widths[-1], e)
        self.grow = nn.ModuleList(nn.Conv2d(b, 4 * a, 1) for a, b in zip(widths[:-1], widths[1:], strict=True))
        self.up = nn.ModuleList(_blocks(w, e, n, m) for w, n, m in levels[:-1])
        self.coarse_branch = CoarseBranch(out_channels, e, cross_attention_dim) if coarse else None
        self.sharpening = SharpeningBranch(cross_attention_dim) if sharpen else None
        told = coarse or sharpen
        self.coarse_in = nn.Conv2d(4 * out_channels, widths[0], 3, padding=1, bias=False) if told else None
        self.output_heads = output_heads
        self.conv_out = nn.Conv2d(widths[0], 4 * out_channels * output_heads, 3, padding=1)
        self.gate = nn.Linear(e, output_heads) if output_heads > 1 else None
        self._start_as_identity(in_channels)
        if self.gate is not None:
            nn.init.normal_(self.gate.weight, std=2 / e**0.5)
            nn.init.zeros_(self.gate.bias)
        # PyTorch's default initialisation shrinks what distinguishes one instruction from another to a fifteenth of
        # what all have in common, and after 1,250 steps nothing that needs the instruction was learnt.
        for layer in (*self.time, *self.condition, self.instruction.out):
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
                nn.init.zeros_(layer.bias)

    def _start_as_identity(self, in_channels: int) -> None:
        nn.init.kaiming_normal_(self.conv_in.weight, nonlinearity="linear")
        # At t = T the y_t half of the input is pure noise and would drown the faint traces of damage in x_LQ:
        # it starts at zero and grows as the later time steps find a use for it. Pixel-unshuffle puts the four
        # phases of one channel side by side, hence the factor 4.
        self.conv_in.weight.data[:, : 4 * in_channels // 2] = 0
        for layer in (*self.shrink, *self.grow):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)  # type: ignore[arg-type]
        if self.coarse_in is not None:
            nn.init.zeros_(self.coarse_in.weight)

    def _condition(self, steps: list[int], asked: Tensor, seen: Tensor, grain: Tensor) -> Condition:
        """The FiLM condition of samples at such time steps, of V photographs after one another.

        Parameters
        ----------
        asked
            Standardised instructions, V×2·D.
        seen
            Features of the thumbnails, V×64×D.
        grain
            V×F.
        """
        each = len(steps) // len(asked)
        starts = [n for n in range(len(steps)) if n % each == 0 or steps[n] != steps[n - 1]]
        runs = [end - start for start, end in itertools.pairwise([*starts, len(steps)])]
        views = [start // each for start in starts]
        timestep = torch.tensor([steps[n] for n in starts], device=asked.device)
        summary = torch.cat([self.shown_norm(self.instruction.out(asked)), self.seen_norm(seen.mean(1))], dim=1)[views]
        known = self.condition[0](torch.cat([self.time(_sinusoid(timestep, 64).to(summary.dtype)), summary], dim=1))
        if self.grain_encoder is not None:
            known = known + self.grain_encoder(grain)[views]
        condition = self.condition[1:](known)
        if self.late_condition is not None:
            condition = condition + self.late_condition(condition, timestep)
        return Condition(condition, runs)

    def calibrate(self, tokens: Tensor) -> None:
        """Before training: learn the spread of instructions from the tokens of many of them, N×K×D."""
        self.instruction.calibrate(tokens)

    def coarse_estimate(self, tokens: Tensor, cells: Tensor, grain: Tensor) -> Tensor:
        """What the coarse branch alone makes of whole photographs: the mean of y₀ in each cell, N×3×64×64."""
        if self.coarse_branch is None:
            raise ValueError("this backbone has no coarse branch")
        grid = self.coarse_branch(cells, self.instruction.standardised(tokens), grain)
        return self.coarse_branch.on_cells(grid, cells)

    def sharpening_estimate(self, lq: Tensor, tokens: Tensor, grain: Tensor) -> Tensor:
        """What the sharpening branch alone makes of parts of photographs, N×3×H×W."""
        if self.sharpening is None:
            raise ValueError("this backbone has no sharpening branch")
        estimate: Tensor = self.sharpening(lq, self.instruction.standardised(tokens), grain)
        return estimate

    def _output(self, x: Tensor, condition: Condition) -> Tensor:
        """Features at half the resolution to y₀ at the full one."""
        if self.gate is None:
            return F.pixel_shuffle(self.conv_out(x), 2)
        share = self.gate(condition.values).softmax(dim=1) * self.output_heads**0.5
        if len(share) == 1:  # the heads are linear: mixing their weights is an eighth of the work
            kernels, offsets = (p.unflatten(0, (self.output_heads, -1)) for _, p in self.conv_out.named_parameters())
            mixed = torch.einsum("m,mcijk->cijk", share[0].to(kernels.dtype), kernels)
            y0 = F.conv2d(x, mixed, share[0].to(offsets.dtype) @ offsets, padding=1)
        else:
            y0 = self.conv_out(x)
            # Σ_m share_m·y0_m, written as a product with share ⊗ 1, which leaves channels_last as it is.
            identity = torch.eye(y0.shape[1] // self.output_heads, dtype=y0.dtype, device=y0.device)
            mix = (condition.of_each(share).to(y0.dtype)[:, :, None, None] * identity).flatten(1, 2)
            y0 = (y0.permute(0, 2, 3, 1).flatten(1, 2) @ mix).unflatten(1, y0.shape[2:]).permute(0, 3, 1, 2)
        return F.pixel_shuffle(y0, 2)

    def _first_estimate(
        self, lq: Tensor, asked: Tensor, cells: Tensor, box: Tensor | None, grain: Tensor
    ) -> tuple[Tensor | None, tuple[Tensor, ...]]:
        """What veils or blurs the whole photographs, the same at every step; in training also `coarse_estimate`."""
        if self.coarse_in is None:
            return None, ()
        extra: tuple[Tensor, ...] = ()
        first = torch.zeros_like(lq)
        if self.coarse_branch is not None:
            grid = self.coarse_branch(cells, asked, grain)
            if self.training:
                extra = (self.coarse_branch.on_cells(grid, cells),)
            grid = grid.detach().repeat_interleave(len(lq) // len(grid), dim=0)
            first = self.coarse_branch.apply_maps(grid, lq, _whole(lq) if box is None else box)
        if self.sharpening is not None:
            first = first + self.sharpening(lq, asked, grain)
        return first, extra

    def _added(
        self,
        sample: Tensor,
        first: Tensor | None,
        steps: list[int],
        tokens: Tensor,
        asked: Tensor,
        cells: Tensor,
        grain: Tensor,
    ) -> Tensor:
        """What the U-Net adds to the first estimate: it looks at what that leaves, and is told what it took away."""
        seen = self.thumbnail(cells[:, : cells.shape[1] // 3])
        condition = self._condition(steps, asked, seen, grain)
        tokens = torch.cat([tokens + self.token_position, seen], dim=1)
        height, width = sample.shape[2:]
        multiple, told = 2 ** len(self.down), None
        if first is not None and self.coarse_in is not None:
            rest, lq = sample.split([sample.shape[1] - first.shape[1], first.shape[1]], dim=1)
            sample = torch.cat([rest, lq - first], dim=1)
            told = self.coarse_in(F.pixel_unshuffle(_pad_to_multiple(first, multiple), 2))
        x = self.conv_in(F.pixel_unshuffle(_pad_to_multiple(sample, multiple), 2))
        if told is not None:
            x = x + told
        x = _down_and_up(self, x, condition, lambda x: self.middle(self.attention(x, tokens), condition))
        return self._output(x, condition)[:, :, :height, :width]

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | int,
        encoder_hidden_states: Tensor,
        added_cond_kwargs: dict[str, Any] | None = None,
        return_dict: bool = True,
    ) -> Any:
        """y₀ (N×3×H×W, in the units of x_LQ, [−1, 1]) for any H and W.

        Parameters
        ----------
        sample
            ``cat(y_t, x_LQ)``, N×6×H×W.
        timestep
            N (or one) diffusion time steps, 0 … 999.
        encoder_hidden_states
            Instruction tokens, V×K×D. What concerns whole photographs is given once for each of V, of which N/V
            samples (crops, tiles) follow one another; or with V = 1 for all.
        added_cond_kwargs
            ``"thumbnail"``, V×3×256×256: the whole photograph at a glance, in [−1, 1]. Left out, x_LQ itself is
            taken to be the whole photograph. ``"cells"``, `look_at_cells` of the thumbnail, V×9×64×64, may stand in its
            place. ``"box"``, N×4: the place of x_LQ in it, see `CoarseBranch.apply_maps`; left out, all of it.
            ``"grain"``, V×F: `read_grain` of the whole photograph; left out, x_LQ is taken to be all of it.
            ``"refinement"``, a `Refinement`: how much of what is added to the first estimates of veil and blur counts;
            only these are made if it is nothing.
        return_dict
            False returns a tuple; in training mode its second entry is the `coarse_estimate`, V×3×64×64, whose error
            is the only one that teaches the coarse branch: what a crop shows is no measure of it.

        Raises
        ------
        ValueError
            If N samples cannot be those of V photographs.
        """
        given = added_cond_kwargs or {}
        cells, grain = given.get("cells"), given.get("grain")
        n, lq = len(sample), sample[:, -self.config["out_channels"] :]
        if cells is None:
            side = self.config["thumbnail_px"]
            thumbnail = given.get("thumbnail")
            cells = look_at_cells(F.interpolate(lq, (side, side), mode="area") if thumbnail is None else thumbnail)
        if grain is None and (self.grain_encoder or self.coarse_branch or self.sharpening):
            grain = read_grain((lq.float() + 1) / 2)
        elif grain is None:
            grain = cells.new_zeros(1, 0)
        views = max(len(encoder_hidden_states), len(cells), len(grain))
        tokens, cells, grain = (_for_each(views, x) for x in (encoder_hidden_states, cells, grain))
        if n % views:
            raise ValueError(f"{n} samples cannot be those of {views} photographs")
        steps = timestep.flatten().tolist() if isinstance(timestep, Tensor) else [timestep]
        steps = steps * n if len(steps) == 1 else steps
        asked = self.instruction.standardised(tokens)
        refinement = given.get("refinement", UNCHANGED)
        first, extra = self._first_estimate(lq, asked, cells, given.get("box"), grain)
        if first is None:
            y0 = self._added(sample, None, steps, tokens, asked, cells, grain)
        elif refinement.nothing:
            y0 = first
        else:
            y0 = refinement(self._added(sample, first, steps, tokens, asked, cells, grain)) + first
        return UNet2DConditionOutput(sample=y0) if return_dict else (y0, *extra)


def _for_each(views: int, given: Tensor) -> Tensor:
    """What is given for one photograph or for each."""
    return given if len(given) == views else given.expand(views, *given.shape[1:])


def _whole(x: Tensor) -> Tensor:
    """The box of a whole photograph, for each of N."""
    return torch.tensor([[0.0, 0.0, 1.0, 1.0]], device=x.device).expand(len(x), -1)


def _blocks(channels: int, condition: int, count: int, experts: int) -> _Stack:
    if experts:
        return _ConditionedStack(ConditionedBlock(channels, condition, experts) for _ in range(count))
    return _Stack(ResidualBlock(channels, condition) for _ in range(count))


def _down_and_up(net: Any, x: Tensor, condition: Condition, turn: Callable[[Tensor], Tensor]) -> Tensor:
    """Through the ``down``, ``shrink``, ``grow`` and ``up`` of a U-shaped net, with `turn` at the bottom."""
    skips = []
    for level, blocks in enumerate(net.down):
        x = blocks(x, condition)
        if level < len(net.shrink):
            skips.append(x)
            x = net.shrink[level](x)
    x = turn(x)
    for level in reversed(range(len(net.up))):
        x = F.pixel_shuffle(net.grow[level](x), 2) + skips[level]
        x = net.up[level](x, condition)
    return x


def _sinusoid(timestep: Tensor, size: int) -> Tensor:
    """Sinusoidal embedding of time steps (Vaswani et al., 2017), N×size."""
    frequency = torch.exp(torch.arange(size // 2, device=timestep.device) * (-math.log(10_000.0) / (size // 2)))
    angle = timestep.float()[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1)


def _pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    return extended(x, -x.shape[2] % multiple, -x.shape[3] % multiple)
