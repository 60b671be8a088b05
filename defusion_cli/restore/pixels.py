"""One photograph through the model, in overlapping tiles that leave no seams."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from defusion_cli.diffusion.pipeline import DefusionPipeline, make_thumbnail
from defusion_cli.images import Pixels
from defusion_cli.restore.memory import choose_batch, choose_tile
from defusion_cli.restore.tiling import Tile, batches, blend_weights, cut_tiles, draw_noise


def restore_pixels(
    pipeline: DefusionPipeline,
    pixels: Pixels,
    tokens: Tensor,
    steps: int = 1,
    seed: int = 0,
    tile: int | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> Pixels:
    """The photograph without the damage that the instruction shows.

    Parameters
    ----------
    pixels
        H×W×3 float32 in [0, 1], of any size from 1×1.
    tokens
        Instruction tokens, 1×K×D (`DefusionPipeline.encode_instruction`).
    steps
        Denoising steps, 1 … 1000.
    seed
        Decides y_T, together with the position of each pixel.
    tile
        Side of a tile in pixels, 128 or more; None chooses one for the free memory. Smaller pictures are done whole.
    on_progress
        Called with the finished share of the work, in (0, 1].

    Returns
    -------
    ndarray
        H×W×3 float32 in [0, 1]. The same arguments give the same pixels on the same kind of machine.
    """
    device, backbone = pipeline.device, type(pipeline.unet).__name__
    height, width = pixels.shape[:2]
    side = tile or choose_tile(backbone, device)
    tiles = cut_tiles(height, width, side)
    damage = np.zeros(pixels.shape, np.float32)
    finished = 0

    with torch.inference_mode():
        thumbnail = make_thumbnail(_to_tensor([pixels], device))
        for group in batches(tiles, choose_batch(backbone, device, side)):
            estimate = pipeline.damage(
                _to_tensor([pixels[t.window] for t in group], device),
                tokens.to(device),
                _to_tensor([draw_noise(t, seed) for t in group], device),
                steps,
                thumbnail.expand(len(group), -1, -1, -1),
                _share(on_progress, finished, len(group), steps, len(tiles)),
            )
            finished += len(group)
            _blend(damage, group, estimate.permute(0, 2, 3, 1).cpu().numpy())
    restored: Pixels = np.clip(pixels - damage, 0.0, 1.0, dtype=np.float32)
    return restored


def _share(
    on_progress: Callable[[float], None] | None, finished: int, group: int, steps: int, tiles: int
) -> Callable[[int], None] | None:
    """What `DefusionPipeline.damage` shall call after each step on a group of tiles, with `finished` before it."""
    if on_progress is None:
        return None
    return lambda step: on_progress((finished + group * step / steps) / tiles)


def _blend(damage: Pixels, group: list[Tile], estimate: NDArray[Any]) -> None:
    """Add the weighted estimates (N×h×w×3) of some tiles to the damage of the whole picture."""
    height, width = damage.shape[:2]
    for tile, part in zip(group, estimate, strict=True):
        damage[tile.window] += part * blend_weights(tile, height, width)


def _to_tensor(pictures: list[Pixels], device: torch.device) -> Tensor:
    """H×W×3 arrays of one size as N×3×H×W, channels last in memory, as they already are."""
    stacked = pictures[0][None] if len(pictures) == 1 else np.stack(pictures)
    return torch.from_numpy(np.ascontiguousarray(stacked)).permute(0, 3, 1, 2).to(device)
