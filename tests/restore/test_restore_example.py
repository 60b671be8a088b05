"""Squares of an example pair."""

import numpy as np
import pytest

from defusion_cli.errors import DataError
from defusion_cli.ground.instruction import INSTRUCTION_PX
from defusion_cli.restore.example import example_residuals


@pytest.mark.parametrize(
    ("size", "count"),
    [((1, 1), 1), ((100, 500), 3), ((230, 300), 1), ((301, 640), 3), ((700, 900), 9)],
)
def test_an_example_of_any_size_becomes_an_instruction(size: tuple[int, int], count: int) -> None:
    rng = np.random.default_rng(0)
    after = rng.uniform(0, 0.5, (*size, 3)).astype(np.float32)
    before = after + rng.uniform(0.1, 0.4, after.shape).astype(np.float32)
    residuals = example_residuals(before, after)
    assert residuals.shape == (count, INSTRUCTION_PX, INSTRUCTION_PX, 3) and residuals.dtype == np.float32
    # Cut or mirrored, never resized: every value is one of the difference.
    assert np.isin(residuals, before - after).all()


def test_the_squares_are_where_the_damage_is_on_the_grid_of_jpeg() -> None:
    after = np.zeros((1300, 1000, 3), np.float32)
    before = after.copy()
    before[203, 500] = 0.5
    before[1100:1150, 30:80] = 0.25
    residuals = example_residuals(before, after)
    assert len(residuals) == 2
    (row, column), *more = np.argwhere(residuals[0].any(axis=2))
    assert not more and (203 - row) % 8 == 0 and (500 - column) % 8 == 0
    assert np.count_nonzero(residuals[1].any(axis=2)) == 50 * 50


def test_no_part_of_a_picture_of_even_damage_is_left_out() -> None:
    after = np.zeros((672, 672, 3), np.float32)
    before = after + np.arange(9, dtype=np.float32).reshape(3, 3).repeat(224, 0).repeat(224, 1)[..., None] / 10 + 0.1
    shades = {round(float(square.max()), 1) for square in example_residuals(before, after)}
    assert len(shades) >= 4 and max(shades) == pytest.approx(0.9)


def test_examples_that_show_nothing_are_refused() -> None:
    picture = np.full((30, 40, 3), 0.5, np.float32)
    with pytest.raises(DataError, match="no difference"):
        example_residuals(picture, picture)
    with pytest.raises(DataError, match="differ in size") as caught:
        example_residuals(picture, picture[:20])
    assert "40×30 and 40×20" in str(caught.value)
