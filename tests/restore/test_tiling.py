"""Tiles cover the picture once, and noise belongs to places."""

from __future__ import annotations

import numpy as np
import pytest

from defusion_cli.restore.tiling import GRID_PX, Tile, batches, blend_weights, cut_tiles, draw_noise


@pytest.mark.parametrize(
    "size", [(1, 1), (1, 700), (127, 129), (128, 193), (192, 192), (193, 500), (640, 449), (700, 1300)]
)
@pytest.mark.parametrize("tile_px", [128, 200, 256, 512])
def test_weights_of_all_tiles_add_up_to_one(size: tuple[int, int], tile_px: int) -> None:
    total = np.zeros((*size, 1), np.float32)
    tiles = cut_tiles(*size, tile_px)
    for tile in tiles:
        assert tile.height <= tile_px and tile.width <= tile_px
        assert tile.top % GRID_PX == 0 and tile.left % GRID_PX == 0
        weights = blend_weights(tile, *size)
        assert weights.min() >= 0
        total[tile.window] += weights
    np.testing.assert_allclose(total, 1, atol=1e-6)


def test_tiles_share_the_length_evenly() -> None:
    assert {tile.width for tile in cut_tiles(100, 1088, 1024)} == {640, 576}
    assert {tile.width for tile in cut_tiles(100, 448, 256)} == {256}


def test_a_picture_that_fits_is_one_tile() -> None:
    assert cut_tiles(1024, 768, 1024) == [Tile(0, 0, 1024, 768)]


def test_too_small_tiles_are_refused() -> None:
    with pytest.raises(ValueError, match="128"):
        cut_tiles(500, 500, 64)


def test_noise_belongs_to_the_place() -> None:
    whole = draw_noise(Tile(0, 0, 200, 333), seed=3)
    for tile in (Tile(64, 128, 100, 205), Tile(37, 11, 90, 64), Tile(199, 332, 1, 1)):
        np.testing.assert_array_equal(draw_noise(tile, seed=3), whole[tile.window])
    assert not np.array_equal(draw_noise(Tile(0, 0, 200, 333), seed=4), whole)


def test_noise_is_unit_normal() -> None:
    noise = draw_noise(Tile(0, 0, 512, 512), seed=0)
    assert abs(float(noise.mean())) < 5 / noise.size**0.5
    assert float(noise.std()) == pytest.approx(1, abs=0.005)
    # Neighbouring blocks are not copies of one another.
    assert abs(np.corrcoef(noise[:64, :64].ravel(), noise[:64, 64:128].ravel())[0, 1]) < 0.03


def test_batches_have_one_shape_and_lose_no_tile() -> None:
    tiles = cut_tiles(500, 900, 256)
    groups = list(batches(tiles, 4))
    assert sorted(t.top * 10_000 + t.left for g in groups for t in g) == sorted(t.top * 10_000 + t.left for t in tiles)
    assert all(len(g) <= 4 and len({(t.height, t.width) for t in g}) == 1 for g in groups)
