"""The embedded default backbone: a norm-free residual U-Net that an ordinary CPU runs well.

Plain 3×3 convolutions reach the arithmetic peak of a CPU where depthwise convolutions and normalisations do not;
so the net has none of those. Time, instruction and a thumbnail of the whole photograph enter as a feature-wise
affine modulation of every block (FiLM, Perez et al., AAAI 2018), and the instruction tokens and thumbnail features
again by cross-attention at the coarsest level.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput
from torch import Tensor, nn

from defusion_cli.diffusion.blocks import Condition, ResidualBlock, down_and_up, make_stack
from defusion_cli.diffusion.coarse import CoarseBranch, whole_box
from defusion_cli.diffusion.conditions import (
    GrainEncoder,
    InstructionSummary,
    LateCondition,
    ThumbnailEncoder,
    TokenAttention,
    sinusoid,
)
from defusion_cli.diffusion.refinement import UNCHANGED
from defusion_cli.diffusion.sharpening import SharpeningBranch
from defusion_cli.grain import extended, read_grain
from defusion_cli.thumbnail import look_at_cells


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
        self.down = nn.ModuleList(make_stack(w, e, n, m) for w, n, m in levels)
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in zip(widths[:-1], widths[1:], strict=True))
        self.attention = TokenAttention(widths[-1], cross_attention_dim, heads)
        self.middle = ResidualBlock(widths[-1], e)
        self.grow = nn.ModuleList(nn.Conv2d(b, 4 * a, 1) for a, b in zip(widths[:-1], widths[1:], strict=True))
        self.up = nn.ModuleList(make_stack(w, e, n, m) for w, n, m in levels[:-1])
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
        known = self.condition[0](torch.cat([self.time(sinusoid(timestep, 64).to(summary.dtype)), summary], dim=1))
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
            first = self.coarse_branch.apply_maps(grid, lq, whole_box(lq) if box is None else box)
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
        x = down_and_up(self, x, condition, lambda x: self.middle(self.attention(x, tokens), condition))
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


def _pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    return extended(x, -x.shape[2] % multiple, -x.shape[3] % multiple)
