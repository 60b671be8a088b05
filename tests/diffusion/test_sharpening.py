"""The filter that undoes blur: exact, of no brightness, nothing at first, and of use after a little training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from skimage import data

from defusion_cli.diffusion import DegradationUNet
from defusion_cli.diffusion.sharpening import SharpeningBranch, filtered
from defusion_cli.grain import GRAIN_FEATURES, read_grain
from defusion_cli.plugins.kernels import convolve, line_psf


@pytest.fixture(scope="module")
def photo():
    return (data.astronaut()[:256, 100:356] / 255).astype(np.float32)


def tensor(pixels):
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None]


def bent(branch: SharpeningBranch) -> SharpeningBranch:
    torch.nn.init.normal_(branch.correct.weight, std=0.4)
    torch.nn.init.normal_(branch.correct.bias, std=1.6)
    return branch


@pytest.mark.parametrize(("height", "width"), [(60, 71), (20, 90), (1, 1)])
def test_filtering_is_a_convolution_for_each_picture(height, width):
    torch.manual_seed(0)
    x, kernels = torch.rand(2, 3, height, width), torch.randn(2, 49, 49)
    kernels = kernels + kernels.flip(1, 2)
    mode = "reflect" if min(height, width) > 24 else "replicate"
    padded = F.pad(x, (24,) * 4, mode=mode)
    expected = [F.conv2d(p[:, None], k[None, None])[:, 0] for p, k in zip(padded, kernels, strict=True)]
    torch.testing.assert_close(filtered(x, kernels), torch.stack(expected), rtol=1e-3, atol=1e-2)


def test_nothing_is_done_at_first_and_brightness_stays():
    torch.manual_seed(0)
    branch = SharpeningBranch(16)
    x, asked, grain = torch.rand(2, 3, 64, 64), torch.randn(2, 32), torch.randn(2, GRAIN_FEATURES)
    assert not branch(x, asked, grain).any()
    branch(x, asked, grain).add(0.1 * x).square().mean().backward()
    assert branch.lifter.grad.abs().max() > 0 and branch.correct.weight.grad.abs().max() > 0
    bent(branch)
    estimate = branch(x, asked, grain)
    assert estimate.std() > 0.01
    assert branch(torch.full_like(x, 0.3), asked, grain).abs().max() < 1e-4  # flat ground


def test_it_sharpens_and_never_softens():
    """Every frequency of the restored picture is at least as strong as it was."""
    torch.manual_seed(0)
    branch = bent(SharpeningBranch(16))
    kernel = branch._filters(torch.randn(1, 32), torch.randn(1, GRAIN_FEATURES))
    response = torch.fft.rfft2(F.pad(kernel, (0, 47, 0, 47))).abs()
    phase = torch.fft.rfft2(torch.roll(F.pad(kernel, (0, 47, 0, 47)), (-24, -24), (1, 2)))
    assert response.max() > 0.3 and phase.real.min() > -0.15 * response.max()  # but for its taper
    torch.testing.assert_close(kernel, kernel.flip(1, 2))


def test_it_learns_to_undo_a_blur(photo):
    torch.manual_seed(0)
    blurred = convolve(photo, line_psf(7, 30.0)).clip(0, 1)
    branch, asked = SharpeningBranch(16), torch.zeros(1, 32)
    lq, y0 = 2 * tensor(blurred) - 1, 2 * tensor(blurred - photo)
    grain = read_grain(tensor(blurred))
    optimiser = torch.optim.Adam(branch.parameters(), lr=5e-3)
    gains = []
    for _ in range(60):
        optimiser.zero_grad()
        error = (branch(lq, asked, grain) - y0).square().mean()
        gains.append(float(10 * torch.log10(y0.square().mean() / error.detach())))
        error.backward()
        optimiser.step()
    assert gains[0] == 0 and gains[-1] > 0.4, gains[::10]


def test_the_network_adds_to_what_is_sharpened(photo):
    torch.manual_seed(0)
    small = {"widths": (8, 16), "blocks": (1, 1), "cross_attention_dim": 32, "condition_dim": 16, "heads": 2}
    unet = DegradationUNet(**small, sharpen=True).eval()
    bent(unet.sharpening)
    lq, tokens = 2 * tensor(photo[:64, :64]) - 1, torch.randn(1, 9, 32)
    sample, grain = torch.cat([torch.zeros_like(lq), lq], 1), read_grain(tensor(photo))
    with torch.no_grad():
        y0 = unet(sample, torch.tensor([999]), tokens, {"grain": grain}).sample
        alone = unet.sharpening_estimate(lq, tokens, grain)
        assert alone.abs().max() > 0.05
        torch.testing.assert_close(y0, alone)  # the rest says nothing yet
        torch.nn.init.normal_(unet.conv_out.weight, std=0.05)
        assert not torch.allclose(unet(sample, torch.tensor([999]), tokens, {"grain": grain}).sample, alone)
