"""The losses of the tokenizer (Defusion, Eqs. 2–4 and supplement section 8; Esser et al., CVPR 2021)."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F


def vq_loss(encoding: Tensor, codes: Tensor, commitment: float = 1.0) -> Tensor:
    """‖sg[E(v)] − e‖² + λ·‖E(v) − sg[e]‖²: the codebook follows the encoder, and the encoder commits to it."""
    codebook = F.mse_loss(codes, encoding.detach())
    return codebook + commitment * F.mse_loss(encoding, codes.detach())


def reconstruction_loss(reconstruction: Tensor, target: Tensor, squared_share: float = 0.0) -> Tensor:
    """|x − x̂|, mixed with (x − x̂)² by `squared_share` in [0, 1].

    The absolute error alone calls a field of sparse, faint streaks best described by nothing at all, since its
    median is zero.
    """
    absolute = F.l1_loss(reconstruction, target)
    return (1 - squared_share) * absolute + squared_share * F.mse_loss(reconstruction, target)


def hinge_discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """½·(max(0, 1 − D(x)) + max(0, 1 + D(x̂))), averaged over patches."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def hinge_generator_loss(fake: Tensor) -> Tensor:
    """−D(x̂), averaged over patches."""
    return -fake.mean()


def adaptive_weight(reconstruction: Tensor, adversarial: Tensor, last_layer: Tensor) -> Tensor:
    """‖∇L_rec‖ / (‖∇L_adv‖ + δ) at the decoder's last layer (Esser et al., Eq. 7), at most 10⁴.

    Among several processes the gradients are averaged first, so that every process uses the same weight.
    """
    gradients = [
        torch.autograd.grad(loss, last_layer, retain_graph=True)[0].detach() for loss in (reconstruction, adversarial)
    ]
    if dist.is_initialized():
        for gradient in gradients:
            dist.all_reduce(gradient)
    of_reconstruction, of_adversary = (gradient.norm() for gradient in gradients)
    return (of_reconstruction / (of_adversary + 1e-4)).clamp(max=1e4)
