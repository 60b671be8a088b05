"""How wrong an estimate of the damage is, so that faint and strong damage are heard side by side."""

from __future__ import annotations

import torch
from torch import Tensor

ERROR_FLOOR = 1e-4
"""Mean square error, in [−1, 1] units, below which roots and logarithms hardly reward: 46 dB."""

_FAINTEST, _NOTHING, USUAL = 0.1, 0.3, 0.2
"""For `relative`: damage fainter than 0.1 root mean square counts as 0.1, none at all (nothing to remove) as 0.3; the
usual is 0.2."""

_NEEDLESS = 2.5
"""For `balanced`, whose gradients are longer: weight of what is taken away where nothing must."""

_HALF_A_LEVEL = 1 / 255
"""In [−1, 1]: damage below it does not change a pixel of an 8-bit file."""


def crop_losses(
    estimate: Tensor, y0: Tensor, sizes: Tensor, kind: str, usual: Tensor | None = None, untouched: Tensor | None = None
) -> Tensor:
    """The loss of each of N crops (see `DiffusionConfig.loss`).

    Parameters
    ----------
    estimate, y0
        N×3×H×W.
    sizes
        Root mean square of y₀ over the whole views, N.
    kind
        ``balanced``, ``relative``, ``psnr`` or ``mse``.
    usual
        For ``balanced``: the usual of `relative_errors`, N.
    untouched
        For ``balanced`` and ``relative``: `DiffusionConfig.untouched_weight` of each crop, N; None is 0.
    """
    error = square_errors(estimate, y0)
    if kind == "mse":
        return error
    if kind == "psnr":
        return (error + ERROR_FLOOR).log()
    needless = view_losses(error, sizes)  # what is taken away where nothing must
    if untouched is not None:
        error = error + untouched * _change_of_untouched(estimate, y0)
    relative = relative_errors(error, sizes)
    if usual is None:
        return torch.where(sizes > 0, relative / USUAL, needless)
    return torch.where(sizes > 0, relative / usual, _NEEDLESS * needless)


def relative_errors(error: Tensor, sizes: Tensor) -> Tensor:
    """Mean square errors of N crops over the root mean square of the damage in their views (`sizes`), N."""
    size = sizes.clamp(min=_FAINTEST)
    root = (error + ERROR_FLOOR).sqrt()
    # Huber's: an error larger than the damage itself pulls no harder the larger it is, or one crop ends a training.
    return torch.where(root < size, root.square(), size * (2 * root - size)) / size


def view_losses(error: Tensor, sizes: Tensor) -> Tensor:
    """What `relative` says of N whole views: root mean square error over the square root of the damage.

    The root, as the logarithm in PSNR, prefers a bold guess at haze that may be wrong to a timid one that is never
    right. Within a view it would make light of the few crops that hold most of the error.

    Parameters
    ----------
    error
        Mean square errors, N.
    sizes
        Root mean square of y₀, N.
    """
    size = torch.where(sizes > 0, sizes.clamp(min=_FAINTEST), _NOTHING)
    return (error + ERROR_FLOOR).sqrt() / (size * USUAL).sqrt()


def _change_of_untouched(estimate: Tensor, y0: Tensor) -> Tensor:
    """Mean absolute change of the pixels that the damage left alone, N; those with damage count as unchanged."""
    alone = y0.abs().amax(dim=1, keepdim=True) < _HALF_A_LEVEL
    return (estimate.abs() * alone).mean(dim=(1, 2, 3))


def square_errors(a: Tensor, b: Tensor) -> Tensor:
    """Mean square difference of each of N pictures, N."""
    return (a - b).square().mean(dim=(1, 2, 3))
