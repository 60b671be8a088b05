"""Scoring pair after pair: what is in memory at a time."""

from __future__ import annotations

import tracemalloc

import numpy as np

from defusion_cli.images import write_image
from defusion_cli.scoring.metrics import find_metrics
from defusion_cli.scoring.pairs import Pair, Pairs
from defusion_cli.scoring.protocols import GENERAL
from defusion_cli.scoring.rows import Row, Rows
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
    # One picture kept of each of the 54 more pairs would be 54; threads that happen to meet make some 10 of difference.
    assert many - few < 27 * one_picture


def test_what_is_kept_of_a_pair_is_small(tmp_path):
    pairs = Pairs(tmp_path / "out", tmp_path / "ref", tmp_path / "in")
    for index in range(5000):
        pairs.add(f"{index:05}.png", f"{index:05}.png", f"{index:05}.png")
    tracemalloc.start()
    rows = Rows(pairs)
    for index, pair in enumerate(pairs):
        rows.add(Row(pair, {"psnr": index, "ssim": 0.5}, {"psnr": -index, "ssim": 0.25}, None, ("8-bit",)))
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert kept / len(rows) < 100
    row = rows[4321]
    assert (row.pair.baseline, row.notes) == (tmp_path / "in" / "04321.png", ("8-bit",))
    assert (row.scores, row.baseline) == ({"psnr": 4321, "ssim": 0.5}, {"psnr": -4321, "ssim": 0.25})
    assert [each.scores["psnr"] for each in rows[-2:]] == [4998, 4999]


def test_a_pair_that_fails_leaves_no_picture_in_memory(tmp_path, rng):
    write_image(tmp_path / "small.png", rng.random((256, 250, 3), dtype=np.float32))
    write_image(tmp_path / "large.png", rng.random((256, 256, 3), dtype=np.float32))
    pairs = [Pair(f"{index}.png", tmp_path / "small.png", tmp_path / "large.png") for index in range(20)]
    metrics = find_metrics("psnr", GENERAL["rgb"], reference=True)
    tracemalloc.start()
    rows = score_pairs(pairs, metrics, GENERAL["rgb"], "cpu", lambda row: None)
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert all(row.problem is not None and "different sizes" in row.problem.failed for row in rows)
    assert kept < 256 * 256 * 3 * 4  # one picture of forty
