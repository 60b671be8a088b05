"""The PatchGAN discriminator: one verdict per overlapping patch."""

from __future__ import annotations

from torch import Tensor, nn


class PatchDiscriminator(nn.Module):
    """Convolutional patch classifier (Isola et al., CVPR 2017).

    Normalised over each sample, not over the batch, so that the verdict on a picture does not depend on how a
    batch is shared among processes.

    Parameters
    ----------
    channels
        Channels of the first layer; each further one doubles them, up to eightfold.
    layers
        Strided layers; three see patches of 70×70 pixels.
    """

    def __init__(self, channels: int = 64, layers: int = 3) -> None:
        super().__init__()
        blocks: list[nn.Module] = [nn.Conv2d(3, channels, 4, 2, 1), nn.LeakyReLU(0.2)]
        width = channels
        for layer in range(1, layers + 1):
            before, width = width, channels * min(2**layer, 8)
            stride = 2 if layer < layers else 1
            blocks += [
                nn.Conv2d(before, width, 4, stride, 1, bias=False),
                nn.GroupNorm(1, width),
                nn.LeakyReLU(0.2),
            ]
        self.main = nn.Sequential(*blocks, nn.Conv2d(width, 1, 4, 1, 1))
        self.apply(_initialise)

    def forward(self, companded: Tensor) -> Tensor:
        """Verdicts, N×1×h×w, on companded residuals, N×3×H×W: positive means real."""
        verdict: Tensor = self.main(companded)
        return verdict.float()


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
