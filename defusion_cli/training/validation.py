"""How good the averaged weights are, on a few photographs that are never trained on, under every degradation."""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from defusion_cli.canvas import Pixels
from defusion_cli.diffusion.pipeline import DefusionPipeline
from defusion_cli.images import read_pixels
from defusion_cli.plugins import apply_recipe, draw_recipe
from defusion_cli.plugins.compose import Plugins
from defusion_cli.training.bank import InstructionBank

VALIDATION_SEVERITY = 0.5
_LEAST_MSE = 1e-10


class Score(NamedTuple):
    """Mean RGB PSNR in dB of the damaged and of the restored pictures."""

    before: float
    after: float

    @property
    def gain(self) -> float:
        """What restoring gave, dB."""
        return self.after - self.before


class Validation:
    """A fixed set: the central squares of some photographs, each damaged by each degradation at severity 0.5."""

    def __init__(self, photos: Sequence[Path], ids: Sequence[str], plugins: Plugins, side_px: int = 256) -> None:
        self.ids, self.plugins = list(ids), plugins
        self.clean = [_central_square(read_pixels(path), side_px) for path in photos]

    def damaged(self, plugin_id: str, number: int) -> Pixels:
        """Picture `number` under a degradation; always the same."""
        rng = np.random.default_rng([zlib.crc32(plugin_id.encode()), number])
        return apply_recipe(
            self.clean[number], draw_recipe([plugin_id], self.plugins, rng, VALIDATION_SEVERITY), self.plugins
        )

    def run(self, pipeline: DefusionPipeline, bank: InstructionBank, picture: Path | None = None) -> dict[str, Score]:
        """One-step scores by degradation; `picture` receives rows of clean, damaged and restored."""
        scores, rows = {}, []
        for plugin_id in self.ids:
            before, after = [], []
            for number, clean in enumerate(self.clean):
                lq = self.damaged(plugin_id, number)
                tokens = bank.tokens([(plugin_id,)], [number])
                restored = _restore(pipeline, lq, tokens)
                before.append(psnr(lq, clean))
                after.append(psnr(restored, clean))
                if number == 0:
                    rows.append(np.concatenate([clean, lq, restored], axis=1))
            scores[plugin_id] = Score(float(np.mean(before)), float(np.mean(after)))
        if picture is not None and rows:
            _write_sheet(rows, picture)
        return scores


def psnr(a: Pixels, b: Pixels) -> float:
    """Peak signal-to-noise ratio of two pictures in [0, 1], RGB, dB; at most 100."""
    mse = float(np.mean((a.astype(np.float64) - b) ** 2))
    return float(-10 * np.log10(max(mse, _LEAST_MSE)))


def _restore(pipeline: DefusionPipeline, lq: Pixels, tokens: Tensor) -> Pixels:
    x = torch.from_numpy(np.ascontiguousarray(lq.transpose(2, 0, 1)))[None].to(pipeline.device)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).to(x.device)
    restored = (x - pipeline.damage(x, tokens.to(x.device), noise)).clamp(0, 1)
    return restored[0].permute(1, 2, 0).cpu().numpy()


def _central_square(pixels: Pixels, side: int) -> Pixels:
    height, width = pixels.shape[:2]
    top, left = max(0, (height - side) // 2), max(0, (width - side) // 2)
    return np.ascontiguousarray(pixels[top : top + side, left : left + side])


def _write_sheet(rows: Sequence[Pixels], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    width = max(row.shape[1] for row in rows)
    sheet = np.concatenate([np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows])
    ok, code = cv2.imencode(".jpg", cv2.cvtColor((sheet * 255).round().astype(np.uint8), cv2.COLOR_RGB2BGR))
    assert ok
    temporary = path.with_name("." + path.name)
    temporary.write_bytes(code.tobytes())
    os.replace(temporary, path)
