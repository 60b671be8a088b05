"""What the benchmarks of training are made of still fits the trainer; `make bench` gives the figures."""

from __future__ import annotations

from pathlib import Path

from bench_training import PHOTOS, batches, kept_seconds, preset, table, upkeep
from bench_training import start as start_training

ROOT = Path(__file__).parents[2]


def test_a_step_on_a_batch_of_the_default_preset_can_be_taken_apart():
    photos = ROOT / PHOTOS
    batch = next(batches(photos, 1))
    assert len(batch.lq) == preset().phases[0].batch and all(len(shown) <= 1 for shown in batch.shown)
    parts = upkeep(start_training(photos), batch, 1)
    assert all(seconds > 0 for seconds in parts.values())
    figures = {"step_seconds": 2.0, "convolution_gflop": 100.0, "convolution_seconds_alone": 1.5}
    figures["convolution_seconds_at_once"] = 1.2
    views = {"crops": 32, "crop_px": 64, "views_a_step": 16, "view_seconds": 0.01}
    result = {**figures, **views, "upkeep_seconds": parts}
    assert f"{kept_seconds(result) / 2:.1%}" in table(result) and "75%" in table(result)
