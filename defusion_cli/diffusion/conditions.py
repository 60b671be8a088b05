"""What the U-Net is told beside the picture: time, instruction, thumbnail and grain, as features."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from defusion_cli.diffusion.schedule import LAST_TIMESTEP
from defusion_cli.grain import FINE_FEATURES

_THUMBNAIL_WIDTHS = (24, 48, 96)


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


def sinusoid(timestep: Tensor, size: int) -> Tensor:
    """Sinusoidal embedding of time steps (Vaswani et al., 2017), N×size."""
    frequency = torch.exp(torch.arange(size // 2, device=timestep.device) * (-math.log(10_000.0) / (size // 2)))
    angle = timestep.float()[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1)
