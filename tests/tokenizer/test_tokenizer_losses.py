"""The losses of the tokenizer against their definitions."""

from __future__ import annotations

import pytest
import torch

from defusion_cli.tokenizer.discriminator import PatchDiscriminator
from defusion_cli.tokenizer.losses import (
    adaptive_weight,
    hinge_discriminator_loss,
    hinge_generator_loss,
    reconstruction_loss,
    vq_loss,
)


def test_vq_loss_pulls_entry_and_encoding_towards_each_other() -> None:
    encoding = torch.zeros(1, 2, 1, 1, requires_grad=True)
    codes = torch.ones(1, 2, 1, 1, requires_grad=True)
    loss = vq_loss(encoding, codes, commitment=0.25)
    assert loss.item() == pytest.approx(1.25)
    loss.backward()
    # d/de of the mean over two components of (e − E)², and 0.25 times that for E.
    torch.testing.assert_close(codes.grad, torch.full_like(codes, 1.0))
    torch.testing.assert_close(encoding.grad, torch.full_like(encoding, -0.25))


def test_reconstruction_loss_mixes_absolute_and_squared_error() -> None:
    x, y = torch.full((1, 3, 2, 2), 0.5), torch.zeros(1, 3, 2, 2)
    assert reconstruction_loss(x, y).item() == pytest.approx(0.5)
    assert reconstruction_loss(x, y, squared_share=1).item() == pytest.approx(0.25)
    assert reconstruction_loss(x, y, squared_share=0.5).item() == pytest.approx(0.375)


def test_hinge_losses_stop_at_the_margin() -> None:
    sure, wrong = torch.full((2, 1, 3, 3), 2.0), torch.full((2, 1, 3, 3), -1.0)
    assert hinge_discriminator_loss(sure, -sure).item() == 0
    assert hinge_discriminator_loss(wrong, -wrong).item() == pytest.approx(2)
    assert hinge_generator_loss(sure).item() == -2


def test_adaptive_weight_is_the_ratio_of_the_gradients_at_the_last_layer() -> None:
    layer = torch.tensor([1.0, 1.0], requires_grad=True)
    assert adaptive_weight(3 * layer.sum(), 1.5 * layer.sum(), layer).item() == pytest.approx(2, rel=1e-3)
    assert adaptive_weight(1e9 * layer.sum(), 1e-9 * layer.sum(), layer).item() == 1e4


def test_discriminator_gives_patch_verdicts_that_do_not_depend_on_the_rest_of_the_batch() -> None:
    torch.manual_seed(0)
    discriminator = PatchDiscriminator(channels=4)
    pictures = torch.randn(3, 3, 64, 64)
    verdicts = discriminator(pictures)
    assert verdicts.shape == (3, 1, 6, 6)
    torch.testing.assert_close(discriminator(pictures[1:2]), verdicts[1:2], atol=1e-5, rtol=1e-4)


def test_discriminator_learns_to_tell_streaks_from_their_average() -> None:
    torch.manual_seed(0)
    discriminator = PatchDiscriminator(channels=8, layers=2)
    adam = torch.optim.Adam(discriminator.parameters(), 2e-3, (0.5, 0.9))
    real = (torch.rand(4, 1, 32, 32) > 0.8).float().expand(-1, 3, -1, -1)
    fake = torch.full_like(real, 0.2)
    losses = []
    for _ in range(20):
        loss = hinge_discriminator_loss(discriminator(real), discriminator(fake))
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
