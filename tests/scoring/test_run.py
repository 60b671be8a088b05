"""Scoring pair after pair: what is in memory at a time."""

from __future__ import annotations

import tracemalloc

import numpy as np

from defusion_cli.images import write_image
from defusion_cli.scoring.metrics import find_metrics
from defusion_cli.scoring.pairs import Pair
from defusion_cli.scoring.protocols import GENERAL
from defusion_cli.scoring.run import score_pairs


def test_memory_does_not_grow_with_the_number_of_pictures(tmp_path, rng):
    side = 256
    write_image(tmp_path / "a.png", rng.random((side, side, 3), dtype=np.float32))
    write_image(tmp_path / "b.png", rng.random((side, side, 3), dtype=np.float32))
    metrics = find_metrics("psnr,ssim,mae", GENERAL["rgb"], reference=True)

    def peak(count: int) -> int:
        pairs = [Pair(f"{index}.png", tmp_path / "a.png", tmp_path / "b.png") for index in range(count)]
        tracemalloc.start()
        rows = score_pairs(pairs, metrics, GENERAL["rgb"], "cpu", lambda row: None)
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(rows) == count and all(row.problem is None for row in rows)
        return highest

    peak(2)  # imports
    one_picture = side * side * 3 * 4
    few, many = peak(6), peak(60)
    assert few > 4 * one_picture
    # 54 more pairs; two pictures each would be 108.
    assert many - few < 12 * one_picture
