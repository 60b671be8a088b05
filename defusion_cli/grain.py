"""What the fine detail of a whole photograph says of its noise, its compression and its blur, in a few numbers.

A crop of 64 pixels shows too little flat ground to tell weak noise from texture, or white noise from grain that a
camera has smoothed, and each wants another filter. The whole photograph tells: non-blind denoisers are handed this
knowledge as a noise level map (FFDNet, Zhang et al., TIP 2018); here it is read from the picture, by statistics that
the literature on blind noise estimation and on blocking uses: variances of small blocks in the finest wavelet bands,
of which flat blocks show the noise (Donoho and Johnstone, 1994; Liu et al., TIP 2013), and the strength of steps at
each place of JPEG's grid (Wang et al., ICIP 2000). What it says of blur is in `defusion_cli.cepstrum`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from defusion_cli.canvas import CROP_PX, JPEG_BLOCK_PX, Photo, crop_corners, cut_crops
from defusion_cli.cepstrum import CEPSTRUM_FEATURES, describe_blur

_SCALES, _GRID_PX, _PLANES, _BANDS = 3, 2 * JPEG_BLOCK_PX, 3, 3
_FLOOR = 1e-6
"""Variance of what rounding to 8 bits adds, about: less is not seen."""
_STEP = 1e-3

FINE_FEATURES = _SCALES * _PLANES * _BANDS * 3 + 2 * _PLANES + 2 * 2 * _GRID_PX
"""Length of the first part of the vector, which tells of noise and compression."""
GRAIN_FEATURES = FINE_FEATURES + CEPSTRUM_FEATURES
"""Length of the vector."""


def read_grain(photos: Tensor) -> Tensor:
    """`describe_grain` of N whole photographs, N×3×H×W in [0, 1]: N×F."""
    return torch.stack([describe_grain(grain_crops(photo[None])) for photo in photos])


def extended(x: Tensor, bottom: int, right: int) -> Tensor:
    """N×C×H×W with so many rows and columns more: its own mirror image where it is large enough, else its border."""
    if not bottom and not right:
        return x
    mode = "reflect" if bottom < x.shape[2] and right < x.shape[3] else "replicate"
    return F.pad(x, (0, right, 0, bottom), mode=mode)


def grain_crops(photo: Tensor) -> Tensor:
    """What `describe_grain` is shown of a photograph, 1×3×H×W: K×3×128×128."""
    photo = extended(photo, *(max(0, CROP_PX - side) for side in photo.shape[2:]))
    return torch.cat([photo[:, :, t : t + CROP_PX, x : x + CROP_PX] for t, x in crop_corners(*photo.shape[2:])])


def grain_of(photo: Photo) -> Tensor:
    """`read_grain` of one photograph of any size, 1×F; only what is needed of it is read."""
    return describe_grain(torch.from_numpy(cut_crops(photo)).permute(0, 3, 1, 2))[None]


def describe_grain(crops: Tensor) -> Tensor:
    """The vector (F,) of a photograph.

    Parameters
    ----------
    crops
        Parts of it in its own resolution, K×3×128×128 in [0, 1], their corners at multiples of 8 pixels.
    """
    planes = torch.cat([crops.mean(1, keepdim=True), crops[:, :1] - crops[:, 1:2], crops[:, 2:] - crops[:, 1:2]], dim=1)
    parts, brightness = [], F.avg_pool2d(planes[:, :1], JPEG_BLOCK_PX).clamp(0, 1)
    for scale in range(_SCALES):
        across, down, diagonal = _finest_bands(planes)
        blocks = F.avg_pool2d(torch.cat([across, down, diagonal], dim=1).square(), JPEG_BLOCK_PX) + _FLOOR
        # Geometric, arithmetic and harmonic mean: the last belongs to the flattest blocks.
        parts += [_mean(blocks.log()), _mean(blocks).log(), -_mean(1 / blocks).log()]
        if scale == 0:
            quiet = 1 / blocks[:, -_PLANES:]  # does it grow with the light, as that of photons does?
            for weight in (brightness, 1 - brightness):
                parts.append(-((_mean(weight * quiet) + _STEP) / (_mean(weight) + _STEP)).log())
            steps = [_step_sizes(across.abs(), 3), _step_sizes(down.abs(), 2)]
        planes = F.avg_pool2d(planes, 2)
    return torch.cat([(torch.cat(parts) + 9) / 3, *steps, describe_blur(crops)])


def _finest_bands(planes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Differences to the right, downwards and diagonal, of the deviation of white noise, K×C×h×w each."""
    planes = F.pad(planes, (0, 1, 0, 1), mode="replicate")
    here, right = planes[:, :, :-1, :-1], planes[:, :, :-1, 1:]
    below, far = planes[:, :, 1:, :-1], planes[:, :, 1:, 1:]
    return (right - here) * 0.5**0.5, (below - here) * 0.5**0.5, (here - right - below + far) / 2


def _mean(maps: Tensor) -> Tensor:
    """Of each channel of K×C×h×w, C."""
    return maps.mean(dim=(0, 2, 3))


def _step_sizes(steps: Tensor, axis: int) -> Tensor:
    """Mean step at each place of a 16 pixel grid, as a logarithm against the mean of all; brightness, then colour."""
    sizes = steps.transpose(2, axis).unflatten(2, (-1, _GRID_PX)).mean(dim=(0, 2, 4))  # C×16
    sizes = torch.cat([sizes[:1], sizes[1:].mean(0, keepdim=True)]) + _STEP
    return 2 * (sizes / sizes.mean(1, keepdim=True)).log().flatten()
