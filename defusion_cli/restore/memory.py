"""How large a tile may be: what the network needs for each pixel, and what the device has."""

from __future__ import annotations

from pathlib import Path

import torch

from defusion_cli.canvas import LARGE_PX
from defusion_cli.restore.tiling import MIN_TILE_PX

TILE_SIDES_PX = (1024, 768, 512, 384, 256, MIN_TILE_PX)
"""Sides that are chosen from. Few of them, so that a little more or less free memory does not change the result; none
larger, because the time and the peak memory of attention and activations should not grow with the photograph."""

BYTES_PER_PIXEL = {"DegradationUNet": 500, "UNet2DConditionModel": 6_000}
"""Peak memory of one pass for each pixel of the tile, by class of the backbone, with a reserve.

Measured as growth of the resident set, bfloat16 on a CPU: 342 bytes for the default widths at 512 px and 259 at
1024 px; 4,562 for a ``UNet2DConditionModel`` of widths 128, 128, 256, 256, 512 at 256 px.
"""

_SHARE = 0.5
"""Part of the free memory that a tile may take; the photograph itself and other programs live in the rest."""

_LARGE_SIDE_PX = 512
_UNKNOWN_FREE = 2 * 2**30


def choose_tile(backbone: str, device: torch.device, picture_px: int = 0) -> int:
    """The largest of `TILE_SIDES_PX` for which the free memory suffices; the smallest if none does.

    For a picture of very many pixels at most 512: a row of tiles across it is in memory as floating-point numbers.
    """
    affordable = free_memory(device) * _SHARE / BYTES_PER_PIXEL[backbone]
    if picture_px > LARGE_PX:
        affordable = min(affordable, _LARGE_SIDE_PX**2)
    return next((side for side in TILE_SIDES_PX if side * side <= affordable), TILE_SIDES_PX[-1])


def smaller_tile(side_px: int) -> int | None:
    """The next smaller one of `TILE_SIDES_PX`; None if there is none."""
    return next((side for side in TILE_SIDES_PX if side < side_px), None)


def choose_batch(backbone: str, device: torch.device, tile_px: int) -> int:
    """Tiles per batch: as many as fit on a GPU, where they keep it busy; one on a CPU, which is busy with one."""
    if device.type != "cuda":
        return 1
    affordable = free_memory(device) * _SHARE / BYTES_PER_PIXEL[backbone]
    return max(1, min(16, int(affordable / tile_px**2)))


def free_memory(device: torch.device) -> int:
    """Bytes that can still be taken on the device, or 2 GiB where nobody tells."""
    if device.type == "cuda":  # what torch keeps for itself is free, too: equal pictures are to have equal tiles
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    return min([_UNKNOWN_FREE] if not (known := [*_system_free(), *_group_free()]) else known)


def _system_free() -> list[int]:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    except (OSError, ValueError, IndexError):
        return []


def _group_free() -> list[int]:
    """What a container leaves us (cgroup v2)."""
    try:
        folder = Path("/sys/fs/cgroup")
        limit = (folder / "memory.max").read_text(encoding="ascii").strip()
        used = int((folder / "memory.current").read_text(encoding="ascii"))
        return [] if limit == "max" else [max(0, int(limit) - used)]
    except (OSError, ValueError):
        return []
